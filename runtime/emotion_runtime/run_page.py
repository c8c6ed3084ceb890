"""Open the web page of one run of the command `emotion-runtime`."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from emotion_runtime.config import RunConfig
from emotion_runtime.errors import EmotionError
from emotion_runtime.options import PROGRAM
from emotion_runtime.privacy.published import Publisher
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
        from emotion_runtime.web.state import WebContent  # noqa: PLC0415 - as above
    except ImportError as error:
        raise EmotionError(
            f"--serve needs packages that are not installed ({error.name}); run "
            "pip install '.[web]' in a checkout of emotion-runtime"
        ) from error

    publisher = Publisher(ids=not config.no_ids, least=config.aggregate)
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
        look=lambda image: publisher.persons(runtime.look(image)),
        control=rounds,
        add=lambda address: _add(address, config, rounds),
        stage_seconds=lambda: runtime.timer.seconds,
        content=WebContent(
            ids=not config.no_ids,
            least=config.aggregate,
            # An image that shows faces would be about single people.
            images=config.aggregate is None or config.blur != "none",
        ),
        addresses=addresses,
    )
    sink, line = open_web(options, served)
    sys.stderr.write(f"{PROGRAM}: {line}\n")
    return sink


def _add(address: Address, config: RunConfig, rounds: Rounds) -> None:
    """Open a camera that a client adds."""
    limits = LiveLimits(silence=config.lost_after, frozen=config.frozen_after)
    source = open_source(address, limits=limits)
    try:
        rounds.add(source)
    except BaseException:
        source.close()
        raise


def _sign(config: RunConfig, addresses: Sequence[Address]) -> "Sign":
    from emotion_runtime.web.sign import Sign  # noqa: PLC0415 - keeps runs without a page fast

    return Sign(
        who=config.notice_who or "",
        why=config.notice_why or "",
        kept=config.notice_kept or "",
        contact=config.notice_contact or "",
        cameras=tuple(address.name for address in addresses if address.live),
        stored=_stored(config),
    )


def _stored(config: RunConfig) -> str:
    """Return in words what a run keeps, and what it sends to others."""
    images = "No images are stored."
    if config.record:
        hidden = f" in which {config.blur} that are detected are hidden" if config.blur != "none" else ""
        images = f"Images are recorded{hidden}."
    numbers = "No numbers about people are stored."
    if config.embeddings or config.csv or config.report or (config.jsonl and config.aggregate is None):
        numbers = "Numbers about each person who was seen are stored."
    elif config.jsonl:
        numbers = f"Only counts over at least {config.aggregate} people are stored."
    sent = " Results are sent to a message broker (MQTT)." if config.mqtt else ""
    return f"{images} {numbers}{sent}"
