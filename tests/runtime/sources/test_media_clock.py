"""Times of capture from times of arrival and media times."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from emotion_runtime.sources import media_clock
from emotion_runtime.sources.media_clock import MediaClock, Pacer, wall_clock


def test_an_image_that_comes_late_is_known_to_be_old():
    clock = MediaClock()
    for index in range(30):
        assert clock.captured(index / 15, 100 + index / 15) == pytest.approx(100 + index / 15, abs=1e-3)
    # The reader was stopped for 3 s, and then all images of this time arrive at once.
    ages = [105 - clock.captured(index / 15, 105.0) for index in range(30, 75)]
    assert ages == pytest.approx([105 - (100 + index / 15) for index in range(30, 75)], abs=0.01)
    assert ages[0] == pytest.approx(3, abs=0.01)


def test_captured_is_never_after_the_arrival_and_never_goes_back():
    random = np.random.default_rng(3)
    clock, arrival, previous = MediaClock(), 50.0, 0.0
    for index in range(2000):
        arrival = max(arrival, 50 + index / 25 + random.exponential(0.03))
        # Its reports of the wall clock come after a while.
        wall_start = time.time() - time.monotonic() + 49.8 if index > 100 else None
        captured = clock.captured(index / 25, arrival, wall_start)
        assert previous <= captured <= arrival
        previous = captured


def test_a_camera_clock_that_is_slow_is_followed():
    clock = MediaClock()
    for second in range(3600):
        arrival = 10 + second * 1.0005  # 1.8 s an hour
        assert arrival - clock.captured(float(second), arrival) < 0.01


@pytest.mark.parametrize("jump", [-1e6, -60.0, 60.0, 1e6])
def test_a_media_clock_that_starts_anew_is_taken_as_it_is(jump: float):
    clock = MediaClock()
    clock.captured(100.0, 5.0)
    assert clock.captured(100.1 + jump, 5.1) == pytest.approx(5.1)


def test_media_times_that_are_always_late_are_given_up():
    clock = MediaClock()  # it states 20 frames per second and sends 10
    ages = [index / 10 - clock.captured(index / 20, index / 10) for index in range(400)]
    assert max(ages) < 12
    assert min(ages[-200:]) == pytest.approx(0, abs=0.1)


def test_an_unknown_media_time_is_that_of_the_arrival():
    assert MediaClock().captured(None, 7.0) == 7.0


@pytest.mark.parametrize(
    ("travel", "age"), [(0.25, 0.25), (0.0, 0.0), (-0.5, 0.0), (3.0, 0.0), (-3600.0, 0.0), (1e9, 0.0)]
)
def test_a_wall_clock_is_used_if_it_is_plausible(travel: float, age: float, monkeypatch: pytest.MonkeyPatch):
    stopped = SimpleNamespace(monotonic=lambda: 100.0, time=lambda: 1.8e9)
    monkeypatch.setattr(media_clock, "time", stopped)
    captured = MediaClock().captured(2.0, 100.0, wall_start=1.8e9 - 2.0 - travel)
    assert 100.0 - captured == pytest.approx(age, abs=1e-6)


class Clock(threading.Event):
    """A clock that goes on only while somebody waits."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return False


def test_a_burst_passes_at_its_own_pace(monkeypatch: pytest.MonkeyPatch):
    pacer, clock = Pacer(), Clock()
    monkeypatch.setattr(media_clock, "time", clock)
    times = [pacer.wait(media, clock) for media in (50.0, 50.05, 50.1, 50.15, 9000.0, 9000.05)]
    assert times == pytest.approx([0, 0.05, 0.1, 0.15, 0.15, 0.2])


def test_pacing_ends_when_cancelled():
    pacer, cancel = Pacer(), threading.Event()
    pacer.wait(0.0, cancel)
    cancel.set()
    start = time.monotonic()
    pacer.wait(0.9, cancel)
    assert time.monotonic() - start < 0.6


def test_wall_clock_agrees_with_the_system():
    assert wall_clock(time.monotonic() - 5).timestamp() == pytest.approx(time.time() - 5, abs=1)
