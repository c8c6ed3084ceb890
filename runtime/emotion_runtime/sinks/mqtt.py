"""Publish events, states and statuses over MQTT, and take commands."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_runtime.rounding import rounded
from emotion_runtime.sinks.changes import Changes
from emotion_runtime.sinks.home_assistant import STATUS_TOPIC, discovery, discovery_topic
from emotion_runtime.sinks.mqtt_broker import Broker, open_client
from emotion_runtime.sinks.mqtt_camera import MqttCamera, topic_level
from emotion_runtime.sinks.mqtt_options import MqttOptions
from emotion_runtime.types import AggregateLine, EmotionEvent, Frame, StatusLine

_log = logging.getLogger(__name__)
_COMMANDS = {b"on": True, b"off": False}
_WARN_EVERY = 60.0  # seconds between two messages about commands that are ignored


class MessageBroker(Protocol):
    """What `MqttSink` needs of a `Broker`."""

    @property
    def failure(self) -> str | None:
        """See `Broker`. So for the others."""

    def keep(self, topic: str, payload: bytes) -> None: ...  # noqa: D102
    def repeat(self) -> None: ...  # noqa: D102
    def send(self, topic: str, payload: bytes) -> None: ...  # noqa: D102
    def take_received(self) -> list[tuple[str, bytes]]: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


@dataclass(slots=True)
class _Published:
    """One live source, and what of it was published.

    Attributes:
        state: What is known of it.
        topic: Topic below which its messages are.
        at: When the state was published last, on the scale of the clock.
        content: Its content then.
    """

    state: MqttCamera
    topic: str
    at: float = float("-inf")
    content: object = None


class MqttSink:
    """Publishes below PREFIX/CAMERA: `state`, `status` and `events`; and takes commands at `pause/set`.

    `state` and `status` are retained. An event is published when people, their states or their labels have
    changed, and so is the state; without a change, each every `every` seconds. Of files only events are
    published, and of photos also if they are played in real time: retained messages of thousands of them
    would stay. The broker may come and go.

    Args:
        options: What is published.
        broker: Where. None: a new connection to the address of the options.
        clock: Returns seconds; monotonic.

    Raises:
        EmotionError: paho-mqtt is not installed, or the certificates cannot be read. `write`, `write_status`
            and `idle` raise it if the broker refuses the login.
    """

    def __init__(
        self,
        options: MqttOptions,
        broker: MessageBroker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options, self._clock = options, clock
        self._prefix = options.address.prefix
        self._availability = f"{self._prefix}/availability"
        self._encoder = msgspec.json.Encoder()
        self._changes = Changes(options.every)
        self._cameras: dict[str, _Published] = {}  # by name
        self._photos: set[str] = set()  # names of photos that have not ended yet
        self._by_command: dict[str, str] = {}  # name, by topic of its command
        self._warned = float("-inf")  # when a command was ignored with a message, on the scale of the clock
        self._broker = broker or self._connect()

    def _connect(self) -> Broker:
        options = self._options
        client = open_client(options.address, self._availability, options.ca)
        topics = [f"{self._prefix}/+/pause/set"] if options.pause else []
        topics += [STATUS_TOPIC] if options.discovery else []
        return Broker(client, options.address, self._availability, topics)

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Take one frame, see `Sink.write`."""
        if frame.still:
            self._photos.add(event.source)
        elif frame.captured is not None:
            self._camera(event.source).state.add(event)
        if self._options.frames and self._changes.matter(frame, event):
            self._broker.send(f"{self._topic(event.source)}/events", self._encoder.encode(rounded(event)))
        return self._work()

    def write_status(self, line: StatusLine) -> bool:
        """Take a change of the status of a source. That of a photo, which only ends, is not published."""
        if line.source in self._photos:
            self._photos.discard(line.source)
            return self._work()
        camera = self._camera(line.source)
        camera.state.add_status(line)
        self._changes.forget(line.source)
        self._broker.keep(f"{camera.topic}/status", self._encoder.encode(line))
        return self._work()

    def write_aggregate(self, line: AggregateLine) -> bool:
        """Take counts over several people."""
        self._broker.send(f"{self._topic(line.source)}/aggregate", self._encoder.encode(line))
        return self._work()

    def idle(self) -> bool:
        """Take commands, and publish states that are due, while no frame comes."""
        return self._work()

    def close(self) -> None:
        """Deliver what waits, and say that the program stops; in a few seconds at most.

        Raises:
            EmotionError: The broker was not reached at all.
        """
        self._broker.close()

    def _topic(self, name: str) -> str:
        return f"{self._prefix}/{topic_level(name)}"

    def _camera(self, name: str) -> _Published:
        """Return the live source of a name; a new one is announced."""
        camera = self._cameras.get(name)
        if camera is not None:
            return camera
        topic, labels = self._topic(name), self._options.labels
        self._cameras[name] = camera = _Published(
            MqttCamera(name, labels, self._clock, people=self._options.frames), topic
        )
        self._by_command[f"{topic}/pause/set"] = name
        if self._options.discovery:
            device = f"emotion_runtime_{topic_level(self._prefix)}_{topic_level(name)}"
            message = discovery(name, device, topic, self._availability, labels)
            self._broker.keep(discovery_topic(device), self._encoder.encode(message))
        return camera

    def _work(self) -> bool:
        """Take commands, and publish the states that have changed or are due."""
        if self._broker.failure is not None:
            raise EmotionError(self._broker.failure)
        for topic, payload in self._broker.take_received():
            if topic == STATUS_TOPIC:
                if payload == b"online":  # it has started, and may not have kept what it was told before
                    self._broker.repeat()
            else:
                self._pause(topic, payload)
        now = self._clock()
        for camera in self._cameras.values():
            content: Any = camera.state.content
            is_due = now - camera.at >= self._options.every and camera.state.status != "ended"
            if content != camera.content or is_due:
                camera.at, camera.content = now, content
                values = self._encoder.encode(camera.state.values())
                self._broker.keep(f"{camera.topic}/state", values)
        return True

    def _pause(self, topic: str, payload: bytes) -> None:
        """Pause or resume a source."""
        name = self._by_command.get(topic) or self._without_event(topic)
        paused = _COMMANDS.get(payload.strip().lower())
        if name is None or paused is None or self._options.pause is None:
            # What anybody can send is not repeated in a message.
            self._ignore(f"expected ON or OFF at {self._prefix}/CAMERA/pause/set")
            return
        try:
            self._options.pause(name, paused)
        except EmotionError as error:  # it has ended
            self._ignore(str(error))
            return
        if name in self._cameras:
            self._cameras[name].state.paused = paused

    def _without_event(self, topic: str) -> str | None:
        """Return the source that a command is for before anything came from it; None: there is none."""
        names = self._options.names()
        return next((name for name in names if topic == f"{self._topic(name)}/pause/set"), None)

    def _ignore(self, reason: str) -> None:
        """Say that a command is ignored, but not so often that whoever sends commands fills the log."""
        now = self._clock()
        if now - self._warned >= _WARN_EVERY:
            self._warned = now
            _log.warning("MQTT: a command was ignored: %s", reason)
