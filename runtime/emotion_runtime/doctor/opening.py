"""Check sources: open each of them, and report what it delivers, or why it does not."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from emotion_runtime.doctor.findings import FAIL, OK, WARN, Finding
from emotion_runtime.errors import EmotionError

_OPENING = 20.0  # seconds for a source to deliver its first image
_WATCHED = 2.0  # seconds after it in which frames are counted
_SLOW = 1.5  # seconds of latency from which on there is a warning


@dataclass(slots=True)
class _Observed:
    """What a source delivered so far.

    Attributes:
        size: Width and height of the first image, in pixels.
        codec: Name of the codec; "" if it is not known.
        opening: Seconds until the first image.
        times: When each image was captured, in seconds.
        ages: Seconds between capture and arrival of each image.
        rate: Frames per second that the source states. None: they are counted.
        error: Why it failed.
        over: It was watched for long enough, or it ended.
    """

    size: tuple[int, int] | None = None
    codec: str = ""
    opening: float = 0.0
    times: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    rate: float | None = None
    error: str = ""
    over: threading.Event = field(default_factory=threading.Event)


def sources(texts: Sequence[str | int]) -> Iterator[Finding]:
    """Open all sources at the same time, and report on each of them within `_OPENING` and a few seconds.

    Neither addresses nor passwords are reported. A library that hangs is left behind.

    Args:
        texts: The sources, see `open_source`.

    Raises:
        EmotionError: One of them has a mistake, or two have the same name.
    """
    if not texts:
        return
    from emotion_runtime.sources import Address, parse_sources  # noqa: PLC0415 - loads OpenCV

    cancel = threading.Event()
    watched: list[tuple[Address, _Observed]] = []
    for address in parse_sources(texts):
        one = _Observed()
        watched.append((address, one))
        observe = _live if address.live else _file
        thread = threading.Thread(target=_guarded, args=(observe, address, one, cancel), daemon=True)
        thread.start()
    deadline = time.monotonic() + _OPENING + _WATCHED
    for address, one in watched:
        one.over.wait(max(0.0, deadline - time.monotonic()))
        yield _finding(address.name, one)
    cancel.set()


def _guarded(
    observe: Callable[[Any, _Observed, threading.Event], None],
    address: Any,
    one: _Observed,
    cancel: threading.Event,
) -> None:
    try:
        observe(address, one, cancel)
    except EmotionError as error:
        one.error = str(error)
    except Exception as error:  # noqa: BLE001 - one source must not hide what the others are like
        one.error = f"it failed: {type(error).__name__}"  # the message may hold the address
    finally:
        one.over.set()


def _live(address: Any, one: _Observed, cancel: threading.Event) -> None:
    from emotion_runtime.sources import connect_live  # noqa: PLC0415 - loads OpenCV
    from emotion_runtime.sources.live_limits import LiveLimits  # noqa: PLC0415

    started = time.monotonic()
    with closing(connect_live(address, LiveLimits())(cancel)) as shots:
        for shot in shots:
            now = time.monotonic()
            if one.size is None:
                one.opening, one.codec = now - started, shot.codec
                one.size = shot.image.shape[1], shot.image.shape[0]
            one.times.append(shot.captured)
            one.ages.append(now - shot.captured)
            if now - started - one.opening > _WATCHED:
                return


def _file(address: Any, one: _Observed, cancel: threading.Event) -> None:
    from emotion_runtime.sources import open_source  # noqa: PLC0415 - loads OpenCV
    from emotion_runtime.sources.length import video_format  # noqa: PLC0415

    if address.uri == "-":
        one.error = "-"
        return
    started = time.monotonic()
    with open_source(address, stop=cancel) as source:
        for frame in source:
            one.opening = time.monotonic() - started
            one.size = frame.image.shape[1], frame.image.shape[0]
            break
    one.codec, one.rate = video_format(address.uri)


def _finding(name: str, one: _Observed) -> Finding:
    """Return what was found about a source."""
    details: dict[str, Any] = {"name": name}
    if one.error == "-":
        return Finding("source", OK, f"{name}: standard input, which is not read here", None, details)
    if one.error:
        return Finding("source", FAIL, f"{name}: {one.error}", None, details)
    if one.size is None:
        text = f"no image within {_OPENING:g} s; check that it is switched on and sends video"
        if one.over.is_set():
            text = "it ended without an image; check its content"
        return Finding("source", FAIL, f"{name}: {text}", None, details)
    width, height = one.size
    times = list(one.times)  # the thread may go on
    rate = one.rate
    if rate is None and len(times) > 2 and times[-1] > times[0]:
        rate = (len(times) - 1) / (times[-1] - times[0])
    details |= {"width": width, "height": height, "fps": None if rate is None else round(rate, 2)}
    details |= {"codec": one.codec or None, "opening_s": round(one.opening, 2), "latency_ms": None}
    texts = [f"{width}x{height}", f"{rate:.1f} fps" if rate else "rate unknown"]
    texts += [one.codec] if one.codec else []
    texts.append(f"first image after {one.opening:.1f} s")
    if not one.ages:
        return Finding("source", OK, f"{name}: {', '.join(texts)}", None, details)
    latency = statistics.median(list(one.ages))
    details["latency_ms"] = round(1000 * latency)
    texts.append(f"latency {1000 * latency:.0f} ms")
    text = f"{name}: {', '.join(texts)}"
    if latency > _SLOW:
        return Finding("source", WARN, f"{text}: images come late; choose a lower resolution", None, details)
    return Finding("source", OK, text, None, details)
