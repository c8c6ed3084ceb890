"""Pages about sessions: what they say, what they refuse to run, and how much memory they need."""

import json
import re
import tracemalloc
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from parsed_pages import BOX, RUN, START, Parsed, one, session_of, text_of
from sample_events import frame

from emotion_runtime import report_command as command
from emotion_runtime.sinks.jsonl import JsonlSink
from emotion_runtime.sinks.report.from_lines import read_sessions
from emotion_runtime.sinks.report.page import page
from emotion_runtime.sinks.report.session import MAX_LABELS, MAX_SOURCES, Session
from emotion_runtime.sinks.report.text import clock, escaped
from emotion_runtime.sinks.report.timeline import BINS, Timeline
from emotion_runtime.types import EmotionEvent, Person, RunLine, StatusLine


def test_page_has_shares_changes_quality_reasons_drops_and_what_made_it() -> None:
    text = text_of(session_of("happiness", "sadness", "sadness", None))
    for part in (
        "Emotion recognition ran on video.mp4",
        "Person 1 seen for 2.0 s between 0:00.0 and 0:01.5; 1 change of the label",
        "sadness 50 %",
        "happiness 25 %",
        "no label 25 %",
        "Reasons for no label: uncertain 0.5 s",
        "head 30 pixels wide",
        "frames dropped 2",
        "latency, mean 12 ms",
        "Model nano , head probe , emotion-runtime 0.1.0",
        '"every": 0.5',
    ):
        assert part in text, part
    assert re.search(r"Moments of change.* 0:00.5 1 happiness sadness", text)


def test_timelines_show_each_label_where_it_was() -> None:
    drawing = page(session_of("happiness", "happiness", "sadness", "sadness"))
    chart = re.findall(r'<svg role="img".*?</svg>', drawing)[-1]
    happy, sad = re.findall(r'<path class="k\d" d="(.*?)"', chart)
    assert happy.startswith("M0.0 0.0")  # from the left edge ...
    assert max(float(x) for x in re.findall(r"M([\d.]+)", happy)) < 500  # ... to the middle
    assert min(float(x) for x in re.findall(r"M([\d.]+)", sad)) == 500


def test_the_same_events_give_the_same_page_and_it_loads_nothing() -> None:
    first, second = (page(session_of("happiness", None)) for _ in range(2))
    assert first == second
    assert not {"script", "img", "link", "iframe", "object", "image", "use"} & set(Parsed(first).tags)
    assert not re.search(r"https?:|url\(|@import|\bon\w+=", first)
    assert "default-src 'none'" in first
    assert "prefers-color-scheme: dark" in first
    assert 'content="width=device-width' in first


@pytest.mark.parametrize(
    "text",
    [
        "</style><script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "' onload='alert(1)",
        "a\u202egnp.exe",
        "\x00\x1b[2J\n",
        "\udcff",
        "<!--",
        "x" * 100_000,
    ],
)
def test_names_from_outside_are_text(text: str) -> None:
    def session_with(text: str) -> Session:
        run = RunLine(version=text, bundle=text, bundle_sha256="", head=text, options={"head": text})
        session = Session(run)
        for index, top in enumerate((text, "sad", None, text, text)):
            session.add(one(text, top, index=index, t=index))
        session.add_status(StatusLine(source=text, time=START, status="lost", reason=text))
        photo = Person(id=1, box=BOX, score=1.0, state="photo", top=text, emotions={text: 1.0})
        session.add(EmotionEvent(source=text, frame=0, t=0.0, persons=[photo]))
        return session

    plain, hostile = (page(session_with(each), [each]) for each in ("plain", text))
    harmless, found = Parsed(plain), Parsed(hostile)
    assert found.tags == harmless.tags
    assert [key for key, _ in found.attributes] == [key for key, _ in harmless.attributes]
    assert not re.search("[\u202e\x00\x1b]", hostile)
    hostile.encode("utf-8")
    assert len(hostile) < 2 * len(plain) + 20_000


def test_a_month_needs_bounded_memory() -> None:
    def feed(session: Session, begin: int, frames: int) -> None:
        for index in range(begin, begin + frames):  # one in five minutes
            top = ("happiness", "sadness", None)[index % 3]
            session.add(one("hall", top, index=index, person_id=index // 3 + 1, t=300.0 * index))
            if index % 12 == 0:
                session.add_status(StatusLine(source="hall", time=START, status="live"))

    session = Session(RUN)
    tracemalloc.start()
    try:
        feed(session, 0, 3_300)
        before = tracemalloc.get_traced_memory()[0]
        feed(session, 3_300, 5_340)
        month = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert month < 1.2 * before
    text = page(session)
    assert len(text) < 300_000
    assert "30 d 0:00:00" in text
    assert "more people, each seen for" in text
    assert "The last 100 of" in text


def test_many_sources_photos_and_labels_are_counted() -> None:
    session = Session()
    for index in range(500):
        session.add(one(f"{index}.mp4", f"label {index}"), still=index >= 250)
    text = text_of(session)
    assert f"{250 - MAX_SOURCES} more sources are left out" in text
    assert "and 50 more photos" in text
    assert len(session.labels) == MAX_LABELS + 1
    assert "other labels 100 %" in text
    assert len(page(session)) < 300_000


def test_photos_without_people_are_photos(tmp_path: Path) -> None:
    lines = tmp_path / "events.jsonl"
    sink = JsonlSink(str(lines), run=RUN)
    for source, frames in [(f"{index}.jpg", 1) for index in range(250)] + [("empty.mp4", 2)]:
        for index in range(frames):
            sink.write(frame(), EmotionEvent(source=source, frame=index, t=index / 2, persons=[]))
    sink.close()
    (session,) = read_sessions([lines])
    text = text_of(session)
    assert "1.jpg nobody found" in text
    assert "and 50 more photos" in text
    assert [(name, log.frames) for name, log in session.sources.items()] == [("empty.mp4", 2)]


def test_bins_grow_with_time_and_lose_no_seconds() -> None:
    timeline = Timeline()
    for index in range(1000):
        timeline.add("a", index * 7.0, 7.0)
    found = list(timeline.bins())
    assert len(found) <= BINS
    assert sum(spent["a"] for _, spent in found) == pytest.approx(7000)
    assert found[-1][0] + timeline.width >= 7000


def test_people_are_not_seen_while_a_source_is_lost() -> None:
    session = Session(RUN, pause=65.0)
    for index in range(3):
        seen = one("hall", "sad", index=index, t=float(index))
        session.add(msgspec.structs.replace(seen, time=START + timedelta(seconds=index)))
    lost = StatusLine(source="hall", time=START + timedelta(seconds=12), status="lost", reason="no image")
    session.add_status(lost)
    session.add(one("hall", "sad", index=3, t=40.0))
    session.finish()
    assert session.summary("hall").persons[0].seconds == 12.0
    text = text_of(session)
    assert "2026-11-27 01:30:12 UTC lost no image" in text
    assert "ran on hall from 2026-11-27 01:30:00 UTC to 2026-11-27 01:30:02 UTC" in text


def test_people_without_ids_are_not_told_apart() -> None:
    session = Session()
    for index in range(4):
        each = [
            Person(id=0, box=BOX, score=1.0, state="steady", top=top, emotions={top: 1.0})
            for top in ("sad", "glad")
        ]
        session.add(EmotionEvent(source="hall", frame=index, t=float(index), persons=each))
    text = text_of(session)
    assert "Person" not in text
    assert "people not counted" in text
    assert "glad 50 %" in text
    assert "time of all people together 8.0 s" in text


def test_people_in_photos_without_ids_have_no_number() -> None:
    session = Session()
    person_of_photo = Person(id=0, box=BOX, score=1.0, state="photo", top="glad", emotions={"glad": 0.96})
    unsure = Person(id=0, box=BOX, score=1.0, state="photo", why="small")
    session.add(EmotionEvent(source="a.jpg", frame=0, t=0.0, persons=[person_of_photo, unsure]))
    text = text_of(session)
    assert "one person: glad 96 %; one person: no label (small)" in text
    assert "person 0" not in text


def test_times_and_names() -> None:
    times = [clock(seconds) for seconds in (0, 5.26, 59.99, 60, 3723, 86400 * 30 + 1)]
    assert times == ["0:00.0", "0:05.2", "0:59.9", "1:00", "1:02:03", "30 d 0:00:01"]
    assert escaped("a<b>'\"&") == "a&lt;b&gt;&#x27;&quot;&amp;"


def test_hostile_numbers_make_a_page(tmp_path: Path) -> None:
    lines, out = tmp_path / "events.jsonl", tmp_path / "report.html"
    times = (-1e300, 0.0, 1e308, 1e308, 5.0, "x")
    wall = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00", None, None)
    with lines.open("w") as file:
        for index, (t, time) in enumerate(zip(times, wall, strict=False)):
            each = {"id": 1, "box": [1, 2, 3, 4], "score": 1e308, "state": "steady", "top": "none of them"}
            line = {"schema": 2, "type": "frame", "source": "a", "frame": index, "t": t, "persons": [each]}
            file.write(json.dumps(line | ({} if time is None else {"time": time})) + "\n")
        file.write(
            json.dumps({"schema": 2, "type": "status", "source": "a", "time": wall[0], "status": "lost"})
        )
    assert command.main([str(lines), str(out)]) == 0
    Parsed(out.read_text())
