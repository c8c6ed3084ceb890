"""Events in other forms: dictionaries, rows, tables of pandas, and JSON lines read back."""

import codecs
import gzip
import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from sample_events import event, frame, person

from emotion_runtime import EmotionError
from emotion_runtime.dataframe import to_dataframe
from emotion_runtime.reader import read_events
from emotion_runtime.sinks.jsonl import JsonlSink

SCHEMA_1 = {
    "schema": 1,
    "source": "demo",
    "frame": 3,
    "t": 0.12,
    "persons": [
        {
            "id": 1,
            "box": [1.5, 2.0, 3.0, 4.0],
            "score": 0.9,
            "state": "steady",
            "emotions": {"joy": 0.7, "anger": 0.3},
            "raw": {"joy": 0.7, "anger": 0.3},
            "top": "joy",
            "valence": None,
            "arousal": 0.5,
            "dominance": None,
        },
        {
            "id": 2,
            "box": [5, 6, 7, 8],
            "score": 0.8,
            "state": "warming",
            "emotions": {},
            "raw": {},
            "top": None,
        },
        {
            "id": 3,
            "box": [5, 6, 7, 8],
            "score": 0.8,
            "state": "steady",
            "emotions": {"joy": 0.5, "anger": 0.5},
            "raw": {"joy": 0.5, "anger": 0.5},
            "top": None,
        },
    ],
    "latency_ms": 0.0,
    "dropped": 0,
}


def test_dictionary_is_what_the_line_of_json_holds(tmp_path: Path):
    one = event(person(1, (1.23456, 2, 3, 4)), person(2, (5, 6, 7, 8), top=None), t=1 / 3)
    sink = JsonlSink(str(tmp_path / "out.jsonl"))
    sink.write(frame(), one)
    sink.close()
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[-1]) == one.to_dict()
    assert "time" not in one.to_dict()
    timed = msgspec.structs.replace(one, time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc))
    assert timed.to_dict()["time"] == "2026-01-02T03:04:05Z"


def test_one_flat_row_per_person():
    first, second = event(person(1, (1, 2, 3, 4)), person(2, (5, 6, 7, 8), top=None)).to_rows()
    assert (first["source"], first["id"], first["top"], first["why"]) == (
        "video.mp4",
        1,
        "happiness",
        None,
    )
    assert [first[side] for side in ("x1", "y1", "x2", "y2")] == [1, 2, 3, 4]
    assert first["confidence"] == first["p_happiness"] == pytest.approx(4 / 7)
    assert (first["head_px"], first["sharpness"], first["arousal"]) == (2, None, None)
    assert (second["confidence"], second["why"]) == (None, "uncertain")
    assert list(first) == list(second)
    assert not any(isinstance(value, dict | list) for value in first.values())


def test_confidence_is_the_probability_of_the_label():
    assert person(1, (0, 0, 9, 9)).confidence == pytest.approx(4 / 7)
    assert person(1, (0, 0, 9, 9), top=None).confidence is None


def test_text_of_a_frame_is_short():
    assert repr(frame(3, 0.12)) == "Frame('a', index=3, t=0.12, 480 x 270)"


def test_table_of_pandas(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("table", rows)))
    events = [event(person(1, (1, 2, 3, 4))), event(person(1, (1, 2, 3, 4)), frame=1)]
    assert to_dataframe(events) == ("table", [row for each in events for row in each.to_rows()])


def test_without_pandas_one_line_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(EmotionError, match="pip install pandas, or use event"):
        to_dataframe([])


def test_written_events_are_read_back(tmp_path: Path):
    path = tmp_path / "out.jsonl"
    events = [event(person(1, (1.25, 2, 3, 4)), frame=index, t=index / 4) for index in range(3)]
    sink = JsonlSink(str(path))
    for each in events:
        sink.write(frame(), each)
    sink.close()
    assert [each.to_dict() for each in read_events(path)] == [each.to_dict() for each in events]


def test_events_of_schema_1_are_upgraded(tmp_path: Path):
    path = tmp_path / "old.jsonl"
    path.write_text(json.dumps(SCHEMA_1) + "\n")
    (read,) = read_events(str(path))
    assert (read.schema, read.type, read.frame, read.t) == (2, "frame", 3, 0.12)
    assert [each.why for each in read.persons] == [None, "warming", "uncertain"]
    assert read.persons[0].box == (1.5, 2.0, 3.0, 4.0)
    assert read.persons[0].arousal == 0.5
    assert read.persons[0].quality is None


def test_other_lines_and_a_truncated_last_one_are_left_out(tmp_path: Path):
    path = tmp_path / "out.jsonl"
    line = json.dumps(event(person(1, (1, 2, 3, 4))).to_dict())
    run = '{"schema":2,"type":"run","version":"1","bundle":"nano","bundle_sha256":"0","head":"probe"}'
    path.write_text(f"{run}\n{line}\n\n{line[:40]}")
    assert len(list(read_events(path))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'a': 1}\n", "line 1: not JSON"),
        ("[1]\n", "not a line of --jsonl; expected an object with `schema`"),
        ('{"schema": 3}\n', "schema 3; expected 1 to 2: update this program"),
        ('{"schema": 2, "type": "frame"}\n', "not an event"),
        ('{"schema": 1, "source": "a", "frame": 0, "t": 0, "persons": [null]}\n', "not an event"),
        ('{"schema": 1, "source": "a", "frame": 0, "t": 0, "persons": null}\n', "not an event"),
    ],
)
def test_files_that_are_not_events(tmp_path: Path, text: str, message: str):
    path = tmp_path / "out.jsonl"
    path.write_text(text)
    with pytest.raises(EmotionError, match=message):
        list(read_events(path))


def test_missing_file_of_events(tmp_path: Path):
    with pytest.raises(EmotionError, match=r"nothing\.jsonl cannot be read"):
        list(read_events(tmp_path / "nothing.jsonl"))


def test_a_mark_of_utf_8_is_read_and_other_encodings_are_named(tmp_path: Path):
    path, line = (
        tmp_path / "events.jsonl",
        '{"schema":2,"type":"frame","source":"a","frame":0,"t":0,"persons":[]}\n',
    )
    path.write_bytes(codecs.BOM_UTF8 + line.encode())
    assert len(list(read_events(path))) == 1
    for content, expected in ((line.encode("utf-16"), "in UTF-16"), (gzip.compress(line.encode()), "gzip")):
        path.write_bytes(content)
        with pytest.raises(EmotionError, match=expected):
            list(read_events(path))
