"""What a run prints at its end."""

import pytest
from sample_events import event, person

from emotion_runtime.closing_report import closing_lines, files_line, people_lines, photo_lines
from emotion_runtime.metrics import RunReport
from emotion_runtime.summary import PersonSummary, SourceSummary

BOX = (0.0, 0.0, 9.0, 9.0)


def seen(number: int, seconds: float, **emotions: float) -> PersonSummary:
    return PersonSummary(id=number, seconds=seconds, emotions=emotions)


def source(*persons: PersonSummary, others: int = 0) -> SourceSummary:
    return SourceSummary(frames=10, seconds=6.0, persons=list(persons), others=others)


def test_seconds_and_shares_of_each_person():
    found = source(seen(1, 5.84, happiness=0.94, neutral=0.06), seen(2, 6.0, neutral=0.5, fear=0.004))
    assert people_lines({"demo": found}, named=False) == [
        "person 1: 5.8 s: happiness 94 %, neutral 6 %",
        "person 2: 6.0 s: neutral 50 %, no label 50 %",
    ]


def test_several_sources_are_named():
    lines = people_lines({"a.mp4": source(seen(1, 2.0, joy=1.0)), "b.mp4": source(seen(1, 1.0))}, named=True)
    assert lines == ["a.mp4: person 1: 2.0 s: joy 100 %", "b.mp4: person 1: 1.0 s: no label 100 %"]


def test_only_the_main_emotions_are_printed():
    (line,) = people_lines({"a": source(seen(1, 9.0, a=0.4, b=0.3, c=0.2, d=0.1))}, named=False)
    assert line == "person 1: 9.0 s: a 40 %, b 30 %, c 20 %"


def test_crowds_are_cut_to_those_seen_longest():
    lines = people_lines(
        {"a": source(*(seen(i, float(i), joy=1.0) for i in range(1, 31)), others=5)}, named=False
    )
    assert len(lines) == 21
    assert lines[0].startswith("person 11: 11.0 s")
    assert lines[-1] == "and 15 more people, each seen for 11.0 s or less"


def test_lines_of_photos():
    persons = [person(1, BOX, state="photo"), person(2, BOX, state="photo", top=None)]
    assert photo_lines("a.jpg", persons) == [
        "a.jpg: person 1 happiness 57 %",
        "a.jpg: person 2 no label (uncertain)",
    ]
    assert photo_lines("a.jpg", []) == ["a.jpg: nobody found"]


def test_lines_without_ids():
    found = source(seen(1, 5.0, joy=1.0), seen(2, 1.0, joy=1.0))
    lines = people_lines({"a": found}, named=False, ids=False)
    assert lines == ["one person: 5.0 s: joy 100 %", "one person: 1.0 s: joy 100 %"]
    (line,) = photo_lines("a.jpg", [person(3, BOX, state="photo")], ids=False)
    assert line == "a.jpg: one person happiness 57 %"


def test_files_written():
    assert files_line("wrote", []) == ""
    assert files_line("wrote", ["a.mp4", "a.jsonl"]) == "wrote a.mp4, a.jsonl"
    assert (
        files_line("wrote", [f"{i}.jpg" for i in range(100)])
        == "wrote 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, 95 more"
    )


def test_a_video_among_photos_is_named():
    report = RunReport(0.0)
    report.add(event(person(1, BOX)))
    report.add(event(person(1, BOX, state="photo")), still=True)
    lines = closing_lines(report, {"a.mp4": source(seen(1, 2.0, joy=1.0))}, [])
    assert lines == ["a.mp4: person 1: 2.0 s: joy 100 %", "video.mp4: person 1 happiness 57 %"]


def test_files_of_a_failed_output_are_not_said_to_be_written():
    report = RunReport(0.0)
    report.add(event(person(1, BOX)))
    assert closing_lines(report, {}, ["a.jsonl"], ["a.mp4"]) == [
        "wrote a.jsonl",
        "incomplete, because this output failed: a.mp4",
    ]


@pytest.mark.parametrize(("frames", "words"), [(1, "1 frame:"), (30, "30 frames:")])
def test_run_without_anybody_gets_one_hint(frames: int, words: str):
    report = RunReport(0.0)
    for index in range(frames):
        report.add(event(frame=index), still=frames == 1)
    lines = closing_lines(report, {}, ["a.jsonl"])
    assert len(lines) == 2
    assert lines[0].startswith(f"nobody was found in {words}")
    assert "--detector-size" in lines[0]
    assert lines[1] == "wrote a.jsonl"


def test_zones_are_named_first_where_nobody_was_found():
    report = RunReport(0.0)
    report.add(event())
    (hint,) = closing_lines(report, {}, [], zones=True)
    assert hint.startswith("nobody was found in 1 frame outside the zones: a --zone may cover the people;")
    assert "--detector-size 1280" in hint
    assert "zone" not in closing_lines(report, {}, [])[0]


def test_false_detections_are_nobody():
    report = RunReport(0.0)
    for index in range(30):
        report.add(event(*([person(index, BOX, state="new")] if index > 5 else []), frame=index))
    assert closing_lines(report, {}, [])[0].startswith("nobody was found in 30 frames")
