"""Addresses of RTSP and HTTP, and the time limits of their connections."""

import string
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from emotion_runtime.errors import EmotionError

SCHEMES = ("rtsp", "rtsps", "http", "https")


@dataclass(frozen=True, slots=True)
class NetworkLimits:
    """Time limits of a connection, in seconds.

    Attributes:
        opening: From the first packet sent to the first image.
        silence: Without an image.
        every: Between two requests for a snapshot, if the address does not say otherwise.
    """

    opening: float = 5.0
    silence: float = 5.0
    every: float = 1.0


@dataclass(frozen=True, slots=True, repr=False)
class NetworkAddress:
    """An address of RTSP or HTTP, taken apart.

    Attributes:
        uri: The whole address without the options, and with the user and password.
        bare: The same without user and password.
        scheme: One of `SCHEMES`.
        host: Name or number of the server.
        port: Port of the server.
        user: User name; None: none.
        password: Password; None: none.
        options: What follows `#`, such as {"transport": "udp"}.
    """

    uri: str
    bare: str
    scheme: str
    host: str
    port: int
    user: str | None
    password: str | None
    options: dict[str, str]


PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_OPTIONS = {"rtsp": {"transport"}, "rtsps": {"transport"}, "http": {"every"}, "https": {"every"}}
_TRANSPORTS = ("tcp", "udp")


def parse_address(uri: str) -> NetworkAddress:
    """Take an address apart.

    Args:
        uri: rtsp(s):// or http(s)://, with user and password if the server wants them. Options follow `#`:
            `transport=tcp` or `transport=udp` for RTSP, `every=SECONDS` for snapshots.

    Raises:
        EmotionError: The address is not valid. What it says is not repeated, since it may hold a password.
    """
    scheme = uri.split("://", maxsplit=1)[0].lower()
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or scheme not in SCHEMES or any(character.isspace() for character in uri):
        raise EmotionError(
            f"source {scheme}://...: the address is not valid; expected {scheme}://USER:PASSWORD@HOST:PORT/PATH,"
            " in which /, ?, #, @, % and spaces in a password are written as %2F, %3F, %23, %40, %25 and %20"
        )
    options = dict(parse_qsl(parts.fragment))
    _check_options(scheme, parts.fragment, options)
    place = parts.netloc.rpartition("@")[2]
    # Servers get ASCII; what is encoded already stays.
    path, query = (quote(part, safe=string.punctuation) for part in (parts.path, parts.query))
    return NetworkAddress(
        uri=urlunsplit((scheme, parts.netloc, path, query, "")),
        bare=urlunsplit((scheme, place, path or "/", query, "")),
        scheme=scheme,
        host=host,
        port=port or PORTS[scheme],
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        options=options,
    )


def _check_options(scheme: str, fragment: str, options: dict[str, str]) -> None:
    known = _OPTIONS[scheme]
    if (fragment and not options) or set(options) - known:
        raise EmotionError(
            f"source {scheme}://...: what follows # is not an option of {scheme}; expected "
            f"#{next(iter(known))}=...; in a password, # is written as %23"
        )
    if options.get("transport", "tcp") not in _TRANSPORTS:
        raise EmotionError(f"source {scheme}://...: expected #transport=tcp or #transport=udp")
    try:
        valid = 0.05 <= float(options.get("every", "1")) <= 3600
    except ValueError:
        valid = False
    if not valid:
        raise EmotionError(f"source {scheme}://...: expected #every=SECONDS between 0.05 and 3600")
