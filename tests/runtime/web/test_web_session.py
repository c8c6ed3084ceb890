"""What the page shows of a run, without a server: limits, timelines, traffic, metrics."""

from datetime import datetime, timezone

import pytest
from sample_events import event, person

from emotion_runtime.types import EmotionEvent, SourceStatus, StatusLine
from emotion_runtime.web.feed import EventFeed
from emotion_runtime.web.limits import RateLimit
from emotion_runtime.web.session import LiveSession
from emotion_runtime.web.sign import Sign, sign_page
from emotion_runtime.web.timeline import LiveTimeline
from emotion_runtime.web.traffic import Traffic

BOX = (0.0, 0.0, 50.0, 60.0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def status(source: str, value: SourceStatus, reason: str | None = None) -> StatusLine:
    return StatusLine(source=source, time=datetime.now(timezone.utc), status=value, reason=reason)


def test_a_client_gains_requests_with_time():
    clock = Clock()
    limit = RateLimit(2, 3, clock)
    assert [limit.take("a") for _ in range(4)] == [True, True, True, False]
    assert limit.take("b")
    clock.now += 0.5
    assert [limit.take("a") for _ in range(2)] == [True, False]


def test_a_network_of_ipv6_is_one_client_and_old_ones_are_forgotten():
    limit = RateLimit(1, 1, Clock())
    assert limit.take("2001:db8::1")
    assert not limit.take("2001:db8::2")
    assert limit.take("2001:db8:0:1::1")
    for i in range(3000):
        limit.take(f"10.0.{i // 256}.{i % 256}")
    assert len(limit._left) == 1000


def test_a_timeline_has_a_bounded_number_of_parts():
    timeline = LiveTimeline()
    for second in range(10_000):
        timeline.add(second, "happiness" if second % 2 else None, 1.0)
    view = timeline.view()
    assert len(view.parts) <= 360
    assert sum(part["happiness"] for part in view.parts) == pytest.approx(5000)
    assert view.part_seconds == 32.0


def test_a_session_has_shares_changes_and_markers():
    clock = Clock()
    session = LiveSession(clock)
    for i in range(11):
        clock.now = 100 + 0.5 * i
        session.add(event(person(1, BOX, top="happiness" if i < 6 else "sadness"), t=0.5 * i, frame=i))
    assert session.mark("door").at == 5.0
    view = session.view()
    assert view.shares == {"happiness": 0.5, "sadness": 0.5}
    assert view.labelled_seconds == 5.0
    assert [(one.before, one.after, one.at) for one in view.changes] == [
        (None, "happiness", 0.0),
        ("happiness", "sadness", 3.0),
    ]
    assert [one.text for one in view.markers] == ["door"]
    assert [(one.source, one.id) for one in view.people] == [("video.mp4", 1)]
    assert view.sources["video.mp4"].frames == 11


def test_viewers_share_a_view_for_a_second_unless_somebody_sets_a_marker():
    clock = Clock()
    session = LiveSession(clock)
    first = session.encoded()
    clock.now += 0.9
    assert session.encoded() is first
    clock.now += 0.1
    second = session.encoded()
    assert second != first
    session.mark("door")
    assert b"door" in session.encoded()


def test_a_pause_of_a_source_is_not_counted_for_its_people():
    clock = Clock()
    session = LiveSession(clock)
    for now in (0.0, 1.0, 500.0):
        clock.now = now
        session.add(event(person(1, BOX), t=now))
    assert session.view().labelled_seconds <= 2.0


def test_without_ids_there_are_no_timelines_of_people():
    session = LiveSession(Clock())
    session.add(event(person(0, BOX)))
    view = session.view()
    assert not view.people
    assert not view.changes


def test_a_session_of_many_people_is_bounded():
    session = LiveSession(Clock())
    for number in range(1, 1500):
        session.add(event(person(number, BOX)))
    view = session.view()
    assert len(view.people) == 30
    assert view.people[-1].id == 1499
    assert len(view.changes) == 1000


def test_traffic_has_the_rate_and_the_percentiles_of_the_last_seconds():
    clock = Clock()
    traffic = Traffic(clock)
    traffic.add_status(status("video.mp4", "live"))
    for i in range(31):
        clock.now = 100 + 0.1 * i
        traffic.add(event(person(1, BOX), person(2, BOX, state="lost"), frame=i))
    state = traffic.states()[0]
    assert state.fps == pytest.approx(10.0)
    assert (state.status, state.people, state.dropped, state.frames) == ("live", 1, 2, 31)
    assert state.latency_p95_ms == pytest.approx(12.3)
    traffic.add_status(status("video.mp4", "lost", "no image"))
    traffic.add_status(status("video.mp4", "lost", "refused"))
    clock.now += 60
    state = traffic.states()[0]
    assert (state.fps, state.people, state.lost, state.reason) == (0.0, 0, 1, "refused")


def test_a_slow_listener_loses_the_oldest_events():
    feed = EventFeed()
    feed.put(event())
    listener = feed.listen()
    for i in range(300):
        feed.put(event(frame=i))
    lines = listener.take()
    assert len(lines) == 256
    assert b'"frame":299' in lines[-1]
    assert listener.lost == 44
    feed.leave(listener)
    feed.put(event())
    assert not listener.take()


def test_the_notice_is_filled_in_and_says_what_is_missing():
    page = sign_page(Sign(who="<b>Museum</b>", cameras=("door", "<i>")))
    assert "&lt;b&gt;Museum&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "--notice-why" in page
    assert "door, &lt;i&gt;" in page


def test_metrics_are_read_by_their_own_parser():
    pytest.importorskip("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    from emotion_runtime.web.prometheus import Metrics  # noqa: PLC0415

    metrics = Metrics("1.2.3")
    for dropped in (0, 3, 5, 1):  # opened anew before the last one
        metrics.add(
            EmotionEvent(
                source="door", frame=0, t=0, persons=[person(7, BOX)], latency_ms=120, dropped=dropped
            )
        )
    metrics.add_stages({"detect": 0.1})
    metrics.add_stages({"detect": 0.15})
    for value in ("live", "lost", "lost", "connecting", "live"):
        metrics.add_status(status("door", value))  # type: ignore[arg-type]
    for i in range(100):
        metrics.add(EmotionEvent(source=f"photo {i}", frame=0, t=0, persons=[]))
    families = {each.name: each for each in text_string_to_metric_families(metrics.text().decode())}
    found = {(s.name, *sorted(s.labels.values())): s.value for f in families.values() for s in f.samples}
    assert found["emotion_dropped_frames_total", "door"] == 6
    assert found["emotion_reconnects_total", "door"] == 1
    assert found["emotion_frames_total", "door"] == 4
    assert found["emotion_people", "door"] == 0  # since it was lost
    assert found["emotion_capture_to_event_seconds_bucket", "0.15", "door"] == 4
    assert found["emotion_capture_to_event_seconds_bucket", "2.5", "door"] == 4
    assert found["emotion_stage_seconds_count", "detect"] == 2
    counted = [key for key in found if key[0] == "emotion_frames_total"]
    assert len(counted) == 65  # 64 sources, and one series for all others
    assert "7" not in {
        value for family in families.values() for s in family.samples for value in s.labels.values()
    }
