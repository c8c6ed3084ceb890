"""Live sources: whatever a connection does, the source goes on, holds its deadlines, and says why."""

import gc
import threading
import time
from collections.abc import Callable, Generator
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from emotion_runtime.errors import ConnectionLost, EmotionError
from emotion_runtime.sources.live import LiveSource
from emotion_runtime.sources.live_limits import LiveLimits
from emotion_runtime.sources.shots import Connect, Shot
from emotion_runtime.types import Frame

QUICK = LiveLimits(
    opening=0.3,
    silence=0.2,
    frozen=0.0,
    stale=0.3,
    retry=(0.002, 0.01),
    slow_retry=(0.3, 0.3),
    steady=0.1,
    join=0.02,
    hanging=3,
    losses=10**6,
)


def shot(captured: float | None = None, size: tuple[int, int] = (4, 6)) -> Shot:
    now = time.monotonic()
    image = np.full((*size, 3), 90, np.uint8)
    return Shot(image, now if captured is None else captured, datetime.now(timezone.utc))


def refused(_: threading.Event) -> Generator[Shot, None, None]:
    raise ConnectionLost("nobody answers; start it", "connection")
    yield


def steady(cancel: threading.Event) -> Generator[Shot, None, None]:
    while not cancel.wait(0.005):
        yield shot()


def in_turn(*connects: Connect) -> Connect:
    """Return a connection that is another one at each opening; the last one stays."""
    left = list(connects)

    def connect(cancel: threading.Event) -> Generator[Shot, None, None]:
        return (left.pop(0) if len(left) > 1 else left[0])(cancel)

    return connect


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def take(source: LiveSource, count: int) -> list[Frame]:
    frames: list[Frame] = []
    while len(frames) < count:
        wait_for(lambda: (frame := source.poll()) is not None and (frames.append(frame) or True))
    return frames


def rise(frames: list[Frame]) -> bool:
    """Return whether no frame has the time or the index of one before it, or an earlier one."""
    return all(one.t < other.t and one.index < other.index for one, other in pairwise(frames))


def statuses(source: LiveSource) -> list[tuple[str, str | None]]:
    return [(line.status, line.reason) for line in source.take_statuses()]


@pytest.fixture
def hanging() -> Generator[threading.Event, None, None]:
    """Return an event for which a library that hangs waits; it is set after the test."""
    event = threading.Event()
    yield event
    event.set()
    wait_for(lambda: not any(thread.name.startswith("capture") for thread in threading.enumerate()))


# --- losses and new connections ---


def test_source_is_opened_again_and_goes_on_as_the_same_one() -> None:
    def three(_: threading.Event) -> Generator[Shot, None, None]:
        for _ in range(3):
            yield shot()
            time.sleep(0.01)

    with LiveSource("door", in_turn(three, refused, refused, three, steady), QUICK) as source:
        frames = take(source, 9)
        lines = statuses(source)
    assert rise(frames)
    assert {frame.source for frame in frames} == {"door"}
    assert frames[-1].dropped == frames[-1].index + 1 - len(frames)
    assert [status for status, _ in lines] == ["connecting", "live", "lost", "lost", "live", "lost", "live"]
    assert lines[2] == ("lost", "the stream ended; check that the device or server still runs")
    assert lines[3] == ("lost", "nobody answers; start it")


def test_thousand_quick_failures_are_one_message_and_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    opened = threading.Semaphore(0)

    def connect(cancel: threading.Event) -> Generator[Shot, None, None]:
        opened.release()
        return refused(cancel)

    threads, handles = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    fast = LiveLimits(retry=(1e-4, 1e-4))
    with LiveSource("door", connect, fast) as source:
        for _ in range(1000):
            assert opened.acquire(timeout=10)
        assert statuses(source) == [("connecting", None), ("lost", "nobody answers; start it")]
        assert threading.active_count() <= threads + 2
    gc.collect()
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= handles
    assert len([text for text in caplog.messages if "nobody answers" in text]) == 1


@pytest.mark.parametrize("cause", ["authentication", "permission", "not found", "format"])
def test_what_does_not_pass_by_itself_is_tried_again_slowly(cause: str) -> None:
    times: list[float] = []

    def connect(cancel: threading.Event) -> Generator[Shot, None, None]:
        times.append(time.monotonic())
        if len(times) == 3:
            yield from steady(cancel)
        raise ConnectionLost("the password is wrong", cause)  # type: ignore[arg-type]

    with LiveSource("door", connect, QUICK) as source:
        take(source, 1)
        assert [status for status, _ in statuses(source)] == ["connecting", "lost", "live"]
    assert min(times[1] - times[0], times[2] - times[1]) > 0.2


def test_device_that_starts_again_may_be_incomplete_at_first() -> None:
    def incomplete(_: threading.Event) -> Generator[Shot, None, None]:
        raise ConnectionLost("there is no such stream", "not found")
        yield

    slow = LiveLimits(retry=(0.002, 0.01), slow_retry=(60, 60), frozen=0)
    with LiveSource("door", in_turn(steady_for(1), *[incomplete] * 5, steady), slow) as source:
        take(source, 3)
    assert slow.is_slow("not found", 61.0)
    assert slow.is_slow("authentication", 0.0)
    assert not slow.is_slow("connection", None)


def test_waits_double_up_to_a_limit_and_differ() -> None:
    limits = LiveLimits()
    for slow, (first, most) in ((False, limits.retry), (True, limits.slow_retry)):
        waits = [[limits.wait(attempt, slow=slow) for _ in range(50)] for attempt in range(3)]
        for attempt, several in enumerate(waits):
            assert 0.7 * first * 2**attempt < min(several) < max(several) <= first * 2**attempt
        assert limits.wait(10**6, slow=slow) <= most


def test_source_that_is_lost_again_and_again_is_degraded_and_told_once() -> None:
    def one(_: threading.Event) -> Generator[Shot, None, None]:
        yield shot()

    limits = LiveLimits(silence=5, retry=(0.002, 0.002), losses=3)
    with LiveSource("door", one, limits) as source:
        take(source, 10)
        lines = statuses(source)
    assert [status for status, _ in lines[-2:]] == ["live", "degraded"]
    assert len(lines) <= 3 + 2 * limits.losses
    assert "again and again" in str(lines[-1][1])


# --- what libraries do ---


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


# --- clocks, sizes, rates ---


@pytest.mark.parametrize("jump", [-3600.0, -0.5, -0.01, 3600.0, float("nan")])
def test_times_never_go_back(jump: float) -> None:
    def connect(cancel: threading.Event) -> Generator[Shot, None, None]:
        for index in range(10**6):
            if cancel.wait(0.005):
                return
            yield shot(time.monotonic() + (jump if index % 4 == 2 else 0.0))

    start = time.monotonic()
    with LiveSource("door", connect, QUICK) as source:
        frames = take(source, 12)
    assert rise(frames)
    assert frames[-1].t < time.monotonic() - start + 0.1
    assert all(frame.captured <= time.monotonic() for frame in frames if frame.captured)


def test_clock_that_is_an_hour_late_is_not_believed() -> None:
    def late(cancel: threading.Event) -> Generator[Shot, None, None]:
        while not cancel.wait(0.005):
            yield shot(time.monotonic() - 3600)

    with LiveSource("door", late, QUICK) as source:
        assert all(time.monotonic() - (frame.captured or 0) < 5 for frame in take(source, 3))


def test_clock_of_a_new_connection_is_another_one() -> None:
    def behind(cancel: threading.Event) -> Generator[Shot, None, None]:
        for _ in range(5):
            cancel.wait(0.01)
            yield shot(time.monotonic() - 10)

    with LiveSource("door", in_turn(steady_for(5), behind, steady), QUICK) as source:
        frames = take(source, 25)
    assert frames[-1].t < 5
    assert rise(frames)


def steady_for(count: int) -> Connect:
    def connect(cancel: threading.Event) -> Generator[Shot, None, None]:
        for _ in range(count):
            cancel.wait(0.01)
            yield shot()

    return connect


def test_size_may_change_within_and_between_connections() -> None:
    def grows(cancel: threading.Event) -> Generator[Shot, None, None]:
        for size in (4, 8, 16):
            cancel.wait(0.02)
            yield shot(size=(size, size))

    with LiveSource("door", in_turn(grows, steady), QUICK) as source:
        sizes = [frame.image.shape[0] for frame in take(source, 6)]
    assert sizes[:4] == [4, 8, 16, 4]


def test_source_that_is_always_late_is_not_stale_but_a_frame_that_waits_is() -> None:
    go_on = threading.Event()

    def late(cancel: threading.Event) -> Generator[Shot, None, None]:
        yield shot(time.monotonic() - 30)
        go_on.wait(5)
        yield from steady(cancel)

    limits = LiveLimits(silence=5, stale=0.1, frozen=0)
    with LiveSource("door", late, limits) as source:
        take(source, 1)
        go_on.set()
        take(source, 1)
        source.pause()
        wait_for(lambda: source.status == "paused")
    hold = LiveSource("door", in_turn(steady_for(1), refused), limits)
    with hold as source:
        wait_for(lambda: source.status == "lost")
        time.sleep(0.15)
        assert source.poll() is None
        source.pause()
    assert source._dropped == 1


def test_thousands_of_images_a_second_leave_the_newest_and_are_counted() -> None:
    def flood(cancel: threading.Event) -> Generator[Shot, None, None]:
        one = shot()
        for _ in range(3000):
            yield Shot(one.image, time.monotonic(), one.time)
        cancel.wait(5)

    calls = 0

    def called() -> None:
        nonlocal calls
        calls += 1

    with LiveSource("door", flood, LiveLimits(stale=5)) as source:
        source.on_change(called)
        wait_for(lambda: source._maker._index == 2999)
        frame = source.poll()
        assert frame is not None
        assert (frame.index, frame.dropped) == (2999, 2999)
        assert source.poll() is None
    assert calls > 100


def test_rate_may_be_low_as_long_as_it_stays_so() -> None:
    def slower(cancel: threading.Event) -> Generator[Shot, None, None]:
        for wait in (0.25, 0.25, 0.6, 0.6):
            yield shot()
            cancel.wait(wait)
        yield from steady(cancel)

    with LiveSource("door", slower, LiveLimits(opening=5, silence=0.4, frozen=0)) as source:
        take(source, 6)
        assert [status for status, _ in statuses(source)] == ["connecting", "live"]


def test_time_between_two_images_may_be_long_if_the_connection_says_so() -> None:
    def now_and_then(cancel: threading.Event) -> Generator[Shot, None, None]:
        while not cancel.wait(0.25):
            one = shot()
            yield Shot(one.image, one.captured, one.time, next_in=0.25)

    with LiveSource("door", now_and_then, LiveLimits(opening=1, silence=0.05, frozen=0)) as source:
        take(source, 2)
        assert [status for status, _ in statuses(source)] == ["connecting", "live"]


# --- images that are of no use ---


def images(*parts: tuple[int, int | None]) -> Connect:
    """Return a connection with images of a grey level each: (count, level), where None is a new level."""

    def connect(cancel: threading.Event) -> Generator[Shot, None, None]:
        index = 0
        for count, level in parts:
            for _ in range(count):
                index += 1
                grey = 60 + index % 100 if level is None else level
                one = shot()
                yield Shot(np.full_like(one.image, grey), one.captured, one.time)
                if cancel.wait(0.01):
                    return

    return connect


def test_frozen_image_gives_no_frames_until_it_changes() -> None:
    limits = LiveLimits(frozen=0.4, silence=5)
    seen: list[tuple[str, int]] = []
    with LiveSource("door", images((20, None), (120, 200), (10**6, None)), limits) as source:

        def is_back() -> bool:
            status = str(source.status)
            frame = source.poll()
            if frame is not None:
                seen.append((status, frame.index))
            return bool(seen) and seen[-1][1] > 160

        wait_for(is_back)
        lines = statuses(source)
    assert [status for status, _ in lines] == ["connecting", "live", "frozen", "live"]
    assert lines[2][1] == "the same image for 0.4 s; restart the device"
    # One frame may have waited when it was noticed, one may come before its status is seen.
    assert [status for status, _ in seen].count("frozen") <= 2
    assert max(after - before for (_, before), (_, after) in pairwise(seen)) > 20


def test_black_image_is_degraded_and_still_has_frames() -> None:
    limits = LiveLimits(frozen=0.3, silence=5)
    with LiveSource("door", images((20, None), (10**6, 0)), limits) as source:
        wait_for(lambda: source.poll() is None and source.status == "degraded")
        take(source, 2)
        assert "black" in str(source.reason)


# --- stop, pause, resume ---


def test_paused_source_releases_its_device_and_comes_back() -> None:
    open_now = threading.Semaphore(0)
    closed = threading.Event()

    def connect(cancel: threading.Event) -> Generator[Shot, None, None]:
        open_now.release()
        try:
            yield from steady(cancel)
        finally:
            closed.set()

    with LiveSource("door", connect, QUICK) as source:
        before = take(source, 2)[-1]
        source.pause()
        assert closed.wait(5)
        wait_for(lambda: source.status == "paused")
        assert source.poll() is None
        assert not source.over
        time.sleep(0.05)
        source.resume()
        after = take(source, 1)[0]
        assert after.index > before.index
        assert after.t > before.t + 0.05
        assert [status for status, _ in statuses(source)] == [
            "connecting",
            "live",
            "paused",
            "connecting",
            "live",
        ]


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


def test_event_of_others_stops_the_source_and_whoever_iterates() -> None:
    stop = threading.Event()
    source = LiveSource("door", refused, QUICK, stop=stop)
    threading.Timer(0.1, stop.set).start()
    start = time.monotonic()
    assert list(source) == []
    source.close()
    assert time.monotonic() - start < 1.5


def test_threads_are_as_before_after_many_sources() -> None:
    before = threading.active_count()
    for _ in range(20):
        with LiveSource("door", steady, QUICK) as source:
            take(source, 1)
    wait_for(lambda: threading.active_count() == before, 2)
