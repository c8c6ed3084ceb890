"""Events without ids, and counts over several people instead of events."""

import json
from pathlib import Path

import msgspec
import pytest
from sample_events import event, frame, person

from emotion_runtime import read_events
from emotion_runtime.privacy.published import AGGREGATE_SECONDS, Publisher
from emotion_runtime.sinks.draw import draw
from emotion_runtime.sinks.jsonl import JsonlSink
from emotion_runtime.types import AggregateLine, EmotionEvent, State


def crowd(
    count: int, *, t: float = 0.0, top: str | None = "happiness", state: State = "steady"
) -> EmotionEvent:
    people = [person(n + 1, (20 * n, 10, 20 * n + 15, 30), top=top, state=state) for n in range(count)]
    return event(*people, t=t)


# --- ids ---


def test_events_stay_as_they_are_without_options() -> None:
    given = crowd(2)
    assert Publisher().event(given) is given
    assert Publisher().aggregates(given) == []


def test_without_ids_people_come_from_left_to_right() -> None:
    given = event(person(1, (200, 0, 220, 20)), person(2, (50, 0, 70, 20)))
    published = Publisher(ids=False).event(given)
    assert [each.box[0] for each in published.persons] == [50, 200]
    assert [each.id for each in published.persons] == [0, 0]
    assert [each.id for each in given.persons] == [1, 2]


def test_lines_without_ids_have_none_and_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    published = Publisher(ids=False).event(crowd(2))
    sink = JsonlSink(str(path))
    sink.write(frame(), published)
    sink.close()
    line = json.loads(path.read_text())
    assert [sorted(each) == sorted({*each} - {"id"}) for each in line["persons"]] == [True, True]
    (back,) = read_events(path)
    assert [each.id for each in back.persons] == [0, 0]
    assert [row["id"] for row in back.to_rows()] == [None, None]


def test_drawing_without_ids_writes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from emotion_runtime.sinks import paint  # noqa: PLC0415

    written: list[str] = []
    monkeypatch.setattr(paint, "write", lambda _, caption, *__: written.append(caption))
    people = [
        person(5, (20, 100, 40, 125)),
        person(6, (200, 100, 220, 125), top=None),
        person(7, (300, 100, 320, 125), state="lost", top=None),
    ]
    draw(frame().image, Publisher(ids=False).event(event(*people)))
    assert sorted(written) == ["happiness 57%", "lost", "unsure"]


def test_crowd_without_ids_that_warms_up_is_drawn() -> None:
    people = [person(n, (60 * n, 100, 60 * n + 40, 150), top=None, state="warming") for n in range(1, 7)]
    warming = [msgspec.structs.replace(each, why="warming") for each in people]
    image = draw(frame().image, Publisher(ids=False).event(event(*warming)))
    assert (image != frame().image).any()


# --- counts ---


def test_no_person_is_in_an_event_with_aggregates() -> None:
    publisher = Publisher(least=3)
    assert publisher.event(crowd(5)).persons == []
    assert not publisher.single_people


@pytest.mark.parametrize("count", range(6))
def test_counts_are_over_at_least_k_people(count: int) -> None:
    publisher = Publisher(least=3)
    assert publisher.aggregates(crowd(count)) == []
    lines = publisher.finish()
    assert [line.people for line in lines] == ([count] if count >= 3 else [])
    for line in lines:
        assert line.counts["happiness"] == sum(line.counts.values()) == count
    assert publisher.finish() == []


@pytest.mark.parametrize(("top", "state"), [(None, "steady"), ("fear", "new"), ("fear", "lost")])
def test_people_without_a_label_false_detections_and_lost_people_do_not_count(
    top: str | None, state: State
) -> None:
    publisher = Publisher(least=3)
    others = crowd(4, top=top, state=state).persons
    publisher.aggregates(event(*crowd(2).persons, *others))
    assert publisher.finish() == []


def test_one_person_with_several_ids_is_not_several_people() -> None:
    """Somebody who leaves and returns gets a new id: only people in view at one moment count."""
    publisher = Publisher(least=2)
    for index in range(50):
        assert publisher.aggregates(event(person(index + 1, (20, 10, 40, 30)), t=float(index))) == []


def test_there_is_one_line_for_some_seconds_with_the_moment_of_most_people() -> None:
    publisher = Publisher(least=2)
    lines: list[AggregateLine] = []
    for index in range(100):
        count = 4 if index == 13 else 3 if index < 70 else 1
        lines += publisher.aggregates(crowd(count, t=index / 2))
    lines += publisher.finish()
    assert [line.people for line in lines] == [4, 3, 3, 3]
    assert lines[0].t == 6.5
    assert AGGREGATE_SECONDS == 10


def test_photo_is_counted_at_once_and_sources_apart() -> None:
    publisher = Publisher(least=2)
    assert [line.people for line in publisher.aggregates(crowd(3, state="photo"), still=True)] == [3]
    publisher.aggregates(crowd(2))
    publisher.aggregates(msgspec.structs.replace(crowd(3), source="b"))
    assert [line.people for line in publisher.finish("b")] == [3]
    assert [line.people for line in publisher.finish()] == [2]


def test_counts_are_lines_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonlSink(str(path), frames=False)
    publisher = Publisher(least=2)
    given = crowd(3)
    publisher.aggregates(given)
    sink.write(frame(), publisher.event(given))
    for line in publisher.finish():
        sink.write_aggregate(line)
    sink.close()
    (line,) = map(json.loads, path.read_text().splitlines())
    assert line["schema"] == 2
    assert line["type"] == "aggregate"
    assert line["people"] == line["counts"]["happiness"] == 3
    assert "time" not in line
    assert list(read_events(path)) == []
