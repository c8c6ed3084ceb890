"""What the page shows of a run, without a server: limits, timelines, traffic, metrics, cameras."""

from concurrent.futures import CancelledError
from datetime import datetime, timezone
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from sample_events import event, person

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import EmotionEvent, SourceStatus, StatusLine
from emotion_runtime.web.analyses import Analyses, decode_image
from emotion_runtime.web.cameras import CameraRefused, Cameras
from emotion_runtime.web.feed import EventFeed
from emotion_runtime.web.limits import RateLimit
from emotion_runtime.web.session import LiveSession
from emotion_runtime.web.sign import Sign, sign_page
from emotion_runtime.web.timeline import LiveTimeline
from emotion_runtime.web.traffic import Traffic

if TYPE_CHECKING:
    from emotion_runtime.sources import Address

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


class Control:
    def __init__(self, names: tuple[str, ...] = ("door", "yard")) -> None:
        self.done: list[tuple[str, str]] = []
        self.present = names

    def pause(self, name: str) -> None:
        self._note("pause", name)

    def resume(self, name: str) -> None:
        self._note("resume", name)

    def remove(self, name: str) -> None:
        self._note("remove", name)

    def names(self) -> list[str]:
        return list(self.present)

    def _note(self, what: str, name: str) -> None:
        if name not in self.present:
            raise EmotionError(f"there is no source {name!r}")
        self.done.append((what, name))


def test_cameras_are_added_only_where_it_is_allowed():
    added: list[Address] = []
    with pytest.raises(CameraRefused, match="--serve-cameras"):
        Cameras(Control(), added.append).add("rtsp://10.0.0.1/a")
    with pytest.raises(CameraRefused, match="--serve-cameras"):
        Cameras(Control(), added.append).remove("door")
    cameras = Cameras(Control(), added.append, allow_adding=True)
    assert cameras.add("gate=rtsp://user:secret@10.0.0.1/a") == "gate"
    assert [address.kind for address in added] == ["network"]
    cameras.remove("door")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/etc/passwd",
        "people.mp4",
        "file:///etc/passwd",
        "gst:filesrc location=/etc/passwd ! fakesink",
        "0",
        "/dev/video0",
        "v4l2:///dev/video0",
        "csi://0",
        "demo",
        "-",
        "a=/etc/passwd",
        "rtsp://${HOME}@h/",
        "rtsp://h/\nx",
        "http://" + 3000 * "a",
        "concat:a|b",
        "x=gst:videotestsrc ! fakesink",
    ],
)
def test_only_addresses_of_network_cameras_can_be_added(uri: str):
    added: list[Address] = []
    with pytest.raises(EmotionError) as caught:
        Cameras(Control(), added.append, allow_adding=True).add(uri)
    assert not added
    assert "passwd" not in str(caught.value)


def test_the_last_camera_is_not_removed():
    control = Control(("door",))
    with pytest.raises(CameraRefused, match="pause it"):
        Cameras(control, lambda _: None, allow_adding=True).remove("door")
    assert not control.done


def test_analyses_run_in_the_thread_of_the_run_and_the_queue_is_short():
    analyses = Analyses(lambda image: [person(int(image[0, 0, 0]), BOX)])
    futures = [analyses.submit(np.full((2, 2, 3), i, np.uint8)) for i in range(1, 7)]
    assert [future is not None for future in futures] == [True] * 4 + [False] * 2
    first, second, third, fourth = filter(None, futures)
    analyses.run_one()
    assert first.result()[0].id == 1
    assert not second.done()
    second.cancel()
    analyses.run_one()
    analyses.run_one()
    assert third.result()[0].id == 3
    analyses.close()
    with pytest.raises(CancelledError):
        fourth.result()
    assert analyses.submit(np.zeros((2, 2, 3), np.uint8)) is None
    analyses.run_one()


def test_an_analysis_that_fails_does_not_end_the_run():
    def look(_: object) -> list[object]:
        raise ValueError("no")

    analyses = Analyses(look)  # type: ignore[arg-type]
    future = analyses.submit(np.zeros((2, 2, 3), np.uint8))
    analyses.run_one()
    assert future
    assert isinstance(future.exception(), ValueError)


def encoded(size: tuple[int, int], kind: str, mode: str = "RGB") -> bytes:
    data = BytesIO()
    Image.new(mode, size, "red").save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_images_are_decoded_as_bgr(kind: str):
    image = decode_image(encoded((8, 4), kind))
    assert image.shape == (4, 8, 3)
    assert image[0, 0, 2] > 240
    assert image[0, 0, 0] < 20


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", encoded((8, 8), "GIF", "P"), encoded((8, 8), "BMP"), encoded((64, 64), "PNG")[:60]],
)
def test_other_bodies_are_no_images(data: bytes):
    with pytest.raises(EmotionError, match="expected a JPEG, PNG or WebP"):
        decode_image(data)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded():
    with pytest.raises(EmotionError, match="10000 x 5000 pixels"):
        decode_image(encoded((10_000, 5000), "PNG", "1"))


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
