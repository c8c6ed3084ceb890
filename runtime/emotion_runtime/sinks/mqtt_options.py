"""Where an MQTT broker is, and what is published there."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from emotion_runtime.credentials import with_secrets
from emotion_runtime.errors import EmotionError

EVERY = 10.0  # seconds after which a state is published again, even if nothing has changed
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_PREFIX = "emotion"
_TOPIC = re.compile(r"[\w.-]+(/[\w.-]+)*")
_FORM = "expected mqtt://HOST, mqtts://HOST:PORT or mqtts://USER:${PASSWORD}@HOST:PORT/PREFIX"


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker is, and how to log in.

    Attributes:
        host: Name or IP address.
        port: TCP port.
        tls: Whether the connection is encrypted.
        prefix: First levels of all topics.
        user: None: no login.
        password: None: none.
    """

    host: str
    port: int
    tls: bool
    prefix: str = _PREFIX
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return host and port, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttOptions:
    """What is published over MQTT.

    Attributes:
        address: The broker.
        ca: File with the certificates of authorities to trust, in PEM format. None: those of the system.
        every: Seconds after which states and events are published even if nothing has changed.
        discovery: Whether cameras are announced to Home Assistant.
        frames: Whether events and people are published. False: only counts over several people.
        labels: Names of the emotions that the head predicts.
        pause: Pauses (True) or resumes (False) the source of a name. None: commands are ignored.
        names: Returns the names of the sources, also of those from which nothing came yet.
    """

    address: BrokerAddress
    ca: str | None = None
    every: float = EVERY
    discovery: bool = True
    frames: bool = True
    labels: tuple[str, ...] = ()
    pause: Callable[[str, bool], None] | None = None
    names: Callable[[], Iterable[str]] = tuple


def parse_broker(url: str) -> BrokerAddress:
    """Return the address that a URL stands for; `${NAME}` and `${file:PATH}` in it are replaced.

    Raises:
        EmotionError: The URL has a mistake, or a password is missing. The message holds no part of the URL.
    """
    try:
        parts = urlsplit(with_secrets(url, "--mqtt"))
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise EmotionError(
            "--mqtt: the host or the port is not valid; in a password, write / as %2F, ? as %3F, # as %23, "
            f"@ as %40 and : as %3A; {_FORM}"
        ) from error
    if parts.scheme not in _PORTS:
        raise EmotionError(f"--mqtt: the address does not begin with mqtt:// or mqtts://; {_FORM}")
    if not host:
        raise EmotionError(f"--mqtt: the address has no host; {_FORM}")
    if port == 0:
        raise EmotionError("--mqtt: expected a port from 1 to 65535")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise EmotionError(
            "--mqtt: the address has ? or # in it; in a password, write them as %3F and %23; " + _FORM
        )
    prefix = parts.path.strip("/") or _PREFIX
    if not _TOPIC.fullmatch(prefix) or len(prefix) > 200:
        raise EmotionError(
            "--mqtt: the part after the host, with which all topics begin, may have letters, digits, _.- and "
            "/ between levels, at most 200 characters; for example mqtts://HOST:8883/home/emotion"
        )
    if parts.password and not parts.username:
        raise EmotionError(f"--mqtt: there is a password without a user; {_FORM}")
    user, password = (unquote(part) if part else None for part in (parts.username, parts.password))
    return BrokerAddress(host, port or _PORTS[parts.scheme], parts.scheme == "mqtts", prefix, user, password)
