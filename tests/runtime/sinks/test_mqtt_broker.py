"""The connection to an MQTT broker, with a stand-in for the client."""

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks import mqtt_broker
from emotion_runtime.sinks.mqtt_broker import Broker, open_client
from emotion_runtime.sinks.mqtt_options import BrokerAddress

ADDRESS = BrokerAddress("broker.test", 1883, tls=False, user="me", password="s3cret")  # noqa: S106
AVAILABLE = "emotion/availability"


class FakeClient:
    """Behaves as a client of paho-mqtt whose broker can be told what to do."""

    def __init__(self) -> None:
        self.on_connect: Any = None
        self.on_publish: Any = None
        self.on_message: Any = None
        self.connects = 0
        self.errors: list[Exception] = []  # of the next calls of connect
        self.code = 0  # of the answer to a connection
        self.confirms = True
        self.lost = False
        self.connected = False
        self.published: list[tuple[str, bytes, bool]] = []
        self.subscribed: list[tuple[str, int]] = []
        self._unconfirmed: list[int] = []
        self._to_answer = False

    def connect(self, _host: str, _port: int, *, keepalive: int) -> None:
        assert keepalive > 0
        self.connects += 1
        if self.errors:
            raise self.errors.pop(0)
        self.lost, self._to_answer = False, True

    def loop(self, _seconds: float) -> int:
        time.sleep(0.001)
        if self.lost:
            self.connected = False
            return 7
        if self._to_answer:
            self._to_answer = False
            self.connected = self.code == 0
            reason = SimpleNamespace(is_failure=self.code != 0, value=self.code)
            self.on_connect(self, None, None, reason, None)
            return 0 if self.connected else 5
        while self.confirms and self._unconfirmed:
            self.on_publish(self, None, self._unconfirmed.pop(0), None, None)
        return 0

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> SimpleNamespace:
        assert qos == 1
        self.published.append((topic, payload, retain))
        self._unconfirmed.append(len(self.published))
        return SimpleNamespace(mid=len(self.published))

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        self.subscribed = topics

    def disconnect(self) -> None:
        self.connected = False

    def payloads(self, topic: str) -> list[bytes]:
        return [payload for each, payload, _ in list(self.published) if each == topic]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_broker, "_WAITS", (0.005, 0.01))
    monkeypatch.setattr(mqtt_broker, "_REFUSED_WAIT", 0.01)
    monkeypatch.setattr(mqtt_broker, "_GOODBYE", 0.2)


@pytest.fixture
def client() -> Iterator[FakeClient]:
    yield FakeClient()
    for thread in threading.enumerate():
        if thread.name == "mqtt":
            thread.join(2)
            assert not thread.is_alive()


def opened(client: FakeClient) -> Broker:
    return Broker(client, ADDRESS, AVAILABLE, ["emotion/+/pause/set"])


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.002)


def test_birth_messages_and_farewell(client: FakeClient):
    broker = opened(client)
    broker.keep("emotion/door/state", b"1")
    broker.send("emotion/door/events", b"2")
    wait_for(lambda: len(client.published) == 3)
    assert client.published[0] == (AVAILABLE, b"online", True)
    assert set(client.published[1:]) == {
        ("emotion/door/state", b"1", True),
        ("emotion/door/events", b"2", False),
    }
    assert client.subscribed == [("emotion/+/pause/set", 1)]
    broker.send("emotion/door/events", b"3")
    broker.close()
    assert client.published[-2:] == [("emotion/door/events", b"3", False), (AVAILABLE, b"stopped", True)]
    assert not client.connected
    broker.close()


def test_the_latest_value_of_a_topic_is_published_and_an_equal_one_is_not(client: FakeClient):
    client.errors = [ConnectionRefusedError()] * 5
    broker = opened(client)
    for value in (b"1", b"2", b"3", b"3"):
        broker.keep("a", value)
    wait_for(lambda: client.payloads("a") == [b"3"])
    broker.keep("a", b"3")
    broker.repeat()
    wait_for(lambda: client.payloads("a") == [b"3", b"3"])
    broker.close()


def test_the_oldest_events_are_dropped_and_counted(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(mqtt_broker, "QUEUE", 5)
    monkeypatch.setattr(mqtt_broker, "_IN_FLIGHT", 2)
    broker = opened(client)
    wait_for(lambda: client.connected)
    client.confirms = False
    broker.send("a", b"x")
    broker.send("a", b"y")
    wait_for(lambda: len(client.payloads("a")) == 2)
    for index in range(20):
        broker.send("a", b"%d" % index)
    assert broker.dropped == 15
    assert len(client.payloads("a")) == 2  # the client holds no more than this
    client.confirms = True
    wait_for(lambda: client.payloads("a")[2:] == [b"15", b"16", b"17", b"18", b"19"])
    broker.close()
    assert "15 events were dropped" in caplog.text


def test_after_a_loss_kept_messages_are_published_again(client: FakeClient, caplog: pytest.LogCaptureFixture):
    broker = opened(client)
    broker.keep("a", b"1")
    wait_for(lambda: client.payloads("a") == [b"1"])
    client.errors = [ConnectionRefusedError()] * 3
    client.lost = True
    wait_for(lambda: client.payloads("a") == [b"1", b"1"])
    assert client.payloads(AVAILABLE) == [b"online", b"online"]
    broker.close()
    assert caplog.text.count("the connection was lost") == 1
    assert caplog.text.count("the connection was refused") == 1


@pytest.mark.parametrize("code", [134, 135])
def test_a_wrong_password_is_not_tried_again(client: FakeClient, code: int):
    client.code = code
    broker = opened(client)
    wait_for(lambda: broker.failure is not None)
    assert "broker.test:1883: it refuses the user or the password" in str(broker.failure)
    assert "s3cret" not in str(broker.failure)
    time.sleep(0.1)
    assert client.connects == 1
    broker.close()


def test_a_login_that_was_accepted_before_is_tried_slowly_and_not_for_ever(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(mqtt_broker, "_REFUSALS", 4)
    broker = opened(client)
    wait_for(lambda: client.connected)
    client.code, client.lost = 135, True
    wait_for(lambda: broker.failure is not None)
    assert client.connects == 5
    assert caplog.text.count("refuses the user") == 1
    broker.close()


def test_another_refusal_is_tried_again(client: FakeClient, caplog: pytest.LogCaptureFixture):
    client.code = 136  # server unavailable
    broker = opened(client)
    wait_for(lambda: client.connects > 3)
    client.code = 0
    wait_for(lambda: client.connected)
    broker.close()
    assert caplog.text.count("it refuses the connection") == 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(111, "refused"), "refused; check that it runs"),
        (socket.gaierror(-2, "unknown"), "cannot be resolved"),
        (TimeoutError("timed out"), "does not answer"),
        (ssl.SSLError(1, "wrong version"), "does not speak TLS on this port"),
        (OSError(113, "No route to host"), "cannot be reached (No route to host)"),
        (UnicodeError("label too long"), "cannot be resolved"),
    ],
)
def test_why_there_is_no_connection_is_said_once(
    client: FakeClient, error: Exception, text: str, caplog: pytest.LogCaptureFixture
):
    client.errors = [error] * 5
    broker = opened(client)
    wait_for(lambda: client.connected)
    broker.close()
    assert caplog.text.count(text) == 1
    assert "broker.test:1883" in caplog.text
    assert "s3cret" not in caplog.text


def test_an_untrusted_certificate_names_the_option(client: FakeClient, caplog: pytest.LogCaptureFixture):
    error = ssl.SSLCertVerificationError(1, "failed")
    error.verify_message = "self-signed certificate"
    client.errors = [error]
    broker = opened(client)
    wait_for(lambda: client.connected)
    broker.close()
    assert "not trusted (self-signed certificate)" in caplog.text
    assert "--mqtt-ca FILE.pem" in caplog.text


def test_a_broker_that_was_never_reached_is_a_failure(client: FakeClient):
    client.errors = [ConnectionRefusedError()] * 100_000
    broker = opened(client)
    wait_for(lambda: client.connects > 2)
    with pytest.raises(EmotionError, match=r"there was no connection \(.*\); nothing was published"):
        broker.close()


def test_closing_does_not_wait_for_a_broker_that_hangs(client: FakeClient):
    broker = opened(client)
    wait_for(lambda: client.connected)
    client.confirms = False
    broker.send("a", b"1")
    begin = time.monotonic()
    broker.close()
    assert time.monotonic() - begin < 1.5


def test_retained_commands_are_those_of_the_past(client: FakeClient):
    broker = opened(client)
    wait_for(lambda: client.connected)
    for retain, payload in ((True, b"ON"), (False, b"OFF")):
        message = SimpleNamespace(topic="emotion/door/pause/set", payload=payload, retain=retain)
        client.on_message(client, None, message)
    assert broker.take_received() == [("emotion/door/pause/set", b"OFF")]
    assert broker.take_received() == []
    broker.close()


def test_of_a_message_that_comes_no_more_is_kept_than_a_command_can_have(client: FakeClient):
    broker = opened(client)
    wait_for(lambda: client.connected)
    for payload in (b"ON" * 1_000_000, bytearray(b"OFF")):
        message = SimpleNamespace(topic="emotion/door/pause/set", payload=payload, retain=False)
        client.on_message(client, None, message)
    assert [payload for _, payload in broker.take_received()] == [b"ON" * 8 + b"O", b"OFF"]
    broker.close()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    for name in ("paho", "paho.mqtt", "paho.mqtt.client"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EmotionError, match=r"--mqtt needs the package paho-mqtt, version 2 or later"):
        open_client(ADDRESS, AVAILABLE, None)
