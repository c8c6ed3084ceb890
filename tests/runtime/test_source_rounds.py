"""Frames of several sources in turn: by media time, with names that begin and end, and failures."""

from collections.abc import Iterator

import numpy as np
import pytest

from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.feeds import limited
from emotion_runtime.metrics import StageTimer
from emotion_runtime.rounds import Rounds
from emotion_runtime.types import Frame

IMAGE = np.zeros((2, 2, 3), np.uint8)


def frames(name: str, count: int, rate: float, *, start: float = 0.0, live: bool = False) -> Iterator[Frame]:
    for index in range(count):
        yield Frame(IMAGE, index, start + index / rate, name, captured=0.0 if live else None)


def failing(name: str, count: int) -> Iterator[Frame]:
    yield from frames(name, count, 10)
    raise SourceBroken(f"{name} failed")


def names(*sources: Iterator[Frame]) -> list[str]:
    return [
        " ".join(frame.source for frame in one.frames) for one in Rounds(sources, StageTimer()) if one.frames
    ]


def test_equal_rates_go_together():
    assert names(frames("a", 3, 25), frames("b", 2, 25)) == ["a b", "a b", "a"]


def test_files_advance_by_media_time():
    """At any moment a file of 25 and one of 5 frames per second are at most one slow frame apart."""
    rounds = Rounds([frames("fast", 100, 25), frames("slow", 20, 5, start=3.0)], StageTimer())
    t = {"fast": 0.0, "slow": 0.0}
    for one in rounds:
        t |= {frame.source: frame.t - (3.0 if frame.source == "slow" else 0.0) for frame in one.frames}
        assert abs(t["fast"] - t["slow"]) < 0.2
    assert names(frames("fast", 6, 25), frames("slow", 2, 5)) == ["fast slow", *["fast"] * 4, "fast slow"]


def test_nearly_equal_rates_share_most_rounds():
    taken = names(frames("ntsc", 60, 29.97), frames("pal", 60, 30))
    assert len(taken) < 65


def test_live_sources_do_not_wait_for_the_time_of_files():
    """Both are read in threads: each round takes what is there, and at most one frame of each."""
    taken = names(frames("camera", 3, 1, live=True), frames("file", 3, 25))
    assert taken[0] == "camera file"
    for name in ("camera", "file"):
        assert " ".join(taken).count(name) == 3
    assert len(taken) <= 5


def test_beginnings_and_ends_of_names():
    def folder() -> Iterator[Frame]:
        yield from frames("first.mp4", 2, 10)
        yield from frames("second.mp4", 1, 10)

    rounds = list(Rounds([folder()], StageTimer()))
    assert [(one.started, one.ended) for one in rounds] == [
        (["first.mp4"], []),
        ([], []),
        (["second.mp4"], ["first.mp4"]),
        ([], ["second.mp4"]),
    ]


def test_limit_of_a_source_and_of_each_file_of_a_folder():
    def folder() -> Iterator[Frame]:
        yield from frames("folder/a.mp4", 30, 10)
        yield from frames("folder/b.mp4", 3, 10)

    taken = [frame.source for frame in limited(folder(), 1.0, of="folder")]
    assert taken == ["folder/a.mp4"] * 10 + ["folder/b.mp4"] * 3
    assert len(list(limited(frames("a", 30, 10, start=5.0), 1.0, of="a"))) == 10
    assert len(list(limited(frames("a", 30, 10), None, of="a"))) == 30
    endless = frames("a", 10**9, 10)
    assert len(list(limited(endless, 1.0, of="a"))) == 10  # the rest is not read


def test_every_failure_is_told():
    rounds = Rounds([failing("a", 1), failing("b", 3), frames("c", 4, 10)], StageTimer())
    assert [len(one.frames) for one in rounds] == [3, 2, 2, 1, 0]
    with pytest.raises(SourceBroken, match="2 sources failed: a failed; b failed"):
        rounds.raise_errors()


def test_failure_is_logged_at_once_if_other_sources_go_on(caplog: pytest.LogCaptureFixture):
    rounds = iter(Rounds([failing("a", 1), frames("b", 9, 10)], StageTimer()))
    next(rounds)
    assert caplog.messages == []
    next(rounds)
    assert caplog.messages == ["a failed"]


def test_one_failure_is_raised_as_it_is():
    rounds = Rounds([failing("a", 1)], StageTimer())
    list(rounds)
    with pytest.raises(SourceBroken, match=r"\Aa failed\Z"):
        rounds.raise_errors()


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), EmotionError("no permission")])
def test_other_errors_of_a_source_leave_the_others_alone(error: Exception):
    def broken() -> Iterator[Frame]:
        yield from frames("a", 1, 10)
        raise error

    rounds = Rounds([broken(), frames("b", 3, 10)], StageTimer())
    assert [len(one.frames) for one in rounds] == [2, 1, 1, 0]
    with pytest.raises(SourceBroken, match=r"source a failed: .*(Input/output error|no permission)"):
        rounds.raise_errors()


def test_same_name_twice():
    with pytest.raises(EmotionError, match="same name"):
        list(Rounds([frames("a", 2, 10), frames("a", 2, 10)], StageTimer()))
