"""Tables: exact rows, files that go on, and texts that no spreadsheet may calculate."""

import csv
import json
from pathlib import Path

import pytest
from parsed_pages import RUN
from sample_events import EMOTIONS, event, frame, person

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.base import Outputs
from emotion_runtime.sinks.csv_file import COLUMNS, CsvSink
from emotion_runtime.sinks.csv_text import csv_comment, csv_line
from emotion_runtime.sinks.outputs import check_outputs, summary_path
from emotion_runtime.sinks.rotation import Rotation
from emotion_runtime.types import EmotionEvent, Person, RunLine

BOX = (1.0, 2.0, 31.0, 42.0)


def sink_of(path: Path, **options: object) -> CsvSink:
    settings: dict = {"labels": EMOTIONS, "run": RUN} | options
    return CsvSink(str(path), Outputs(**settings))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def from_source(source: str, top: str = "sad") -> EmotionEvent:
    one = Person(id=1, box=BOX, score=1.0, state="steady", top=top, emotions={top: 1.0}, raw={top: 1.0})
    return EmotionEvent(source=source, frame=0, t=0.0, persons=[one])


def test_exact_rows(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    one = Person(
        id=7,
        box=(1.234, 2, 3, 4),
        score=0.5,
        state="steady",
        top="sad",
        emotions={"sad": 0.75, "glad": 0.25},
        raw={"sad": 1.0},
        arousal=-0.5,
    )
    sink = CsvSink(str(path), Outputs(labels=("glad", "sad"), run=RUN))
    sink.write(frame(), EmotionEvent(source="a.mp4", frame=3, t=0.12, persons=[one]))
    sink.write(frame(), EmotionEvent(source="a.mp4", frame=4, t=0.16, persons=[]))
    comment, header, row = path.read_text().splitlines()  # before the file is closed: nothing is buffered
    assert json.loads(comment.removeprefix("# "))["bundle"] == "nano"
    assert header == (
        "source,frame,t,time,id,x1,y1,x2,y2,score,state,top,why,confidence,head_px,sharpness,inside,frontal,"
        "roll_deg,valence,arousal,dominance,p_glad,p_sad"
    )
    assert row == "a.mp4,3,0.12,,7,1.23,2,3,4,0.5,steady,sad,,0.75,,,,,,,-0.5,,0.25,0.75"
    sink.close()
    sink.close()


def test_columns_do_not_depend_on_the_events(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    sink = sink_of(path)
    new = Person(id=1, box=BOX, score=0.9, state="new", why="warming")  # has no probabilities yet
    for one in (new, person(1, BOX), person(1, BOX, top=None)):
        sink.write(frame(), event(one))
    sink.close()
    assert [list(row) for row in rows(path)] == [[*COLUMNS, *(f"p_{label}" for label in EMOTIONS)]] * 3
    assert [row["why"] for row in rows(path)] == ["warming", "", "uncertain"]
    assert rows(path)[0]["p_anger"] == ""


def test_pandas_reads_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "people.csv"
    sink = sink_of(path)
    for index, source in enumerate(("a#b.mp4", "# c.mp4", "d\n#.mp4", 'e"f.mp4')):
        sink.write(frame(index), from_source(source))
    sink.close()
    table = pandas.read_csv(path, comment="#")
    assert list(table["source"]) == ["a#b.mp4", "# c.mp4", "d\ufffd#.mp4", 'e"f.mp4']
    assert list(table["x2"]) == [31.0] * 4


@pytest.mark.parametrize(
    "name",
    ["=HYPERLINK(1)", "+1", "-1.mp4", "@SUM(1)", "\t=1", " =1", "\uff1d1", '=cmd|"/c calc"!A1', "a\r\n=1,=2"],
)
def test_no_text_is_a_formula(tmp_path: Path, name: str) -> None:
    path = tmp_path / "people.csv"
    sink = CsvSink(str(path), Outputs(labels=("sad", name), run=RUN))
    sink.write(frame(), from_source(name, name))
    sink.close()
    for each in (path, tmp_path / "people-summary.csv"):
        with each.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
        texts = [value for line in lines[1:] for value in line]
        assert len({len(line) for line in lines[1:]}) == 1
        assert not any(value.lstrip().startswith(("=", "+", "-", "@", "\uff1d")) for value in texts)
    assert rows(path)[0]["roll_deg"] == ""


def test_the_comment_is_no_formula_either() -> None:
    name = "a,=1;+2"
    line = csv_comment(RunLine(version="1", bundle=name, bundle_sha256="", head="=1", options={"x": -1}))
    assert json.loads(line.removeprefix(b"# "))["bundle"] == name
    for separator in ",;":
        (fields,) = csv.reader([line.decode()], delimiter=separator)
        assert not any(field.strip(' "').startswith(("=", "+", "@")) for field in fields)


def test_names_that_are_not_unicode_are_written() -> None:
    assert csv_line(["a\udcffb", "\u00e9"]).decode() == "a?b,\u00e9\n"


def test_an_appended_file_has_one_header_and_a_comment_for_each_run(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    for index in range(2):
        sink = sink_of(path, append=True)
        for step in range(3):
            sink.write(frame(step), event(person(1, BOX), frame=step, t=step + index))
        sink.close()
    for each, count in ((path, 6), (tmp_path / "people-summary.csv", 2)):
        lines = each.read_text().splitlines()
        assert [line[:1] for line in lines].count("#") == 2
        assert sum(line.startswith("source,") for line in lines) == 1
        assert len(rows(each)) == count
    sink_of(path).close()
    assert rows(path) == []  # replaced


def test_an_incomplete_row_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    sink = sink_of(path)
    sink.write(frame(), event(person(1, BOX)))
    sink.close()
    whole = path.read_bytes()
    for cut in (10, len(whole) - 1):  # within the comment, and before the last line break
        path.write_bytes(whole[:cut])
        again = sink_of(path, append=True)
        again.write(frame(), event(person(2, BOX)))
        again.close()
        assert [row["id"] for row in rows(path)] == ["2"]
        assert path.read_text().count("source,") == 1


def test_other_columns_are_an_error_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    sink_of(path).close()
    before = path.read_bytes()
    with pytest.raises(EmotionError, match=r"other columns than this run.*--overwrite"):
        sink_of(path, append=True, labels=("sad",))
    (tmp_path / "people-summary.csv").unlink()
    with pytest.raises(EmotionError, match=r"other columns than this run.*--overwrite"):
        sink_of(path, append=True, labels=("sad",))
    assert path.read_bytes() == before
    first = sink_of(path)
    with pytest.raises(EmotionError, match="is being written by another run"):
        sink_of(path, append=True)
    first.close()


def test_each_part_of_a_rotated_table_can_be_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    sink = sink_of(path, rotation=Rotation(10_000))
    for index in range(200):
        sink.write(frame(index), event(person(1, BOX), frame=index))
    sink.close()
    parts = sorted(tmp_path.glob("people-0*.csv"))
    assert len(parts) > 1
    assert [row["frame"] for each in (*parts, path) for row in rows(each)] == [str(n) for n in range(200)]
    assert sink.files == [*parts, path, tmp_path / "people-summary.csv"]


def test_summary_has_seconds_shares_and_changes(tmp_path: Path) -> None:
    sink = sink_of(tmp_path / "people.csv", labels=("happiness", "sadness", "fear"))
    tops = ["happiness", "sadness", None, "sadness", "happiness", "happiness", None, "happiness"]
    for index, top in enumerate(tops):
        sink.write(frame(index), event(person(1, BOX, top=top), frame=index, t=10 + index / 2))
    sink.close()
    comment, header, row = (tmp_path / "people-summary.csv").read_text().splitlines()
    assert comment.startswith("# {")
    assert header == (
        "source,id,first_t,last_t,seconds,changes,no_label,share_happiness,share_sadness,share_fear"
    )
    assert row == "video.mp4,1,10.0,13.5,4.0,2,0.25,0.5,0.25,0.0"


def test_of_a_single_frame_there_are_no_shares(tmp_path: Path) -> None:
    sink = sink_of(tmp_path / "people.csv", labels=("happiness",))
    sink.write(frame(), event(person(1, BOX)))
    sink.close()
    assert (tmp_path / "people-summary.csv").read_text().splitlines()[-1] == "video.mp4,1,0.0,0.0,0.0,0,,"


def test_summary_that_cannot_be_written_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    sink = CsvSink(str(tmp_path / "people.csv"), Outputs(labels=EMOTIONS))
    sink.write(frame(), event(person(1, (0, 0, 9, 9))))
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EmotionError, match=r"people-summary\.csv cannot be written"):
        sink.close()
    assert sink.files == list(tmp_path.iterdir()) == [tmp_path / "people.csv"]


def test_the_summary_lies_beside_a_file_only(tmp_path: Path) -> None:
    assert summary_path("a/people.csv") == Path("a/people-summary.csv")
    assert summary_path("people") == Path("people-summary")
    assert summary_path("-") is summary_path("/dev/null") is None
    with pytest.raises(EmotionError, match=r"--csv .*people\.csv would overwrite the source"):
        check_outputs(None, None, [str(tmp_path / "people.csv")], csv=str(tmp_path / "people.csv"))
    with pytest.raises(EmotionError, match=r"people-summary\.csv would overwrite the output of --jsonl"):
        check_outputs("people-summary.csv", None, ["demo"], csv="people.csv")
