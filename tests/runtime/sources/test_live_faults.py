"""Live sources whose libraries fail or hang: the source goes on, holds its deadlines, and says why."""

import threading
import time
from collections.abc import Generator

import pytest
from live_connections import QUICK, in_turn, refused, shot, statuses, steady, take, wait_for

from emotion_runtime.errors import ConnectionLost, EmotionError
from emotion_runtime.sources.live import LiveSource
from emotion_runtime.sources.live_limits import LiveLimits
from emotion_runtime.sources.shots import Connect, Shot


@pytest.fixture
def hanging() -> Generator[threading.Event, None, None]:
    """Return an event for which a library that hangs waits; it is set after the test."""
    event = threading.Event()
    yield event
    event.set()
    wait_for(lambda: not any(thread.name.startswith("capture") for thread in threading.enumerate()))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("rtsp://joe:secret@cam/1"), "ValueError while reading it"),
        (OSError(5, "Input/output error", "rtsp://joe:secret@cam/1"), "Input/output error; check"),
        (ConnectionLost("cannot open rtsp://joe:secret@cam/1; check it", "format"), "cannot open (address)"),
        (EmotionError("unplugged"), "unplugged"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_any_error_is_a_loss_that_repeats_no_password(
    error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    def connect(_: threading.Event) -> Generator[Shot, None, None]:
        raise error
        yield

    with LiveSource("door", in_turn(connect, steady), QUICK) as source:
        take(source, 1)
        lines = statuses(source)
    assert reason in str(lines[1][1])
    assert "secret" not in str(lines) + caplog.text + repr(source)


def test_garbage_instead_of_images_is_a_loss() -> None:
    def garbage(_: threading.Event) -> Generator[Shot, None, None]:
        yield "no image"  # type: ignore[misc]

    with LiveSource("door", in_turn(garbage, lambda _: None, steady), QUICK) as source:  # type: ignore[arg-type, return-value]
        take(source, 2)
        assert [status for status, _ in statuses(source)][-1] == "live"


def test_opening_that_hangs_is_left_behind_and_its_late_images_count_for_nothing(
    hanging: threading.Event,
) -> None:
    late = threading.Event()

    def hangs(_: threading.Event) -> Generator[Shot, None, None]:
        hanging.wait()
        try:
            yield shot(size=(99, 99))
        finally:
            late.set()

    with LiveSource("door", in_turn(hangs, steady), QUICK) as source:
        take(source, 3)
        reason = statuses(source)[1][1]
        hanging.set()
        assert late.wait(5)
        assert all(frame.image.shape == (4, 6, 3) for frame in take(source, 20))
    assert "no image 0.3 s after opening" in str(reason)


def test_reading_that_hangs_is_left_behind(hanging: threading.Event) -> None:
    def hangs(_: threading.Event) -> Generator[Shot, None, None]:
        yield shot()
        hanging.wait()

    with LiveSource("door", in_turn(hangs, steady), QUICK) as source:
        start = time.monotonic()
        take(source, 3)
        assert time.monotonic() - start < 2
        assert statuses(source)[2] == (
            "lost",
            "no image for 0.2 s; check its power, its cable and its network",
        )


def test_closing_that_hangs_is_left_behind(hanging: threading.Event) -> None:
    def hangs(_: threading.Event) -> Generator[Shot, None, None]:
        try:
            yield shot()
            raise ConnectionLost("gone", "connection")
        finally:
            hanging.wait()

    with LiveSource("door", in_turn(hangs, steady), QUICK) as source:
        take(source, 5)


def test_number_of_threads_left_behind_is_bounded(
    hanging: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    def hangs(_: threading.Event) -> Generator[Shot, None, None]:
        hanging.wait()
        yield shot()

    limits = LiveLimits(opening=0.02, silence=0.02, join=0.01, hanging=3, retry=(0.002, 0.01))
    with LiveSource("door", hangs, limits) as source:
        wait_for(lambda: "3 attempts to open it hang" in str(source.reason))
        time.sleep(0.2)
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("capture door") == 3
        hanging.set()  # the library is back
        take(source, 1)
    assert sum("left behind" in text for text in caplog.messages) == 3


def test_no_more_threads_is_a_loss_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    start, refused_once = threading.Thread.start, threading.Event()

    def refuse_once(thread: threading.Thread) -> None:
        if thread.name.startswith("capture") and not refused_once.is_set():
            refused_once.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    with LiveSource("door", steady, QUICK) as source:
        take(source, 1)
        assert "no more threads" in str(statuses(source)[1][1])


def test_a_bug_ends_the_source_and_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveLimits, "is_slow", lambda *_: 1 / 0)
    with (
        LiveSource("door", refused, QUICK) as source,
        pytest.raises(ZeroDivisionError),
    ):
        list(source)


def hanging_open(hanging: threading.Event) -> Connect:
    def connect(_: threading.Event) -> Generator[Shot, None, None]:
        hanging.wait()
        yield shot()

    return connect


@pytest.mark.parametrize("state", ["connecting", "live", "lost", "slow", "paused", "hanging"])
def test_stop_and_close_take_less_than_a_second_in_each_state(state: str, hanging: threading.Event) -> None:
    def wrong(_: threading.Event) -> Generator[Shot, None, None]:
        raise ConnectionLost("the password is wrong", "authentication")
        yield

    connects: dict[str, Connect] = {"live": steady, "lost": refused, "slow": wrong, "paused": steady}
    limits = LiveLimits(opening=0.05 if state == "hanging" else 60, silence=0.05)
    source = LiveSource("door", connects.get(state, hanging_open(hanging)), limits)
    if state == "paused":
        source.pause()
    expected = {"slow": "lost", "hanging": "lost"}.get(state, state)
    wait_for(lambda: source.status == expected)
    ended = threading.Event()
    source.on_change(lambda: ended.set() if source.over else None)
    start = time.monotonic()
    source.stop()
    assert source.over
    assert source.poll() is None
    source.close()
    source.close()
    assert time.monotonic() - start < 1
    assert ended.wait(1)
    assert list(source) == []
