"""What is published over MQTT, with a stand-in for the broker."""

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import msgspec
import pytest
from sample_events import EMOTIONS, event, frame, person

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.group import SinkGroup
from emotion_runtime.sinks.mqtt import MqttSink
from emotion_runtime.sinks.mqtt_camera import MqttCamera, topic_level
from emotion_runtime.sinks.mqtt_options import BrokerAddress, MqttOptions
from emotion_runtime.types import AggregateLine, EmotionEvent, Person, SourceStatus, StatusLine

ADDRESS = BrokerAddress("localhost", 1883, tls=False, prefix="home/emotion")
BOX = (0.0, 0.0, 10.0, 10.0)
NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


class FakeBroker:
    def __init__(self) -> None:
        self.failure: str | None = None
        self.kept: dict[str, list[bytes]] = {}
        self.sent: list[tuple[str, bytes]] = []
        self.received: list[tuple[str, bytes]] = []
        self.repeated = 0
        self.closed = False

    def keep(self, topic: str, payload: bytes) -> None:
        self.kept.setdefault(topic, []).append(payload)

    def repeat(self) -> None:
        self.repeated += 1

    def send(self, topic: str, payload: bytes) -> None:
        self.sent.append((topic, payload))

    def take_received(self) -> list[tuple[str, bytes]]:
        taken, self.received = self.received, []
        return taken

    def close(self) -> None:
        self.closed = True

    def states(self, camera: str = "door") -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.kept.get(f"home/emotion/{camera}/state", [])]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A sink with a stand-in for the broker, and a clock."""

    def __init__(self, **options: Any) -> None:
        self.paused: list[tuple[str, bool]] = []
        self.broker, self.clock = FakeBroker(), Clock()
        given = MqttOptions(
            address=ADDRESS,
            labels=EMOTIONS,
            pause=lambda name, paused: self.paused.append((name, paused)),
            **options,
        )
        self.sink = MqttSink(given, self.broker, self.clock)

    def write(self, *persons: Person, source: str = "door", live: bool = True) -> None:
        t = self.clock.now
        one = msgspec.structs.replace(event(*persons, t=t), source=source)
        image = replace(frame(0, t, source=source), captured=t if live else None)
        assert self.sink.write(image, one)

    def status(self, status: SourceStatus, reason: str | None = None) -> None:
        assert self.sink.write_status(StatusLine(source="door", time=NOON, status=status, reason=reason))


def test_an_event_is_published_when_something_changes_and_every_few_seconds():
    scene = Scene(every=10.0)
    for _ in range(30):
        scene.write(person(1, BOX))
        scene.clock.now += 0.1
    assert [topic for topic, _ in scene.broker.sent] == ["home/emotion/door/events"]
    assert msgspec.json.decode(scene.broker.sent[0][1], type=EmotionEvent).persons[0].top == "happiness"
    scene.write(person(1, BOX, top="sadness"))
    assert len(scene.broker.sent) == 2
    assert [state["label"] for state in scene.broker.states()] == ["happiness", "sadness"]
    scene.clock.now += 10
    scene.write(person(1, BOX, top="sadness"))
    assert len(scene.broker.sent) == 3
    assert len(scene.broker.states()) == 3


def test_state_is_of_all_people_together_and_names_nobody():
    scene = Scene()
    scene.write(
        person(1, BOX),
        person(2, BOX),
        person(3, BOX, top="anger"),
        person(4, BOX, top=None),
        person(5, BOX, state="new"),
        person(6, BOX, state="lost"),
    )
    (state,) = scene.broker.states()
    assert state["people"] == 4
    assert state["label"] == "happiness"
    assert set(state["shares"]) == set(EMOTIONS)
    assert sum(state["shares"].values()) == pytest.approx(100, abs=0.5)
    assert state["latency_p95_ms"] == 12.3
    assert state["dropped"] == 2
    assert "id" not in json.dumps(state).replace("video", "")


def test_with_counts_over_several_people_nothing_else_is_told_of_them():
    scene = Scene(frames=False)
    scene.write()
    scene.sink.write_aggregate(AggregateLine(source="door", t=1.0, people=5, counts={"happiness": 5}))
    (state,) = scene.broker.states()
    assert (state["people"], state["label"], set(state["shares"].values())) == (None, None, {None})
    assert [topic for topic, _ in scene.broker.sent] == ["home/emotion/door/aggregate"]
    assert json.loads(scene.broker.sent[0][1])["people"] == 5


def test_nobody_in_view():
    scene = Scene()
    scene.write()
    (state,) = scene.broker.states()
    assert (state["people"], state["label"], state["shares"]["anger"]) == (0, None, None)


@pytest.mark.parametrize("status", ["lost", "frozen", "paused", "connecting", "ended"])
def test_people_are_unknown_while_nothing_is_seen(status: SourceStatus):
    scene = Scene()
    scene.status("live")
    scene.write(person(1, BOX))
    scene.status(status, "unplugged")
    state = scene.broker.states()[-1]
    assert (state["status"], state["people"], state["label"]) == (status, None, None)
    assert state["connected"] == {"frozen": True, "paused": None}.get(status, False)
    assert set(state["shares"].values()) == {None}
    line = json.loads(scene.broker.kept["home/emotion/door/status"][-1])
    assert (line["status"], line["reason"], line["schema"]) == (status, "unplugged", 2)


def test_state_of_a_silent_camera_is_published_while_no_frame_comes():
    scene = Scene(every=5.0)
    scene.write(person(1, BOX))
    before = len(scene.broker.states())
    scene.clock.now += 20
    scene.sink.idle()
    assert len(scene.broker.states()) == before + 1
    assert scene.broker.states()[-1]["fps"] == 0


def test_rate_and_latency_are_those_of_the_last_seconds():
    clock = Clock()
    state = MqttCamera("door", EMOTIONS, clock)
    for index in range(300):
        clock.now += 0.05
        state.add(msgspec.structs.replace(event(), latency_ms=1000.0 if index < 90 else float(index % 10)))
    values = state.values()
    assert values["fps"] == pytest.approx(20, abs=0.2)
    assert values["latency_p95_ms"] == 9


def test_a_camera_is_paused_and_resumed():
    scene = Scene()
    scene.write(person(1, BOX))
    scene.broker.received = [("home/emotion/door/pause/set", b"ON")]
    scene.sink.idle()
    assert scene.paused == [("door", True)]
    assert scene.broker.states()[-1]["paused"] is True
    assert scene.broker.states()[-1]["status"] == "paused"
    scene.broker.received = [("home/emotion/door/pause/set", b"off")]
    scene.sink.idle()
    assert scene.paused[-1] == ("door", False)
    assert scene.broker.states()[-1]["paused"] is False


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("home/emotion/door/pause/set", b""),
        ("home/emotion/door/pause/set", b"\xff\x00" * 10_000),
        ("home/emotion/door/pause/set", b"toggle"),
        ("home/emotion/none/pause/set", b"ON"),
    ],
)
def test_other_commands_are_ignored(topic: str, payload: bytes, caplog: pytest.LogCaptureFixture):
    scene = Scene()
    scene.write()
    scene.broker.received = [(topic, payload)]
    scene.sink.idle()
    assert scene.paused == []
    assert "expected ON or OFF at home/emotion/CAMERA/pause/set" in caplog.text
    assert len(caplog.text) < 300


def test_commands_that_are_ignored_do_not_fill_the_log(caplog: pytest.LogCaptureFixture):
    scene = Scene()
    scene.write()
    for _ in range(100):
        scene.broker.received = [("home/emotion/door/pause/set", b"toggle")] * 100
        scene.sink.idle()
        scene.clock.now += 1
    assert caplog.text.count("a command was ignored") == 2


def test_a_state_of_a_source_that_has_ended_is_not_repeated_until_it_comes_back():
    scene = Scene(every=5.0)
    scene.write(person(1, BOX))
    scene.status("ended", "it was removed")
    count = len(scene.broker.states())
    scene.clock.now += 60
    scene.sink.idle()
    assert len(scene.broker.states()) == count
    scene.write(person(1, BOX))  # a file that is played again, which has no status
    assert (scene.broker.states()[-1]["status"], scene.broker.states()[-1]["people"]) == ("live", 1)


def test_pausing_a_source_that_has_ended_is_no_failure(caplog: pytest.LogCaptureFixture):
    def pause(name: str, paused: bool) -> None:
        raise EmotionError(f"there is no source {name!r} to set to {paused}")

    broker = FakeBroker()
    sink = MqttSink(MqttOptions(address=ADDRESS, pause=pause), broker)
    image = replace(frame(source="door"), captured=0.0)
    sink.write(image, msgspec.structs.replace(event(), source="door"))
    broker.received = [("home/emotion/door/pause/set", b"ON")]
    assert sink.idle()
    assert "there is no source 'door'" in caplog.text
    assert broker.states()[-1]["paused"] is False


def test_a_live_source_is_announced_once_before_its_state():
    scene = Scene()
    scene.write(person(1, BOX))
    scene.write(person(1, BOX, top="sadness"))
    announced = [topic for topic in scene.broker.kept if topic.startswith("homeassistant/")]
    assert len(announced) == 1
    assert announced[0].startswith("homeassistant/device/emotion_runtime_home_emotion-")
    assert len(scene.broker.kept[announced[0]]) == 1
    assert next(iter(scene.broker.kept)) == announced[0]


def test_of_files_only_events_are_published():
    scene = Scene()
    for index in range(5):
        scene.write(person(1, BOX), source=f"{index}.jpg", live=False)
    assert len({topic for topic, _ in scene.broker.sent}) == 5
    assert scene.broker.kept == {}


def test_a_photo_that_is_played_in_real_time_leaves_nothing_on_the_broker():
    scene = Scene()
    for name in ("1.jpg", "2.jpg"):
        image = replace(frame(0, 0.0, source=name), captured=scene.clock.now, still=True)
        assert scene.sink.write(image, msgspec.structs.replace(event(person(1, BOX)), source=name))
        assert scene.sink.write_status(StatusLine(source=name, time=NOON, status="ended"))
    assert [topic for topic, _ in scene.broker.sent] == [
        f"home/emotion/{topic_level(name)}/events" for name in ("1.jpg", "2.jpg")
    ]
    assert scene.broker.kept == {}


def test_without_discovery_nothing_is_announced():
    scene = Scene(discovery=False)
    scene.write(person(1, BOX))
    assert all(topic.startswith("home/emotion/") for topic in scene.broker.kept)


def test_all_is_published_again_when_home_assistant_has_started():
    scene = Scene()
    scene.write()
    scene.broker.received = [("homeassistant/status", b"offline")]
    scene.sink.idle()
    assert scene.broker.repeated == 0
    scene.broker.received = [("homeassistant/status", b"online")]
    scene.sink.idle()
    assert scene.broker.repeated == 1


def test_a_refused_login_ends_this_output_and_the_others_go_on(caplog: pytest.LogCaptureFixture):
    class Other:
        written = 0

        def write(self, *_: object) -> bool:
            self.written += 1
            return True

        def close(self) -> None:
            pass

    scene, other = Scene(), Other()
    group = SinkGroup([scene.sink, other])
    scene.broker.failure = "MQTT broker localhost:1883: it refuses the user or the password"
    for index in range(3):
        assert group.write(frame(index), event(frame=index))
    assert other.written == 3
    assert scene.broker.closed
    assert group.failures == [scene.broker.failure]
    assert caplog.text.count("refuses the user") == 1


@pytest.mark.parametrize(
    "name", ["front door", "a/b", "a+b", "a#b", "Küche", "a.b", "$SYS", "", "x" * 300 + "/"]
)
def test_names_of_sources_are_one_level_of_a_topic(name: str):
    level = topic_level(name)
    assert level.isascii()
    assert level.replace("-", "").replace("_", "").isalnum()
    assert len(level) < 70
    assert level != topic_level(name + "!")


def test_a_simple_name_is_its_level():
    assert topic_level("door-2_b") == "door-2_b"
