"""Timing side by side, and what is made of it."""

from collections import Counter

import pytest

from emotion_bench import rounds
from emotion_bench.rounds import interleave, ratios, spread


class Clock:
    """A clock that only the contenders move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def contender(self, name: str, seconds: float):
        def call() -> None:
            self.now += seconds
            self.calls.append(name)

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: clock.now)
    return clock


def test_every_contender_is_timed_in_every_round(clock: Clock):
    seconds = interleave(
        {"slow": clock.contender("slow", 0.5), "fast": clock.contender("fast", 0.004)}, rounds=9
    )
    assert seconds["slow"] == pytest.approx([0.5] * 9)
    assert seconds["fast"] == pytest.approx([0.004] * 9)
    # Three calls to warm up and to see how long one takes, then as many as 20 ms take: one, and five.
    assert Counter(clock.calls) == {"slow": 3 + 9, "fast": 3 + 9 * 5}


def test_rounds_are_interleaved_in_changing_order(clock: Clock):
    names = ["a", "b", "c"]
    interleave({name: clock.contender(name, 1.0) for name in names}, rounds=12)
    of_rounds = [clock.calls[at : at + 3] for at in range(9, len(clock.calls), 3)]
    assert len(of_rounds) == 12
    assert all(sorted(each) == names for each in of_rounds)  # a round has each once
    assert len({tuple(each) for each in of_rounds}) > 3


def test_ratios_are_of_the_same_round():
    assert ratios([2.0, 30.0], [1.0, 10.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_spread():
    assert spread([3.0, 1.0, 2.123456]) == {"median": 2.1235, "min": 1.0, "max": 3.0}
