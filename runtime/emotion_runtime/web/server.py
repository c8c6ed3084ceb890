"""The server: a thread with an event loop of its own, beside the loop of the run."""

import asyncio
import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from emotion_runtime.errors import EmotionError
from emotion_runtime.web.guard import App, Client, Guard
from emotion_runtime.web.limits import WebLimits, client_key
from emotion_runtime.web.place import Place

_START = 10.0  # seconds
_STOP = 3.0
_BACKLOG = 64
_BUFFER = 128 * 1024  # bytes that wait in the system for one client
_log = logging.getLogger(__name__)


def bind(place: Place) -> socket.socket:
    """Return a socket that listens.

    Raises:
        EmotionError: The port is in use, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    # With the protocol named, asyncio sends small parts at once (TCP_NODELAY): otherwise each may wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Small, so that a slow viewer gets fewer frames instead of old ones; connections inherit it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        listener.bind((place.host, place.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_bind(place, error) from error
    return listener


def _cannot_bind(place: Place, error: OSError) -> EmotionError:
    if error.errno == errno.EADDRINUSE:
        return EmotionError(f"--serve {place}: another program uses this port; give another one")
    if error.errno == errno.EACCES:
        return EmotionError(f"--serve {place}: this user may not use this port; give one above 1023")
    return EmotionError(
        f"--serve {place}: this machine has no such address ({error.strerror or error}); give 127.0.0.1, an "
        "address of this machine, or 0.0.0.0 for all of them"
    )


class WebServer:
    """Serves an application until it is closed.

    Args:
        listener: A socket that listens, see `bind`.
        make: Returns the guarded application, given what cuts a client off.
        limits: How much a client may ask for.

    Attributes:
        error: Why the server has ended; None while it serves.

    Raises:
        EmotionError: It does not start.
    """

    def __init__(
        self, listener: socket.socket, make: Callable[[Callable[[Client], None]], Guard], limits: WebLimits
    ) -> None:
        self.error: str | None = None
        self._listener, self._limits = listener, limits
        self._server = uvicorn.Server(_config(make(self._cut_off), limits))
        self._thread = threading.Thread(target=self._run, name="web server", daemon=True)
        self._thread.start()
        give_up = time.monotonic() + _START
        while not self._server.started and self._thread.is_alive() and time.monotonic() < give_up:
            time.sleep(0.01)
        if not self._server.started:
            self.close()
            raise EmotionError(f"--serve: the server did not start ({self.error or 'no reason is known'})")

    def close(self) -> None:
        """End the server, and cut off who is left; safe to call twice."""
        self._server.should_exit = True
        self._thread.join(_STOP)
        self._listener.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - the run goes on without its page
            _log.debug("the web server ended", exc_info=True)
            self.error = f"{type(error).__name__}: {error}"
        else:
            if not self._server.should_exit:
                self.error = "it ended by itself"

    async def _serve(self) -> None:
        sweep = asyncio.create_task(self._sweep())
        try:
            await self._server.serve([self._listener])
        finally:
            sweep.cancel()

    async def _sweep(self) -> None:
        """Cut off connections whose next request does not arrive: the number of connections is limited."""
        since: dict[tuple[Any, Any], float] = {}
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            since = still_silent(self._server.server_state.connections, since, now)
            for (each, _), start in since.items():
                if now - start > self._limits.silent_seconds and each.transport is not None:
                    each.transport.abort()

    def _cut_off(self, client: Client) -> None:
        connections: list[Any] = list(self._server.server_state.connections)
        for each in connections:
            if each.transport is not None and tuple(each.client or ()) == tuple(client):
                each.transport.abort()


def still_silent(
    connections: Iterable[Any], since: Mapping[tuple[Any, Any], float], now: float
) -> dict[tuple[Any, Any], float]:
    """Return since when connections wait for a request, by the connection and its latest request.

    Args:
        connections: Those of uvicorn.
        since: What was returned at the look before.
        now: The time of this look.
    """
    silent = [(each, each.cycle) for each in connections if _is_silent(each)]
    return {key: since.get(key, now) for key in silent}


def _is_silent(connection: Any) -> bool:
    """Return whether a connection of HTTP is between two requests, or has made none."""
    if not hasattr(connection, "cycle"):  # a WebSocket
        return False
    return connection.cycle is None or connection.cycle.response_complete


def _connection_class(most: int) -> type[H11Protocol]:
    """Return the class of connections of which one client has `most` at once; uvicorn limits all of them."""

    class LimitedConnection(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            connections: list[Any] = list(self.connections)
            clients = [client_key(each.client[0]) for each in connections if each.client is not None]
            if self.client is not None and clients.count(client_key(self.client[0])) > most:
                _log.info("a client that has %d connections was refused one more", most)
                self.loop.call_soon(transport.abort)  # not now: asyncio has yet to begin reading

    return LimitedConnection


def _config(app: App, limits: WebLimits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_connection_class(limits.connections_per_client),
        ws="websockets-sansio",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,  # who looks at what is not written down
        proxy_headers=False,
        server_header=False,
        date_header=False,
        ws_max_size=4096,  # viewers send nothing
        ws_max_queue=4,
        ws_per_message_deflate=False,
        limit_concurrency=limits.connections,
        backlog=_BACKLOG,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=16 * 1024,
    )
