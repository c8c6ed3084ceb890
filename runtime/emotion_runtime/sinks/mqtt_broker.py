"""The connection to an MQTT broker: in a thread of its own, with a bounded queue, opened again when lost."""

import logging
import random
import secrets
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.mqtt_options import BrokerAddress

_log = logging.getLogger(__name__)

QUEUE = 1000  # events that wait for the broker at most; then the oldest one is dropped
_IN_FLIGHT = 20  # messages that the broker has not confirmed
_KEEP_ALIVE = 10  # seconds; a broker that is silent is noticed after twice this time
_CONNECT = 5.0  # seconds for opening a connection
_POLL = 0.05  # seconds; so late is a message at most
_WAITS = (0.5, 10.0)  # seconds before the first try to open the connection again, and before later ones
_REFUSED_WAIT = 60.0  # seconds, after the broker has refused a login that it had accepted before
_REFUSALS = 60  # of such a login in a row; then it is given up
_LONGEST = 17  # bytes of a message that are kept; commands are shorter, and anybody may send longer ones
_GOODBYE = 2.0  # seconds for delivering at the end what still waits
_BAD_LOGIN = (134, 135)  # "bad user name or password" and "not authorized"

ONLINE, OFFLINE, STOPPED = b"online", b"offline", b"stopped"


class Broker:
    """Publishes messages in a thread of its own, so that no broker can stop the caller.

    There are two kinds of messages. A kept one is the latest value of its topic: it is retained, and
    published again after each new connection. The others wait in a queue, from which the oldest is dropped.

    Args:
        client: A client of paho-mqtt; see `open_client`.
        address: The broker.
        availability: Topic that says whether this program runs: "online"; "stopped" after `close`; and
            "offline", which the broker publishes itself, after everything else.
        subscriptions: Topics whose messages `take_received` returns.

    Attributes:
        failure: Why no further connection is tried, in a sentence. None: the thread goes on.
        dropped: Messages that were dropped from the queue so far.
    """

    def __init__(
        self, client: Any, address: BrokerAddress, availability: str, subscriptions: Sequence[str]
    ) -> None:
        self._client, self._address = client, address
        self._availability, self._subscriptions = availability, list(subscriptions)
        self._lock = threading.Lock()  # of the four below
        self._kept: dict[str, bytes] = {}
        self._changed: dict[str, None] = {}  # topics of kept messages to publish, in order
        self._queue: deque[tuple[str, bytes]] = deque()
        self.dropped = 0
        self._received: deque[tuple[str, bytes]] = deque(maxlen=100)
        self._unconfirmed: set[int] = set()
        self._connected = self._was_connected = False
        self._refusal: str | None = None
        self._login_refusals = 0
        self._said: set[str] = set()  # problems of the present outage
        self.failure: str | None = None
        self._closing = threading.Event()
        client.on_connect, client.on_publish = self._on_connect, self._on_publish
        client.on_message = self._on_message
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def keep(self, topic: str, payload: bytes) -> None:
        """Publish a message that is the latest value of its topic."""
        with self._lock:
            if self._kept.get(topic) != payload:
                self._kept[topic] = payload
                self._changed[topic] = None

    def repeat(self) -> None:
        """Publish all kept messages again."""
        with self._lock:
            self._changed = dict.fromkeys(self._kept)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish a message that is not retained. If too many wait, the oldest one is dropped."""
        with self._lock:
            self._queue.append((topic, payload))
            if len(self._queue) > QUEUE:
                self._queue.popleft()
                self.dropped += 1

    def take_received(self) -> list[tuple[str, bytes]]:
        """Return topics of the messages that have come since the last call, and their first bytes."""
        taken = []
        while self._received:
            taken.append(self._received.popleft())
        return taken

    def close(self) -> None:
        """Deliver what waits, say that the program stops, and disconnect; in a few seconds at most.

        Raises:
            EmotionError: There was no connection at all.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        self._thread.join(_GOODBYE + 1)
        if self.dropped:
            _log.warning(
                "MQTT broker %s: %d events were dropped, since too many waited", self._address, self.dropped
            )
        if not self._was_connected and self.failure is None:
            reason = f" ({'; '.join(sorted(self._said))})" if self._said else ""
            raise EmotionError(
                f"MQTT broker {self._address}: there was no connection{reason}; nothing was published"
            )

    def _run(self) -> None:
        wait = _WAITS[0]
        while not self._closing.is_set():
            problem = self._session()
            if problem is None:
                return
            if self._login_refusals and (not self._was_connected or self._login_refusals >= _REFUSALS):
                self.failure = f"MQTT broker {self._address}: {problem}"
                return
            if problem not in self._said and not self._closing.is_set():
                _log.warning("MQTT broker %s: %s; trying again", self._address, problem)
                self._said.add(problem)
            wait = _WAITS[0] if self._connected else min(2 * wait, _WAITS[1])
            pause = _REFUSED_WAIT if self._login_refusals else wait
            self._closing.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the load

    def _session(self) -> str | None:
        """Connect, and publish until the connection ends. Return why; None: since `close` was called."""
        self._connected, self._refusal = False, None
        try:
            self._client.connect(self._address.host, self._address.port, keepalive=_KEEP_ALIVE)
            while self._client.loop(_POLL) == 0 and self._refusal is None:
                if self._connected:
                    self._flush()
                if self._closing.is_set():
                    self._leave()
                    return None
        except (OSError, ValueError) as error:
            return _problem(error)
        if self._refusal is not None:
            return self._refusal
        if self._connected:
            return "the connection was lost"
        return (
            "it ended the connection before it answered; check the port, and use mqtts:// if it expects TLS"
        )

    def _flush(self) -> None:
        while len(self._unconfirmed) < _IN_FLIGHT:
            with self._lock:
                if self._changed:
                    topic = next(iter(self._changed))
                    del self._changed[topic]
                    payload, retain = self._kept[topic], True
                elif self._queue:
                    (topic, payload), retain = self._queue.popleft(), False
                else:
                    return
            self._publish(topic, payload, retain=retain)

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        # Confirmed ones, since the client holds those that are not in a buffer without bounds.
        self._unconfirmed.add(self._client.publish(topic, payload, qos=1, retain=retain).mid)

    def _leave(self) -> None:
        """Deliver what waits, and disconnect, so that the broker does not publish the last will."""
        if self._connected:
            self._loop_until_confirmed(_GOODBYE)
            self._publish(self._availability, STOPPED, retain=True)
            self._loop_until_confirmed(_GOODBYE / 4)
        self._client.disconnect()
        self._client.loop(_POLL)

    def _loop_until_confirmed(self, seconds: float) -> None:
        give_up = time.monotonic() + seconds
        self._flush()
        while self._unconfirmed and time.monotonic() < give_up and self._client.loop(_POLL) == 0:
            self._flush()

    def _on_connect(
        self, client: Any, _data: object, _flags: object, reason: Any, _properties: object
    ) -> None:
        if reason.is_failure:
            if reason.value in _BAD_LOGIN:
                self._login_refusals += 1
                self._refusal = "it refuses the user or the password; check both in the address of --mqtt"
            else:
                self._refusal = f"it refuses the connection ({reason})"
            return
        if self._said or not self._was_connected:
            _log.info("MQTT broker %s: connected", self._address)
        self._connected = self._was_connected = True
        self._login_refusals = 0
        self._said.clear()
        client.publish(self._availability, ONLINE, qos=1, retain=True)
        if self._subscriptions:
            client.subscribe([(topic, 1) for topic in self._subscriptions])
        # Published by the next `_flush`: the client first repeats what the last connection left unconfirmed.
        self.repeat()

    def _on_publish(
        self, _client: object, _data: object, mid: int, _reason: object, _properties: object
    ) -> None:
        self._unconfirmed.discard(mid)

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        # A retained command is one of the past: it would undo what was done since with each new connection.
        if not message.retain:
            self._received.append((message.topic, bytes(message.payload[:_LONGEST])))


def open_client(address: BrokerAddress, availability: str, ca: str | None) -> Any:
    """Return a client of paho-mqtt that is not connected yet.

    Args:
        address: The broker.
        availability: Topic of the last will.
        ca: File with the certificates of authorities to trust. None: those of the system.

    Raises:
        EmotionError: paho-mqtt is not installed, or the certificates cannot be read.
    """
    try:
        paho: Any = import_module("paho.mqtt.client")  # an extra
        client: Any = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            # A name of its own: the broker ends the older of two connections of one name.
            client_id=f"emotion-{secrets.token_hex(6)}",
            protocol=paho.MQTTv311,  # which every broker speaks
            reconnect_on_failure=False,
        )
    except (ImportError, AttributeError) as error:
        raise EmotionError(
            "--mqtt needs the package paho-mqtt, version 2 or later; run pip install 'paho-mqtt>=2'"
        ) from error
    client.connect_timeout = _CONNECT
    if address.user is not None:
        client.username_pw_set(address.user, address.password)
    client.will_set(availability, OFFLINE, qos=1, retain=True)
    if address.tls:
        client.tls_set_context(_tls(ca))
    elif address.password is not None and address.host not in ("localhost", "127.0.0.1", "::1"):
        _log.warning("MQTT broker %s: the password is sent without encryption; use mqtts://", address)
    return client


def _tls(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # also of OpenSSL
        reason = "it has no certificate in PEM format" if isinstance(error, ssl.SSLError) else error.strerror
        raise EmotionError(
            f"--mqtt-ca {ca} cannot be used ({reason}); give a PEM file with the certificate of the "
            "authority that signed the broker's"
        ) from error


def _problem(error: Exception) -> str:
    """Return why a connection cannot be opened, or has ended, without anything secret."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message.rstrip('.')}); give the certificate of "
            "its authority with --mqtt-ca FILE.pem, and use the host name that is in it"
        )
    if isinstance(error, TimeoutError):
        return "it does not answer; check the host, the port and the network"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS on this port; check the port, or use mqtt://"
    if isinstance(error, socket.gaierror | ValueError):
        return "its name cannot be resolved; check the address and DNS"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused; check that it runs, and the port"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"it cannot be reached ({reason or 'the connection ended'})"
