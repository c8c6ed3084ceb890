"""Live sources that are lost: opened again and again, told once, and paused when nobody wants them."""

import gc
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from live_connections import QUICK, in_turn, refused, rise, shot, statuses, steady, steady_for, take, wait_for

from emotion_runtime.errors import ConnectionLost
from emotion_runtime.sources.live import LiveSource
from emotion_runtime.sources.live_limits import LiveLimits
from emotion_runtime.sources.shots import Shot


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
    assert threading.active_count() <= threads  # those of earlier tests may have ended meanwhile
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
    wait_for(lambda: threading.active_count() <= before, 2)
