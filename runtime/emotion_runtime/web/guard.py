"""Stands before every request: hosts, origins, tokens, sizes, rates, slow clients, and headers of answers."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from emotion_runtime.web.access import Access
from emotion_runtime.web.limits import RateLimit, WebLimits
from emotion_runtime.web.sign_in import sign_in_page, signed_in_page

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Client = tuple[str, int]

_log = logging.getLogger(__name__)
# What needs no token: whether the program works, and what the page of signing in is made from.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/app.css", "/icon.svg"})
SIGN_IN = "/sign-in"
ANALYZE = "/analyze"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with `no-referrer` forms would have the origin "null"
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class ClientGone(Exception):  # noqa: N818 - names the event
    """The client of a request takes nothing any more."""


class Guard:
    """An ASGI application that lets good requests through to another one.

    Args:
        app: The other one.
        access: Who may see what.
        limits: How much a client may ask for.
        cut_off: Ends the connection of a client that takes nothing of what is sent to it.
    """

    def __init__(
        self, app: App, access: Access, limits: WebLimits, cut_off: Callable[[Client], None]
    ) -> None:
        self._app, self._access, self._limits, self._cut_off = app, access, limits, cut_off
        self._requests = RateLimit(limits.requests_per_second, limits.burst)
        self._mistakes = RateLimit(limits.sign_ins_per_minute / 60, limits.sign_ins_per_minute)
        self._uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            return
        try:
            await self._respond(scope, receive, send)
        except ClientGone:  # which is no error
            await asyncio.sleep(0.01)  # the end of the connection is noticed meanwhile

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        client = scope.get("client") or ("", 0)
        refusal = self._refusal(scope, headers, client[0])
        if refusal is None and scope["type"] == "websocket":
            await self._app(scope, receive, self._careful(send, client))
        elif refusal is None:
            await self._answer(scope, receive, self._careful(send, client))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1][:100]})
        elif refusal[0] == HTTPStatus.UNAUTHORIZED and "text/html" in headers.get("accept", ""):
            await _reply(self._careful(send, client), refusal[0], sign_in_page(), kind="text/html")
        else:
            await _refuse(self._careful(send, client), *refusal)

    def _refusal(self, scope: Scope, headers: dict[str, str], client: str) -> tuple[int, str] | None:
        """Return the status and the reason if a request is refused."""
        path, socket = scope["path"], scope["type"] == "websocket"
        arrived_at = (scope.get("server") or ("", 0))[0]
        if not self._access.host_allowed(headers.get("host", ""), arrived_at):
            return 421, "this host name is not one of this server; see --serve-name"
        if not self._requests.take(client):
            return 429, "too many requests; wait a moment"
        if not self._access.origin_allowed(headers, scope.get("method", "GET"), path, socket=socket):
            return 403, "requests from pages of other sites are refused"
        if path not in OPEN_PATHS and path != SIGN_IN:
            refusal = self._token_refusal(headers, client)
            if refusal is not None:
                return refusal
        return _length_refusal(headers.get("content-length", "0"), self._body_limit(path))

    def _token_refusal(self, headers: dict[str, str], client: str) -> tuple[int, str] | None:
        # The token always opens: behind a proxy all clients have one address, and none may lock out others.
        if not self._access.needs_token or self._access.token_allowed(headers):
            return None
        if "authorization" in headers and not self._mistakes.take(client):
            return 429, "too many wrong tokens; wait a minute"
        return 401, "a token is needed: sign in, or send it as `Authorization: Bearer TOKEN`"

    def _body_limit(self, path: str) -> int:
        return self._limits.image if path == ANALYZE else self._limits.body

    async def _sign_in(self, scope: Scope, body: bytes, send: Send) -> None:
        """Show the page of signing in, or take the token and set the cookie."""
        if scope["method"] == "POST":
            token = _field(body.decode("utf-8", "replace"), "token")
        elif scope["method"] in ("GET", "HEAD"):
            token = _field(scope["query_string"].decode("latin-1"), "token")
        else:
            await _refuse(send, 405, "expected GET or POST")
            return
        client = (scope.get("client") or ("", 0))[0]
        if self._access.needs_token and not token:
            await _reply(send, 200, sign_in_page(), kind="text/html")
        elif self._access.needs_token and not self._access.is_token(token):
            status, words = 401, "This is not the token."
            if not self._mistakes.take(client):
                status, words = 429, "Too many wrong tokens. Wait a minute."
            await _reply(send, status, sign_in_page(words), kind="text/html")
        else:
            headers = _headers(scope)
            # A proxy says so; a client that says so itself gets a cookie that it does not send.
            secure = "https" in (
                headers.get("origin", "").partition(":")[0],
                headers.get("x-forwarded-proto"),
            )
            # No redirection: a browser that comes from another site would not send the cookie after it.
            extra = {"set-cookie": self._access.set_cookie(secure=secure)} if self._access.needs_token else {}
            await _reply(send, 200, signed_in_page(), kind="text/html", extra=extra)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body of a request, within its limits, and let the application answer."""
        path, limit = scope["path"], self._body_limit(scope["path"])
        if path == ANALYZE and self._uploads >= self._limits.uploads:
            await _refuse(send, 503, "too many images are being sent; try again later")
            return
        self._uploads += path == ANALYZE
        try:
            body = await self._body(receive, limit, send)
            if body is not None:
                await self._pass_on(scope, body, receive, send)
        finally:
            self._uploads -= path == ANALYZE

    async def _body(self, receive: Receive, limit: int, send: Send) -> bytes | None:
        """Return the body of a request; None if it was refused, or the client left."""
        try:
            body = await asyncio.wait_for(_read_body(receive, limit), self._limits.body_seconds)
        except ConnectionError:
            return None
        except (TimeoutError, asyncio.TimeoutError):
            await _refuse(send, 408, "the body did not arrive in time")
            return None
        if body is None:
            await _refuse(send, 413, _too_large(limit))
        return body

    async def _pass_on(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Let the application answer."""
        if scope["path"] == SIGN_IN:
            await self._sign_in(scope, body, send)
        else:
            await self._app(scope, _replayed(body, receive), send)

    def _careful(self, send: Send, client: Client) -> Send:
        """Return `send` with the headers of all answers, and with a deadline; it raises ClientGone."""

        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *extra]
            try:
                await asyncio.wait_for(send(message), self._limits.send_seconds)
            except (TimeoutError, asyncio.TimeoutError) as error:
                _log.info("a viewer that took nothing for %g s was cut off", self._limits.send_seconds)
                self._cut_off(client)
                raise ClientGone from error
            except OSError as error:
                raise ClientGone from error
            except RuntimeError as error:
                # What the server raises for a WebSocket that it has closed, as one that answers no ping.
                if message["type"] != "websocket.send":
                    raise
                raise ClientGone from error

        return careful


def _length_refusal(length: str, limit: int) -> tuple[int, str] | None:
    if not length.isdecimal() or len(length) > 18:
        return 400, "Content-Length is not a number"
    return (413, _too_large(limit)) if int(length) > limit else None


def _too_large(limit: int) -> str:
    return f"the body is too large; expected at most {limit} bytes"


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by name. A header that comes twice has both values, which none of ours has."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        joint = "; " if name == "cookie" else ", "
        found[name] = f"{found[name]}{joint}{value}" if name in found else value
    return found


def _field(form: str, name: str) -> str:
    try:
        return parse_qs(form, max_num_fields=10).get(name, [""])[0].strip()
    except ValueError:
        return ""


async def _read_body(receive: Receive, limit: int) -> bytes | None:
    """Return the body of a request; None if it is too large."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read, and then what comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(send: Send, status: int, reason: str) -> None:
    extra = {}
    if status == HTTPStatus.UNAUTHORIZED:
        extra = {"www-authenticate": 'Bearer realm="emotion-runtime"'}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        extra = {"retry-after": "10"}
    if status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT):
        extra = {"connection": "close"}  # the rest of the body is not read
    await _reply(send, status, json.dumps({"error": reason}), kind="application/json", extra=extra)


async def _reply(
    send: Send, status: int, text: str, *, kind: str, extra: dict[str, str] | None = None
) -> None:
    body = text.encode()
    headers = {"content-type": f"{kind}; charset=utf-8", "content-length": str(len(body)), **(extra or {})}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": pairs})
    await send({"type": "http.response.body", "body": body})
