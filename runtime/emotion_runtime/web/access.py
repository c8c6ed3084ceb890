"""Who may see the page: the token, the `Host` of a request, and the page that a request comes from."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from emotion_runtime.errors import EmotionError
from emotion_runtime.web.place import HOST, Place, is_ip

_SHORTEST = 16  # characters of a token
_LONGEST = 512
_DOCUMENTS = frozenset({"/", "/notice", "/sign-in"})  # pages that another site may link to
_SAFE = frozenset({"GET", "HEAD"})


def make_token() -> str:
    """Return a new token of 256 bits."""
    return secrets.token_urlsafe(32)


def read_token(path: str) -> str:
    """Return the token that a file contains.

    Raises:
        EmotionError: The file cannot be read, or what it contains is not suitable.
    """
    try:
        with Path(path).open("rb") as file:
            token = file.read(2 * _LONGEST).decode("ascii").strip()
    except OSError as error:
        raise EmotionError(
            f"--token-file {path}: cannot be read ({error.strerror}); give a file that this user may read"
        ) from error
    except UnicodeDecodeError:
        token = ""
    if not (_SHORTEST <= len(token) <= _LONGEST and re.fullmatch(r"[!-~]+", token)):
        raise EmotionError(
            f"--token-file {path}: expected one word of {_SHORTEST} to {_LONGEST} ASCII characters; make one "
            "with: openssl rand -hex 32"
        )
    return token


class Access:
    """Decides about requests by their headers.

    Args:
        place: Where the server listens.
        token: What a request needs. None: nothing, which is for 127.0.0.1 only.
        names: Further values of `Host`, such as the name of a reverse proxy; without a port they stand for
            all ports.
    """

    def __init__(self, place: Place, token: str | None, names: Sequence[str] = ()) -> None:
        self._place = place
        self._token = token
        self._names = {name.lower() for name in names}
        # A browser sends a cookie to all ports of a host, so the name tells servers of one machine apart.
        self.cookie = f"emotion_runtime_{place.port}"
        self._session = "" if token is None else _session_of(token)

    @property
    def needs_token(self) -> bool:
        """Whether a request needs a token."""
        return self._token is not None

    def host_allowed(self, host: str, arrived_at: str) -> bool:
        """Return whether a `Host` is one of this server: a foreign name may have been pointed at it.

        Args:
            host: The header.
            arrived_at: The local IP address of the connection.
        """
        match = HOST.fullmatch(host)
        if match is None:
            return False
        name, port = match[1].lower().rstrip(".").strip("[]"), match[2]
        if host.lower() in self._names or name in self._names:
            return True
        if int(port or 80) != self._place.port:
            return False
        if name == "localhost":
            return self._place.loopback or _is_loopback(arrived_at)
        if is_ip(name):
            return _same_ip(name, arrived_at) or _same_ip(name, self._place.host)
        return name == self._place.host

    def origin_allowed(self, headers: Mapping[str, str], method: str, path: str, *, socket: bool) -> bool:
        """Return whether a request comes from this server's own page, or from a program.

        A browser adds `Origin` to what a page of another site posts and to its WebSockets, and
        `Sec-Fetch-Site` to images that it embeds. Programs send neither.

        Args:
            headers: The headers, by lower-case name.
            method: GET, POST and so on.
            path: Path of the URL.
            socket: The request opens a WebSocket.
        """
        origin = headers.get("origin")
        if origin is not None and not _same_host(origin, headers.get("host", "")):
            return False
        if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
            return True
        link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return not socket and link and method in _SAFE and path in _DOCUMENTS

    def token_allowed(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request has the token, in a cookie or in `Authorization`."""
        if self._token is None:
            return True
        scheme, _, value = headers.get("authorization", "").partition(" ")
        given = value.strip() if scheme.lower() == "bearer" else ""
        if scheme.lower() == "basic":  # players of streams have fields for a user and a password
            given = _password(value.strip())
        return self.is_token(given) or _equal(_cookie(headers.get("cookie", ""), self.cookie), self._session)

    def is_token(self, text: str) -> bool:
        """Return whether a text is the token."""
        return self._token is not None and _equal(text, self._token)

    def set_cookie(self, *, secure: bool) -> str:
        """Return the value of `Set-Cookie` for somebody who has given the token."""
        return (
            f"{self.cookie}={self._session}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
            f"{'; Secure' if secure else ''}"
        )


def _session_of(token: str) -> str:
    """Return what the cookie holds: not the token itself, which would be readable in the browser's files."""
    return hmac.new(token.encode(), b"emotion-runtime cookie", hashlib.sha256).hexdigest()


def _equal(given: str, expected: str) -> bool:
    """Compare in constant time; hashes first, so that the length does not show either."""
    if not expected:
        return False
    hashes = [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (given, expected)]
    return hmac.compare_digest(*hashes)


def _cookie(header: str, name: str) -> str:
    """Return a cookie. Those of other programs at this host may have any form, and are passed over."""
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return next((value for key, _, value in pairs if key == name), "")


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def _same_host(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and parts.netloc.lower() == host.lower()


def _same_ip(left: str, right: str) -> bool:
    if not (is_ip(left) and is_ip(right)):
        return False
    return _plain(left) == _plain(right)


def _is_loopback(host: str) -> bool:
    return is_ip(host) and ipaddress.ip_address(_plain(host)).is_loopback


def _plain(host: str) -> str:
    """Return an IP address, as IPv4 if it is one that arrived over a socket of both kinds."""
    address = ipaddress.ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
