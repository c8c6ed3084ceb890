"""Events that are written only when something changes."""

from pathlib import Path

import msgspec
from sample_events import event, frame, person

from emotion_runtime.sinks.changes import KEEP_ALIVE, ChangesSink
from emotion_runtime.sinks.group import SinkGroup
from emotion_runtime.sinks.jsonl_folder import JsonlFolderSink
from emotion_runtime.types import EmotionEvent, StatusLine

BOX = (10.0, 10.0, 50.0, 60.0)


class Collected:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.statuses: list[str] = []

    def write(self, _frame: object, one: EmotionEvent) -> bool:
        self.times.append(one.t)
        return True

    def write_status(self, line: StatusLine) -> bool:
        self.statuses.append(line.status)
        return True

    def close(self) -> None:
        pass


def at(t: float, *persons: object, source: str = "a") -> EmotionEvent:
    return msgspec.structs.replace(event(), t=t, persons=list(persons), source=source)


def test_only_changes_are_passed_on() -> None:
    happy, same = person(1, BOX), person(1, (5.0, 5.0, 9.0, 9.0))
    inner = Collected()
    sink = ChangesSink(inner)
    steps = [
        at(0.0, happy),
        at(0.1, same),
        at(0.2, msgspec.structs.replace(happy, top="anger")),
        at(0.3, msgspec.structs.replace(happy, top="anger")),
        at(0.4, msgspec.structs.replace(happy, top="anger", state="lost")),
        at(0.5),
        at(0.6),
        at(0.65, happy, source="b"),
        at(0.7, person(2, BOX)),
        at(0.7 + KEEP_ALIVE - 0.1, person(2, BOX)),
        at(0.7 + KEEP_ALIVE, person(2, BOX)),
    ]
    for one in steps:
        assert sink.write(frame(), one)
    assert inner.times == [0.0, 0.2, 0.4, 0.5, 0.65, 0.7, 0.7 + KEEP_ALIVE]


def test_change_of_status_is_followed_by_an_event() -> None:
    inner = Collected()
    sink = ChangesSink(inner)
    time_of_change = msgspec.json.decode(b'"2026-01-01T00:00:00Z"', type=StatusLine.__annotations__["time"])
    for t in (0.0, 0.1):
        sink.write(frame(), at(t))
    sink.write_status(StatusLine(source="a", time=time_of_change, status="live"))
    for t in (0.2, 0.3):
        sink.write(frame(), at(t))
    assert (inner.times, inner.statuses) == ([0.0, 0.2], ["live"])


def test_photos_are_always_passed_on() -> None:
    inner = Collected()
    sink = ChangesSink(inner)
    for t in (0.0, 0.0):
        still = frame()
        object.__setattr__(still, "still", True)
        sink.write(still, at(t))
    assert len(inner.times) == 2


def test_file_of_each_source_is_finished(tmp_path: Path) -> None:
    sinks = SinkGroup([ChangesSink(JsonlFolderSink(tmp_path))])
    one = event()
    sinks.write(frame(source=one.source), one)
    sinks.finish([one.source])
    sinks.close()
    assert sinks.files == list(tmp_path.iterdir()) == [tmp_path / f"{Path(one.source).name}.jsonl"]
