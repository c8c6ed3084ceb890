"""Requests over HTTP that end in time, whatever a server does, and at once when they are cancelled."""

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Event
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPBasicAuthHandler,
    HTTPDefaultErrorHandler,
    HTTPDigestAuthHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPPasswordMgrWithDefaultRealm,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
)

from emotion_runtime.errors import ConnectionLost
from emotion_runtime.sources.faults import explained, not_a_stream, of_status, tls_context
from emotion_runtime.sources.mjpeg import MOST_BYTES
from emotion_runtime.sources.network_address import NetworkAddress

_LOOK = 0.2  # seconds between two looks at the deadline
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")


class _Deadline:
    """Until when one connection may wait.

    Args:
        seconds: From now.
        cancel: Ends the wait at once.
    """

    def __init__(self, seconds: float, cancel: Event) -> None:
        self._cancel = cancel
        self.allow(seconds)

    def allow(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def read(self, read: Callable[[], int]) -> int:
        """Read from a socket whose own time limit is short, until data, the deadline or the cancellation."""
        while True:
            if self._cancel.is_set():
                return 0  # as at the end of a connection
            if time.monotonic() >= self._end:
                raise TimeoutError
            with suppress(TimeoutError):
                return read()


class _PlainSocket(socket.socket):
    """A socket that waits as its deadline says. The limit of a socket starts anew with every byte."""

    deadline: _Deadline | None = None

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        receive = super().recv_into
        return (
            self.deadline.read(lambda: receive(buffer, nbytes, flags)) if self.deadline else receive(buffer)
        )


class _TLSSocket(ssl.SSLSocket):
    """The same with encryption."""

    deadline: _Deadline | None = None

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        receive = super().recv_into
        if self.deadline is None:
            return receive(buffer, nbytes, flags)
        return self.deadline.read(lambda: receive(buffer, nbytes, flags))


class _PlainConnection(http.client.HTTPConnection):
    def __init__(self, *args: Any, deadline: _Deadline, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        plain = _PlainSocket(fileno=self.sock.detach())
        plain.deadline = self._deadline
        plain.settimeout(_LOOK)
        self.sock = plain


class _TLSConnection(http.client.HTTPSConnection):
    def __init__(self, *args: Any, deadline: _Deadline, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        assert isinstance(self.sock, _TLSSocket)  # noqa: S101 - made by the context
        self.sock.deadline = self._deadline
        self.sock.settimeout(_LOOK)


class _Handler(HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._make = partial(_PlainConnection, deadline=deadline)

    def http_open(self, req: Request) -> Any:
        return self.do_open(self._make, req)


class _TLSHandler(HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline
        self._context: ssl.SSLContext | None = None  # reading the certificates takes a tenth of a second

    def https_open(self, req: Request) -> Any:
        if self._context is None:
            self._context = tls_context()
            self._context.sslsocket_class = _TLSSocket
        return self.do_open(partial(_TLSConnection, deadline=self._deadline, context=self._context), req)


class _Redirections(HTTPRedirectHandler):
    """Follows redirections over HTTP, but not from HTTPS to HTTP; urllib alone would, and to FTP, too."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).scheme not in (("https",) if req.type == "https" else ("http", "https")):
            raise HTTPError(newurl, code, msg, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Answer:
    """The answer of a server, whose body can be read.

    Attributes:
        kind: Content type, such as "image/jpeg"; "" if the server does not say.
        boundary: What separates the parts of a multipart content.
        length: Bytes of the body; None: not stated, as for a stream without an end.
        url: Address that answered, after redirections; without the password.
    """

    def __init__(self, response: Any, deadline: _Deadline) -> None:
        self._response, self._deadline = response, deadline
        headers = response.headers
        self.kind = headers.get_content_type() if headers.get("content-type") else ""
        self.boundary = str(headers.get_param("boundary", "")).encode("latin-1", "replace")
        self.length: int | None = response.length
        self.url: str = response.url

    def is_image(self) -> bool:
        """Return whether the body is one JPEG, PNG or WebP image, whatever the server calls it."""
        if self.length is None:  # images without an end, which are a video
            return False
        begin = self._checked(lambda: self._response.peek(4)[:4])
        return begin.startswith(_IMAGES)

    def allow(self, seconds: float) -> None:
        """Let what is read next take so many seconds from now."""
        self._deadline.allow(seconds)

    def read(self, count: int) -> bytes:
        """Return so many bytes; fewer only at the end."""
        return self._checked(lambda: self._response.read(count))

    def line(self, most: int) -> bytes:
        """Return the bytes up to and with the next line feed, at most so many; none at the end."""
        return self._checked(lambda: self._response.readline(most))

    def rest(self) -> bytes:
        """Return the whole body.

        Raises:
            ConnectionLost: It is too large, or the connection broke.
        """
        data = self.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES or (self.length is not None and len(data) < self.length):
            raise ConnectionLost("the server sent only a part of an image, or one without end", "connection")
        return data

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._response.close()

    def _checked(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except http.client.IncompleteRead as error:
            return error.partial
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _lost(error, self._deadline.seconds) from None


class HttpClient:
    """Sends requests to one address, one after the other.

    Redirections are followed; the password goes to the server of the address only. No proxy is used, whatever
    the environment says: cameras are near, and a proxy would see the images and the password.

    Args:
        address: What to request.
        cancel: Ends every request, and the reading of its answer.
    """

    def __init__(self, address: NetworkAddress, cancel: Event) -> None:
        self._uri = address.bare
        self._deadline = _Deadline(0.0, cancel)
        handlers: list[Any] = [_Handler(self._deadline), _TLSHandler(self._deadline)]
        if address.user is not None:
            passwords = HTTPPasswordMgrWithDefaultRealm()
            passwords.add_password(None, address.bare, address.user, address.password or "")
            handlers += [HTTPDigestAuthHandler(passwords), HTTPBasicAuthHandler(passwords)]
        # Not `build_opener`, which adds proxies of the environment, FTP and files.
        self._opener = OpenerDirector()
        for handler in (*handlers, HTTPDefaultErrorHandler(), _Redirections(), HTTPErrorProcessor()):
            self._opener.add_handler(handler)

    def request(self, seconds: float) -> Answer:
        """Send a request and return the answer, whose body the caller reads and closes.

        Args:
            seconds: Time limit until the header of the answer is complete.

        Raises:
            ConnectionLost: There is no answer, or not the status 200.
        """
        self._deadline.allow(seconds)
        try:
            response = self._opener.open(Request(self._uri), timeout=seconds)  # noqa: S310 - http(s)
        except HTTPError as error:
            error.close()
            raise of_status(error.code) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, ValueError) and "auth" in str(error).lower():
                raise ConnectionLost(
                    "the server wants a kind of authentication that is not supported; choose basic, or "
                    "digest with MD5, in the camera",
                    "authentication",
                ) from None
            reason = error.reason if isinstance(error, URLError) else error
            raise _lost(reason if isinstance(reason, Exception) else error, seconds) from None
        return Answer(response, self._deadline)


def _lost(error: Exception, limit: float) -> ConnectionLost:
    return explained(error, 0.0, limit) or not_a_stream("HTTP")
