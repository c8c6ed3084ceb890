"""The line of each minute, and the numbers of each source at the end."""

from datetime import datetime, timezone

import msgspec
import pytest
from sample_events import event, person

from emotion_runtime.live_report import LiveReport
from emotion_runtime.rates import Rates
from emotion_runtime.types import SourceStatus, StatusLine


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def line(source: str, status: SourceStatus) -> StatusLine:
    return StatusLine(source=source, time=datetime(2026, 3, 1, 12, 3, 4, tzinfo=timezone.utc), status=status)


def add(report: LiveReport, source: str, latency: float, dropped: int) -> None:
    one = event(person(1, (0, 0, 9, 9)), person(2, (0, 0, 9, 9), state="lost"))
    report.add(msgspec.structs.replace(one, source=source, latency_ms=latency, dropped=dropped))


def test_one_line_a_minute_and_one_per_source_at_the_end():
    clock = Clock()
    report = LiveReport(dict, clock)
    report.add_status(line("door", "live"))
    report.add_status(line("yard", "lost"))
    for index in range(101):
        add(report, "door", float(index), index // 10)
    clock.now += 59
    assert report.line() is None
    clock.now += 1
    assert report.line() == (
        "last 60 s: door 1.7 events/s, latency p95 95 ms, 10 dropped, 1 in view; "
        "yard lost since 12:03:04 UTC, 0.0 events/s, 0 dropped, 0 in view"
    )
    assert report.line() is None
    report.add_status(line("yard", "live"))
    report.add_status(line("door", "lost"))
    clock.now += 60
    text = report.line() or ""
    assert "door lost since 12:03:04 UTC, 0.0 events/s, 0 dropped, 0 in view" in text
    assert report.closing_lines() == [
        "door: 101 events (0.8/s), 10 frames dropped, lost once for 60.0 s in all",
        "yard: 0 events (0.0/s), 0 frames dropped, lost once for 60.0 s in all",
    ]


def test_a_source_that_has_ended_is_told_once_and_again_when_it_comes_back():
    clock = Clock()
    report = LiveReport(dict, clock)
    report.add_status(line("door", "live"))
    add(report, "door", 5.0, 0)
    clock.now += 60
    assert "door 0.0 events/s" in (report.line() or "")
    report.add_status(line("door", "ended"))
    clock.now += 60
    assert (report.line() or "").startswith("last 60 s: door ended since 12:03:04 UTC, 0.0 events/s")
    clock.now += 60
    assert report.line() == "last 60 s: no events"
    assert len(report.closing_lines()) == 1
    report.add_status(line("door", "connecting"))
    clock.now += 60
    assert "door connecting" in (report.line() or "")


def test_where_single_people_are_not_published_nothing_tells_how_many_there_are():
    clock = Clock()
    rates = Rates(detect_every=0.1, encode_every=0.5)
    report = LiveReport(lambda: {"door": rates}, clock, people=False)
    add(report, "door", 5.0, 0)
    clock.now += 60
    text = f"{report.line()} {report.closing_lines()}"
    assert "detected every 0.10 s" in text
    assert "in view" not in text
    assert "person" not in text


@pytest.mark.parametrize("status", ["connecting", "frozen", "lost", "paused", "ended"])
def test_without_new_images_nobody_is_in_view(status: SourceStatus):
    clock = Clock()
    report = LiveReport(dict, clock)
    add(report, "door", 1.0, 0)
    report.add_status(line("door", "degraded"))
    clock.now += 60
    assert "1 in view" in (report.line() or "")
    report.add_status(line("door", status))
    clock.now += 60
    assert "0 in view" in (report.line() or "")


def test_losses_are_counted_once_each_whatever_happens_meanwhile():
    clock = Clock()
    report = LiveReport(dict, clock)
    for status in ("live", "lost", "connecting", "lost", "live", "lost", "live"):
        report.add_status(line("door", status))
        clock.now += 1
    assert report.closing_lines()[0].endswith("lost 2 times for 4.0 s in all")
