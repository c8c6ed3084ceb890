"""Open the web page of one run of the command `emotion-runtime`."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from emotion_runtime.config import RunConfig
from emotion_runtime.errors import EmotionError
from emotion_runtime.options import PROGRAM
from emotion_runtime.rounds import Rounds
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.sinks.base import Sink
from emotion_runtime.sources import Address, LiveLimits, open_source
from emotion_runtime.types import RunLine

if TYPE_CHECKING:
    from emotion_runtime.web.sign import Sign


def open_page(
    config: RunConfig,
    addresses: Sequence[Address],
    runtime: EmotionRuntime,
    rounds: Rounds,
    run_line: RunLine,
) -> Sink:
    """Start the server of a run, and print the address of its page.

    Args:
        config: The options of the run.
        addresses: Its sources.
        runtime: Analyses images that clients send.
        rounds: Pauses and adds cameras.
        run_line: What makes the events.

    Raises:
        EmotionError: The packages for it are not installed, or the address cannot be used.
    """
    try:
        from emotion_runtime.web.opening import ServedRun, WebOptions, open_web  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise EmotionError(
            f"--serve needs packages that are not installed ({error.name}); run: "
            "pip install 'emotion-runtime[web]'"
        ) from error

    def add(address: Address) -> None:
        limits = LiveLimits(silence=config.lost_after, frozen=config.frozen_after)
        source = open_source(address, limits=limits)
        try:
            rounds.add(source)
        except BaseException:
            source.close()
            raise

    options = WebOptions(
        place=config.serve or "",
        token_file=config.token_file,
        names=config.serve_name,
        allow_adding=config.serve_cameras,
        sign=_sign(config, addresses),
    )
    served = ServedRun(
        run=run_line,
        labels=runtime.labels,
        look=runtime.look,
        control=rounds,
        add=add,
        stage_seconds=lambda: runtime.timer.seconds,
    )
    sink, line = open_web(options, served)
    sys.stderr.write(f"{PROGRAM}: {line}\n")
    return sink


def _sign(config: RunConfig, addresses: Sequence[Address]) -> "Sign":
    from emotion_runtime.web.sign import Sign  # noqa: PLC0415 - keeps runs without a page fast

    stored = "No images. "
    if config.record:
        stored = "Video of the cameras, in files of the operator. "
    numbers = config.jsonl or config.embeddings
    stored += "Numbers about the people who were seen." if numbers else "No numbers about single people."
    return Sign(
        who=config.notice_who or "",
        why=config.notice_why or "",
        kept=config.notice_kept or "",
        contact=config.notice_contact or "",
        cameras=tuple(address.name for address in addresses if address.live),
        stored=stored,
    )
