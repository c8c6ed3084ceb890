"""What is told of live sources: changes of their status, in order with frames, and how each of them ends."""

from datetime import datetime, timedelta, timezone

import pytest
from fake_cameras import FakeCamera, Paced, rounds_of

from emotion_runtime.errors import SourceBroken
from emotion_runtime.rounds import Rounds
from emotion_runtime.types import SourceStatus


@pytest.mark.parametrize("status", ["frozen", "lost"])
def test_statuses_come_in_order_with_frames(status: SourceStatus):
    camera = FakeCamera("door")
    rounds = iter(rounds_of(camera))
    now = datetime.now(timezone.utc)
    camera.say("live")
    camera.give(now)
    camera.say(status, "unplugged", now + timedelta(milliseconds=5))
    first = next(rounds)
    assert [line.status for line in first.statuses] == ["live"]
    assert len(first.frames) == 1
    second = next(rounds)
    assert [line.status for line in second.statuses] == [status]
    assert second.frames == []
    camera.say("live", at=now + timedelta(seconds=1))
    camera.give(now + timedelta(seconds=1))
    third = next(rounds)
    assert [line.status for line in third.statuses] == ["live"]
    assert [frame.index for frame in third.frames] == [1]


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        (["connecting"], "source door was not connected at the end"),
        (["live"], None),
        (["live", "lost"], r"source door was lost at 20\d\d-.* UTC: reason of lost"),
        (["live", "lost", "live"], None),
        (["live", "lost", "ended"], "source door was lost"),
        (["live", "ended"], None),
        (["live", "frozen"], None),
        (["paused"], None),
        ([], None),
    ],
)
def test_sources_that_were_not_live_at_the_end_are_failures(statuses: list, message: str | None):
    camera = FakeCamera("door")
    rounds = rounds_of(camera, Paced("yard", 100))
    for status in statuses:
        camera.say(status, f"reason of {status}")
    for _ in zip(range(5), rounds, strict=False):
        pass
    rounds.close()
    broken = rounds.broken()
    if message is None:
        assert broken is None
    else:
        assert broken is not None
        assert broken.args[0].startswith("source door")
        with pytest.raises(SourceBroken, match=message):
            raise broken
    rounds.raise_errors()  # that a camera is away is no error of the iteration


def test_error_of_a_source_in_real_time_comes_after_its_last_frame():
    camera = FakeCamera("clip.mp4")
    rounds = rounds_of(camera, seconds=5.0)
    camera.give()
    camera.end(SourceBroken("clip.mp4 is cut off"))
    assert [len(one.frames) for one in rounds] == [1, 0, 0]
    with pytest.raises(SourceBroken, match="cut off"):
        rounds.raise_errors()


def statuses_of(rounds: Rounds, name: str) -> list[tuple[SourceStatus, str | None]]:
    return [(line.status, line.reason) for one in rounds for line in one.statuses if line.source == name]


@pytest.mark.parametrize("seen", [True, False])
def test_a_removed_live_source_ends_with_the_changes_that_are_left(seen: bool):
    camera, yard = FakeCamera("door"), FakeCamera("yard")
    rounds = rounds_of(camera, yard)
    turns = iter(rounds)
    camera.say("live")
    if seen:
        camera.give(datetime.now(timezone.utc))
    before = next(turns)
    assert [line.status for line in before.statuses] == ["live"]
    camera.say("degraded", "the image is black")
    rounds.remove("door")
    yard.end()
    assert statuses_of(rounds, "door") == [("degraded", "the image is black"), ("ended", "it was removed")]
    assert rounds.close() == []
    assert rounds.broken() is None


def test_a_live_source_whose_time_is_over_ends():
    camera = FakeCamera("door")
    camera.say("live")
    rounds = rounds_of(camera, seconds=0.3)
    assert statuses_of(rounds, "door") == [("live", None), ("ended", "its time is over")]


def test_a_live_source_that_has_ended_by_itself_ends_once():
    camera = FakeCamera("door")
    camera.say("live")
    camera.say("ended", "the video was played to its end")
    rounds = rounds_of(camera, FakeCamera("yard"), seconds=0.3)
    assert [status for status, _ in statuses_of(rounds, "door")] == ["live", "ended"]


def test_a_file_in_real_time_ends_with_a_status():
    played, clip, corrupt = FakeCamera("played.mp4"), FakeCamera("clip.mp4"), FakeCamera("corrupt.mp4")
    rounds = rounds_of(played, clip, corrupt)
    for source in (played, clip, corrupt):
        source.give()
    turns = iter(rounds)
    next(turns)
    played.end()
    corrupt.end(SourceBroken("source corrupt.mp4 failed"))
    rounds.remove("clip.mp4")
    lines = [line for one in rounds for line in one.statuses]
    assert {(line.source, line.status, line.reason) for line in lines} == {
        ("played.mp4", "ended", "it was played to its end"),
        ("corrupt.mp4", "ended", "reading it failed"),
        ("clip.mp4", "ended", "it was removed"),
    }
    assert len(lines) == 3
    assert [str(error) for error in rounds.errors] == ["source corrupt.mp4 failed"]


def test_each_file_of_a_folder_in_real_time_ends_when_the_next_one_begins():
    folder = FakeCamera("clips/")
    rounds = rounds_of(folder)
    lines = []
    for name in ("a.mp4", "b.mp4"):
        folder.name = name
        folder.give()
        lines += next(iter(rounds)).statuses
    folder.end()
    lines += [line for one in rounds for line in one.statuses]
    assert [(line.source, line.status) for line in lines] == [("a.mp4", "ended"), ("b.mp4", "ended")]
