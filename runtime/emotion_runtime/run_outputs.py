"""Open the outputs of one run of the command `emotion-runtime`."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from emotion_runtime.config import RunConfig
from emotion_runtime.output_options import LIVE_SEGMENT
from emotion_runtime.rounds import Rounds
from emotion_runtime.run_sources import names_of_frames
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.sinks import open_sinks
from emotion_runtime.sinks.base import Outputs, Sink
from emotion_runtime.sinks.jsonl_folder import is_jsonl_folder
from emotion_runtime.sinks.mqtt_options import EVERY, MqttOptions
from emotion_runtime.sources import Address, is_many
from emotion_runtime.stop_signals import StopRequest

_log = logging.getLogger(__name__)


def run_options(config: RunConfig, addresses: Sequence[Address]) -> dict[str, Any]:
    """Return the options of the run line, with those that depend on the machine's speed."""
    live = config.realtime or any(address.live for address in addresses)
    timed = {"detect_every": config.detect_every} if live else {}
    return timed | config.changed


def outputs_of(
    config: RunConfig,
    addresses: Sequence[Address],
    runtime: EmotionRuntime,
    stop: StopRequest,
    rounds: Rounds,
) -> Outputs:
    """Return what a run writes. Files of live sources go on where an earlier run ended.

    Args:
        config: The options of the run.
        addresses: Its sources.
        runtime: Makes the events.
        stop: Ends the run.
        rounds: Pauses cameras.

    Raises:
        EmotionError: A password is missing.
    """
    live = any(address.live for address in addresses)
    return Outputs(
        jsonl=config.jsonl,
        csv=config.csv,
        report=config.report,
        labels=tuple(runtime.labels),
        rotation=config.rotation,
        frames=config.aggregate is None,
        on_change=config.on_change,
        record=config.record,
        record_segment=config.record_segment or (LIVE_SEGMENT if live else None),
        sound=config.blur == "none",
        show=_wants_window(config, live=live),
        append=config.append or (live and not config.overwrite),
        wall_clock=config.wall_clock,
        sources={name: file for address in addresses for name, file in names_of_frames(address).items()},
        windows=len(addresses),
        run=runtime.run_line(run_options(config, addresses)),
        embeddings=config.embeddings,
        features=runtime.keep_features() if config.embeddings else None,
        mqtt=_mqtt(config, runtime, rounds),
        stopped=stop.stopped,
    )


def warn_without_effect(config: RunConfig, addresses: Sequence[Address], outputs: Outputs) -> None:
    """Log a warning for each option that changes nothing in a run.

    Args:
        config: The options of the run.
        addresses: Its sources.
        outputs: What it writes and shows.
    """
    live = config.serve_cameras or any(address.live for address in addresses)
    each = is_jsonl_folder(config.jsonl)  # the files of a folder are opened one by one
    files = any(address.kind == "file" and (each or not is_many(address.uri)) for address in addresses)
    images = outputs.record or outputs.show or config.serve
    written = any((outputs.jsonl, outputs.csv, outputs.report, outputs.record, outputs.embeddings))
    defaults = RunConfig()
    for flag, effective, need in (
        ("follow", files, "a video file that another program still writes, and no source is one"),
        ("realtime", not all(address.live for address in addresses), "files, and all sources are cameras"),
        ("lost_after", live, "cameras and streams, and no source is one"),
        ("frozen_after", live, "cameras and streams, and no source is one"),
        ("blur", images, "images that leave: --record, --show, --serve"),
        ("wall_clock", outputs.jsonl or outputs.csv, "lines of --jsonl and --csv"),
        ("append", written, "files that are written"),
        ("overwrite", written, "files that are written"),
    ):
        if getattr(config, flag) != getattr(defaults, flag) and not effective:
            _log.warning("--%s has no effect: it is about %s", flag.replace("_", "-"), need)


def _mqtt(config: RunConfig, runtime: EmotionRuntime, rounds: Rounds) -> MqttOptions | None:
    address = config.broker
    if address is None:
        return None
    return MqttOptions(
        address=address,
        ca=config.mqtt_ca,
        every=config.mqtt_every or EVERY,
        discovery=config.mqtt_discovery is not False,
        frames=config.aggregate is None,
        labels=tuple(runtime.labels),
        pause=lambda name, paused: (rounds.pause if paused else rounds.resume)(name),
        names=rounds.names,
    )


def open_outputs(
    outputs: Outputs,
    config: RunConfig,
    addresses: Sequence[Address],
    runtime: EmotionRuntime,
    rounds: Rounds,
) -> Iterator[Sink]:
    """Open the outputs of a run one after the other, and its page at last."""
    yield from open_sinks(outputs)
    if config.serve is not None:
        from emotion_runtime.run_page import open_page  # noqa: PLC0415 - keeps runs without a page fast

        run_line = runtime.run_line(run_options(config, addresses))
        yield open_page(config, addresses, runtime, rounds, run_line)


def _wants_window(config: RunConfig, *, live: bool) -> bool:
    """Return whether a window is requested, or a camera is used on a machine with a display."""
    if config.show is not None:
        return config.show
    if not live:
        return False
    from emotion_runtime.sinks.window import display_problem  # noqa: PLC0415 - keeps runs without one fast

    if config.aggregate is not None and config.blur == "none":
        problem: str | None = "with --aggregate, images are shown only together with --blur"
    else:
        problem = display_problem()
    if problem is not None:
        _log.info("no window is shown: %s", problem)
    return problem is None
