"""Seconds seen and shares of emotions, added up from events."""

import pytest
from sample_events import event, person

from emotion_runtime import summary as summary_module
from emotion_runtime.summary import Summary

BOX = (0.0, 0.0, 9.0, 9.0)


def summary_of(*steps: tuple[float, list]) -> Summary:
    summary = Summary()
    for index, (t, persons) in enumerate(steps):
        summary.add(event(*persons, frame=index, t=t))
    return summary


def test_shares_are_shares_of_the_time_seen():
    happy, sad, unsure = (person(1, BOX, top=top) for top in ("happiness", "sadness", None))
    found = summary_of((0.0, [happy]), (1.0, [sad]), (1.5, [unsure]), (2.0, [happy])).of("video.mp4")
    (one,) = found.persons
    # The last frame lasts as long as the one before it: 0.5 s.
    assert (found.frames, found.seconds, one.id, one.seconds) == (4, 2.5, 1, 2.5)
    assert one.emotions == pytest.approx({"happiness": 0.6, "sadness": 0.2})
    assert list(one.emotions) == ["happiness", "sadness"]


def test_demo_of_150_frames_lasts_six_seconds():
    found = summary_of(*((index / 25, [person(1, BOX)]) for index in range(150))).of("video.mp4")
    assert found.seconds == pytest.approx(6)
    assert found.persons[0].seconds == pytest.approx(6)


def test_lost_people_are_not_seen():
    steps = [(0.0, [person(1, BOX)]), (1.0, [person(1, BOX, state="lost")]), (2.0, [person(2, BOX)])]
    found = summary_of(*steps).of("video.mp4")
    assert [(one.id, one.seconds) for one in found.persons] == [(1, 1.0), (2, 1.0)]


def test_frame_every_ten_seconds_lasts_ten_seconds():
    found = summary_of(*((10.0 * index, [person(1, BOX)]) for index in range(4))).of("video.mp4")
    assert found.persons[0].seconds == 40


def test_nobody_is_seen_while_a_camera_is_away():
    steps = [(0.0, [person(1, BOX)]), (0.1, [person(1, BOX)]), (3600.0, [])]
    assert summary_of(*steps).of("video.mp4").persons[0].seconds == pytest.approx(1.1)


def test_photos_last_no_time():
    assert summary_of((0.0, [person(1, BOX, state="photo")])).by_source() == {}


def test_false_detections_are_nobody():
    summary = Summary()
    for index in range(100):
        blinks = [person(index + 3, BOX, state="new")] if index % 3 == 0 else []
        state = "new" if index < 3 else "steady"
        summary.add(event(person(1, BOX, state=state), *blinks, frame=index, t=index / 25))
    found = summary.of("video.mp4")
    assert [(one.id, one.seconds) for one in found.persons] == [(1, pytest.approx(4))]
    assert found.others == 0


def test_a_source_of_few_frames_has_its_people():
    found = summary_of((0.0, [person(1, BOX, state="new")]), (0.04, [person(1, BOX, state="new")])).of(
        "video.mp4"
    )
    assert [one.id for one in found.persons] == [1]


def test_false_detections_do_not_count_among_those_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(summary_module, "MAX_PERSONS", 10)
    summary = Summary()
    for index in range(100):
        summary.add(event(person(1, BOX), person(index + 2, BOX, state="new"), frame=index, t=index / 25))
    assert (len(summary.of("video.mp4").persons), summary.of("video.mp4").others) == (1, 0)


def test_photo_that_shows_nobody_is_no_source():
    summary = Summary()
    summary.add(event(), still=True)
    assert summary.by_source() == {}


def test_memory_is_bounded_and_keeps_those_seen_longest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(summary_module, "MAX_PERSONS", 50)
    summary = Summary()
    for index in range(150):
        regular = [person(1, BOX)] if index % 2 else []
        summary.add(event(*regular, person(index + 2, BOX), t=index / 10))
    found = summary.of("video.mp4")
    assert len(found.persons) <= 50 + 2
    assert found.others >= 100 - 2
    assert found.persons[0].id == 1
    assert found.persons[0].seconds == pytest.approx(7.5, abs=0.2)
