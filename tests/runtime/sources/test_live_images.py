"""Images of live sources: their times, sizes and rates, and those that are of no use."""

import threading
import time
from collections.abc import Generator
from itertools import pairwise

import numpy as np
import pytest
from live_connections import QUICK, in_turn, refused, rise, shot, statuses, steady, steady_for, take, wait_for

from emotion_runtime.sources.live import LiveSource
from emotion_runtime.sources.live_limits import LiveLimits
from emotion_runtime.sources.shots import Connect, Shot


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
    noted = threading.Event()

    def flood(cancel: threading.Event) -> Generator[Shot, None, None]:
        one = shot()
        noted.wait(5)
        for _ in range(3000):
            yield Shot(one.image, time.monotonic(), one.time)
        cancel.wait(5)

    calls = 0

    def called() -> None:
        nonlocal calls
        calls += 1

    with LiveSource("door", flood, LiveLimits(stale=5)) as source:
        source.on_change(called)
        noted.set()
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
