"""The view of the session: people without ids, and what it costs."""

import json

import pytest
from sample_events import event, person

from emotion_runtime.summary import Summary
from emotion_runtime.web.session import LiveSession
from emotion_runtime.web.timeline import LiveTimeline

BOX = (0.0, 0.0, 50.0, 60.0)


def test_people_without_ids_are_not_one_person():
    session = LiveSession()
    for index in range(5):
        people = [person(0, BOX, top="happiness"), person(0, BOX, top="sadness")]
        session.add(event(*people, t=0.5 * index, frame=index))
    source = session.view().sources["video.mp4"]
    assert (source.frames, source.seconds, source.persons, source.others) == (5, 2.5, [], 0)


def test_the_loop_of_the_run_does_not_wait_while_a_view_is_made(monkeypatch: pytest.MonkeyPatch):
    session = LiveSession()
    session.add(event(person(1, BOX)))
    free: list[bool] = []

    def note(*_: object) -> None:
        free.append(session._lock.acquire(blocking=False))
        session._lock.release()

    for kind, name in ((LiveTimeline, "view"), (Summary, "by_source")):
        made = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda self, made=made: (note(), made(self))[1])
    session.encoded()
    assert free == [True] * 3


def test_a_view_does_not_change_with_the_session():
    session = LiveSession()
    session.add(event(person(1, BOX), t=0.0))
    copies = session._summary.copied(), session._overall.copied()
    before = copies[0].by_source(), copies[1].view()
    for index in range(1, 9):
        session.add(event(person(index, BOX, top="sadness"), t=float(index), frame=index))
    assert (copies[0].by_source(), copies[1].view()) == before


def test_a_copy_of_a_timeline_has_the_newest_part_to_itself():
    timeline = LiveTimeline()
    timeline.add(0.0, "happiness", 1.0)
    timeline.add(1.0, "happiness", 1.0)
    copy = timeline.copied()
    timeline.add(1.5, "sadness", 0.5)
    for second in range(2, 1000):
        timeline.add(second, None, 1.0)
    assert copy.view().parts == [{"happiness": 1.0}, {"happiness": 1.0}]


def test_the_numbers_of_a_view_are_rounded():
    session = LiveSession()
    for index in range(8):
        session.add(event(person(1, BOX, top="happiness" if index % 3 else None), t=index / 3, frame=index))
    text = session.encoded().decode()
    assert max(len(part.partition(".")[2].split(",")[0].rstrip("}]")) for part in text.split(":")) <= 9
    assert json.loads(text)["sources"]["video.mp4"]["seconds"] == 2.66666667
