"""MQTT with a real broker: TLS, password, killed, stopped, restarted; and the whole command."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import pytest
from mosquitto_server import PASSWORD, USER, Mosquitto, free_port, wait_for
from sample_events import EMOTIONS, event, frame, person

from emotion_runtime import open_source
from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks import mqtt_broker
from emotion_runtime.sinks.mqtt import MqttSink
from emotion_runtime.sinks.mqtt_options import BrokerAddress, MqttOptions
from emotion_runtime.types import EmotionEvent

pytestmark = pytest.mark.slow
AVAILABLE, EVENTS, STATE = "home/availability", "home/door/events", "home/door/state"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    server = Mosquitto(tmp_path, free_port())
    server.start()
    try:
        yield server
    finally:
        server.kill()


def options(broker: Mosquitto, *, password: str = PASSWORD, ca: str | None = "") -> MqttOptions:
    address = BrokerAddress("localhost", broker.port, tls=True, prefix="home", user=USER, password=password)
    return MqttOptions(address=address, ca=str(broker.ca) if ca == "" else ca, labels=EMOTIONS, every=1.0)


def write(sink: MqttSink, index: int) -> float:
    """Write one event that differs from the one before; return the seconds that it took."""
    one = event(person(1, (0, 0, 1, 1), top=EMOTIONS[index % 7]), frame=index, t=index / 10)
    begin = time.monotonic()
    assert sink.write(
        replace(frame(index, source="door"), captured=begin), msgspec.structs.replace(one, source="door")
    )
    return time.monotonic() - begin


def frames(payloads: list[bytes]) -> list[int]:
    return [msgspec.json.decode(payload, type=EmotionEvent).frame for payload in payloads]


def test_events_and_states_over_tls_with_a_password(broker: Mosquitto):
    with broker.watched() as watcher:
        sink = MqttSink(options(broker))
        for index in range(10):
            write(sink, index)
        wait_for(lambda: frames(watcher.payloads(EVENTS)) == list(range(10)))
        watcher.wait_for(AVAILABLE, b"online")
        watcher.wait_for("homeassistant/device/emotion_runtime_home_door/config")
        assert json.loads(watcher.payloads(STATE)[-1])["people"] == 1
        announced = len(watcher.payloads("homeassistant/device/emotion_runtime_home_door/config"))
        watcher.client.publish("homeassistant/status", "online")
        wait_for(
            lambda: (
                sink.idle()
                and len(watcher.payloads("homeassistant/device/emotion_runtime_home_door/config")) > announced
            )
        )
        sink.close()
        watcher.wait_for(AVAILABLE, b"stopped")
        time.sleep(0.2)
        assert watcher.payloads(AVAILABLE)[-1] == b"stopped"
    with broker.watched() as late:  # what a program sees that comes later
        late.wait_for(STATE)
        assert {topic for topic, _, retained in late.messages if retained} == {
            AVAILABLE,
            STATE,
            "homeassistant/device/emotion_runtime_home_door/config",
        }


def test_a_broker_that_is_killed_and_started_again(broker: Mosquitto, caplog: pytest.LogCaptureFixture):
    sink = MqttSink(options(broker))
    with broker.watched() as watcher:
        write(sink, 0)
        watcher.wait_for(EVENTS)
    broker.kill()
    longest = 0.0
    for index in range(1, 40):
        longest = max(longest, write(sink, index))
        time.sleep(0.05)
    broker.start()
    back = time.monotonic()
    with broker.watched() as watcher:
        watcher.wait_for(AVAILABLE, b"online")
        watcher.wait_for(STATE)
        wait_for(lambda: 39 in frames(watcher.payloads(EVENTS)))
        assert time.monotonic() - back < 12
        sink.close()
        watcher.wait_for(AVAILABLE, b"stopped")
    assert longest < 0.9  # a write that waits for the broker takes seconds
    assert caplog.text.count("the connection was lost") == 1


def test_a_broker_that_is_stopped_and_continued(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(mqtt_broker, "_KEEP_ALIVE", 2)
    monkeypatch.setattr(mqtt_broker, "_CONNECT", 1.0)
    monkeypatch.setattr(mqtt_broker, "QUEUE", 10)
    sink = MqttSink(options(broker))
    with broker.watched() as watcher:
        write(sink, 0)
        watcher.wait_for(EVENTS)
        broker.signal(signal.SIGSTOP)
        longest, index, give_up = 0.0, 0, time.monotonic() + 15
        while not any(record.levelno >= logging.WARNING for record in caplog.records):
            index += 1
            longest = max(longest, write(sink, index))
            assert time.monotonic() < give_up
            time.sleep(0.02)
        broker.signal(signal.SIGCONT)
        wait_for(lambda: index in frames(watcher.payloads(EVENTS)))
        wait_for(lambda: watcher.payloads(AVAILABLE)[-1] == b"online")
        sink.close()
        watcher.wait_for(AVAILABLE, b"stopped")
    assert longest < 0.9  # a write that waits for the broker takes seconds
    assert "events were dropped" in caplog.text


def test_closing_while_the_broker_is_stopped(broker: Mosquitto):
    sink = MqttSink(options(broker))
    with broker.watched() as watcher:
        watcher.wait_for(AVAILABLE, b"online")
    broker.signal(signal.SIGSTOP)
    write(sink, 0)
    begin = time.monotonic()
    sink.close()
    assert time.monotonic() - begin < 4
    broker.signal(signal.SIGCONT)


def test_a_wrong_password_is_said_once(broker: Mosquitto, caplog: pytest.LogCaptureFixture):
    sink = MqttSink(options(broker, password="wrong"))  # noqa: S106
    wait_for(lambda: sink._broker.failure is not None)
    with pytest.raises(EmotionError, match="refuses the user or the password") as error:
        sink.idle()
    sink.close()
    time.sleep(1)
    assert "wrong" not in str(error.value) + caplog.text
    log = (broker.ca.parent / "mosquitto.log").read_text()
    assert log.count("not authorised") == 1


def test_a_password_that_is_changed_while_the_broker_is_away(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(mqtt_broker, "_REFUSED_WAIT", 0.2)
    sink = MqttSink(options(broker))
    wait_for(lambda: sink._broker._connected)
    broker.kill()
    broker.set_password("another")
    broker.start()
    wait_for(lambda: "refuses the user" in caplog.text)
    broker.kill()
    broker.set_password(PASSWORD)
    broker.start()
    with broker.watched() as watcher:
        watcher.wait_for(AVAILABLE, b"online")
        sink.close()
    assert caplog.text.count("refuses the user") == 1


def test_an_unknown_authority(broker: Mosquitto, caplog: pytest.LogCaptureFixture):
    sink = MqttSink(options(broker, ca=None))
    wait_for(lambda: "its certificate is not trusted" in caplog.text)
    assert write(sink, 0) < 0.1
    with pytest.raises(EmotionError, match="nothing was published"):
        sink.close()
    assert caplog.text.count("MQTT broker") == 1


def test_tls_where_there_is_none_and_the_other_way_round(broker: Mosquitto, caplog: pytest.LogCaptureFixture):
    plain = replace(options(broker).address, tls=False)
    sink = MqttSink(replace(options(broker), address=plain, ca=None))
    wait_for(lambda: "use mqtts:// if it expects TLS" in caplog.text)
    with pytest.raises(EmotionError):
        sink.close()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = replace(options(broker).address, port=server.getsockname()[1])
        sink = MqttSink(replace(options(broker), address=address))
        connection, _ = server.accept()
        connection.sendall(b"220 this is mail\r\n")
        wait_for(lambda: "does not speak TLS" in caplog.text)
        connection.close()
        with pytest.raises(EmotionError):
            sink.close()


def test_a_file_of_authorities_that_cannot_be_used(broker: Mosquitto, tmp_path: Path):
    (tmp_path / "empty.pem").write_text("none\n")
    for name, expected in (("empty.pem", "it has no certificate"), ("missing.pem", "No such file")):
        with pytest.raises(EmotionError, match=expected):
            MqttSink(options(broker, ca=str(tmp_path / name)))


def start(
    broker: Mosquitto, *arguments: str, source: str = "demo", password: str = PASSWORD
) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "emotion_runtime", "--no-show", "--source", f"door={source}", "--realtime",
        "--backend", "cpu",  # no stop-watch chooses: a run of three seconds is short
        "--mqtt", f"mqtts://{USER}:${{MQTT_PASSWORD}}@localhost:{broker.port}/home",
        "--mqtt-ca", str(broker.ca), *arguments,
    ]  # fmt: skip
    environment = os.environ | {"MQTT_PASSWORD": password}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_the_command_is_paused_resumed_and_interrupted(broker: Mosquitto, tmp_path: Path):
    frames = [frame.image for frame in open_source("demo")]
    long = tmp_path / "half-a-minute.avi"  # the demo may end before the signal on a busy machine
    writer = cv2.VideoWriter(str(long), cv2.VideoWriter.fourcc(*"MJPG"), 5, frames[0].shape[1::-1])
    for image in frames:
        writer.write(image)
    writer.release()
    with broker.watched() as watcher:
        program = start(broker, source=str(long))
        try:
            watcher.wait_for(EVENTS, seconds=60)
            watcher.wait_for(STATE)
            watcher.client.publish("home/door/pause/set", "ON")
            wait_for(lambda: json.loads(watcher.payloads(STATE)[-1])["paused"])
            time.sleep(0.5)
            before = len(watcher.payloads(EVENTS))
            time.sleep(1)
            assert len(watcher.payloads(EVENTS)) == before
            watcher.client.publish("home/door/pause/set", "OFF")
            wait_for(lambda: not json.loads(watcher.payloads(STATE)[-1])["paused"])
            program.send_signal(signal.SIGINT)
            _, errors = program.communicate(timeout=20)
        finally:
            program.kill()
        watcher.wait_for(AVAILABLE, b"stopped")
    assert program.returncode == 0, errors
    assert PASSWORD not in errors


def test_the_broker_tells_that_the_command_was_killed(broker: Mosquitto):
    with broker.watched() as watcher:
        program = start(broker)
        try:
            watcher.wait_for(AVAILABLE, b"online", seconds=60)
        finally:
            program.kill()
            program.communicate()
        watcher.wait_for(AVAILABLE, b"offline")


def test_the_command_goes_on_without_a_broker_that_refuses_it(broker: Mosquitto, tmp_path: Path):
    path = tmp_path / "events.jsonl"
    program = start(broker, "--jsonl", str(path), "--duration", "3", password="wrong-password")  # noqa: S106
    _, errors = program.communicate(timeout=90)
    assert program.returncode == 2
    assert errors.count("it refuses the user or the password; check both") == 2  # at once, and at the end
    assert "wrong-password" not in errors
    assert "the run goes on without this output" in errors
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sum(line["type"] == "frame" for line in lines) > 1
    assert "mqtt" not in json.dumps(lines[0])
