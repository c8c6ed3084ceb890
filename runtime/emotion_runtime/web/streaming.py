"""Answers that do not end: live images over a WebSocket, Motion JPEG, and events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.websockets import WebSocket

from emotion_runtime.rounding import rounded
from emotion_runtime.web.guard import Receive, Scope, Send
from emotion_runtime.web.newest import Shown
from emotion_runtime.web.state import WebState

_LOOK = 0.5  # seconds after which a stream looks around if nothing happens
_STATES = 1.0  # seconds between two messages about the cameras
_AGAIN = 5.0  # seconds after which Motion JPEG repeats an image, and events have a comment: "still there"
_CAMERAS = 100  # of which the page is told
_BOUNDARY = b"frame"


async def watch(websocket: WebSocket) -> None:
    """Send the newest images of all cameras, and once a second how the cameras do.

    A binary message is the length of a header in 4 bytes (big-endian), the header as JSON (`width`, `height`,
    `event`), and a JPEG. A text message is JSON, see `_overview`. A viewer that is slow gets fewer images.
    """
    state: WebState = websocket.app.state.web
    with state.viewer() as counted:
        if not counted:
            await websocket.close(1013, "too many viewers")
            return
        await websocket.accept()
        gone = asyncio.create_task(_until_closed(websocket))
        try:
            await _send_images(websocket, state, gone)
            if not gone.done():
                await websocket.close(1001, "the run has ended")
        finally:
            gone.cancel()


async def _send_images(websocket: WebSocket, state: WebState, gone: "asyncio.Task[None]") -> None:
    sent: dict[str, int] = {}
    loop = asyncio.get_running_loop()
    next_states = 0.0
    while not gone.done() and not state.closing.is_set():
        if loop.time() >= next_states:
            next_states = loop.time() + _STATES
            await websocket.send_text(_overview(state))
        fresh = state.newest.after(sent)
        for shown in fresh:
            sent[shown.event.source] = shown.index
            await websocket.send_bytes(await _packet(shown))
        if not fresh:
            await state.newest.bell.wait(_LOOK)


def _overview(state: WebState) -> str:
    """Return how the cameras do, what may be shown, and the colours of labels."""
    overview = {
        "cameras": [rounded(each) for each in state.traffic.states()[-_CAMERAS:]],
        "can_add": state.cameras.allow_adding,
        "images": state.content.images,
        "ids": state.content.ids,
        "least": state.content.least,
        "colors": state.colors,
    }
    return msgspec.json.encode(overview).decode()


async def _packet(shown: Shown) -> bytes:
    return shown.packet() if shown.ready else await asyncio.to_thread(shown.packet)


async def _until_closed(websocket: WebSocket) -> None:
    """Wait until a viewer leaves; what it sends is of no interest."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


class Endless:
    """An answer that ends when the client leaves, or the run ends.

    Args:
        state: Has the limit of viewers.
        chunks: The content.
        kind: Its media type.
    """

    def __init__(self, state: WebState, chunks: AsyncGenerator[bytes, None], kind: str) -> None:
        self._state, self._chunks, self._kind = state, chunks, kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the content; an application of ASGI."""
        with self._state.viewer() as counted:
            if not counted:
                body = b'{"error":"there are too many viewers; try again later"}'
                headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
                await send({"type": "http.response.start", "status": 503, "headers": headers})
                await send({"type": "http.response.body", "body": body})
                return
            headers = [(b"content-type", self._kind.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            gone = asyncio.create_task(_until_disconnected(receive))
            try:
                async with aclosing(self._chunks) as chunks:
                    async for chunk in chunks:
                        if gone.done():
                            return
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                gone.cancel()


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def mjpeg(state: WebState, source: str) -> Endless:
    """Return the images of a camera as Motion JPEG, with boxes and labels."""
    return Endless(state, _images(state, source), f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}")


async def _images(state: WebState, source: str) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    index, repeat_at = 0, 0.0
    while not state.closing.is_set():
        shown = state.newest.get(source)
        if shown is not None and (shown.index > index or loop.time() >= repeat_at):
            index, repeat_at = shown.index, loop.time() + _AGAIN
            image = await asyncio.to_thread(shown.annotated)
            head = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (_BOUNDARY, len(image))
            yield head + image + b"\r\n"
        else:
            await state.newest.bell.wait(_LOOK)
            if shown is None:
                yield b""  # so that a client that left is noticed
    yield b"--%s--\r\n" % _BOUNDARY


def events(state: WebState) -> Endless:
    """Return events as server-sent events; the data are lines of JSON as in a JSONL file."""
    return Endless(state, _lines(state), "text/event-stream; charset=utf-8")


async def _lines(state: WebState) -> AsyncGenerator[bytes, None]:
    listener = state.events.listen()
    loop = asyncio.get_running_loop()
    comment_at = 0.0
    try:
        yield b"event: run\ndata: %s\n\n" % msgspec.json.encode(rounded(state.run))
        while not state.closing.is_set():
            lines = listener.take()
            if lines:
                yield b"".join(b"data: %s\n\n" % line for line in lines)
            elif loop.time() >= comment_at:
                comment_at = loop.time() + _AGAIN
                yield b": %d lost\n\n" % listener.lost
            else:
                await state.events.bell.wait(_LOOK)
        yield b"".join(b"data: %s\n\n" % line for line in listener.take())
    finally:
        state.events.leave(listener)


def source_of(request: Request, state: WebState) -> str | None:
    """Return the source that a request is about; without a name, the first one."""
    name: Any = request.query_params.get("source")
    states = state.traffic.states()
    if name is None:
        return states[0].name if states else None
    return str(name) if any(one.name == name for one in states) else None
