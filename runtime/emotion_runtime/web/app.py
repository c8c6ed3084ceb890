"""The routes of the server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from emotion_runtime.errors import EmotionError
from emotion_runtime.web.analyses import decode_image
from emotion_runtime.web.cameras import CameraRefused
from emotion_runtime.web.openapi import openapi
from emotion_runtime.web.prometheus import CONTENT_TYPE
from emotion_runtime.web.requests import (
    Analysis,
    CameraList,
    CameraName,
    MarkerList,
    NewCamera,
    NewMarker,
    Refusal,
    answer,
    read_json,
)
from emotion_runtime.web.sign import sign_page
from emotion_runtime.web.state import WebState
from emotion_runtime.web.static_files import StaticFile, static_files
from emotion_runtime.web.streaming import Endless, events, mjpeg, source_of, watch

if TYPE_CHECKING:
    from concurrent.futures import Future

_ANALYSIS = 30.0  # seconds
Endpoint = Callable[[Request], Awaitable[Any]]


def make_app(state: WebState) -> Starlette:
    """Return the application, without what guards it; see `guard.Guard`."""
    routes = [Route(each.path, _static(each), methods=["GET"]) for each in static_files()]
    routes += [
        Route("/notice", _notice, methods=["GET"]),
        Route("/openapi.json", _openapi, methods=["GET"]),
        Route("/healthz", _healthz, methods=["GET"]),
        Route("/readyz", _readyz, methods=["GET"]),
        Route("/metrics", _metrics, methods=["GET"]),
        Route("/stream.mjpg", _mjpeg, methods=["GET"]),
        Route("/events", _events, methods=["GET"]),
        Route("/analyze", _analyze, methods=["POST"]),
        Route("/cameras", _cameras, methods=["GET", "POST", "DELETE"]),
        Route("/cameras/pause", _pause, methods=["POST"]),
        Route("/cameras/resume", _resume, methods=["POST"]),
        Route("/markers", _markers, methods=["GET", "POST"]),
        Route("/summary", _summary, methods=["GET"]),
    ]
    handlers: Any = {HTTPException: _http_problem, Refusal: _refusal, Exception: _mistake}
    app = Starlette(
        routes=[*routes, WebSocketRoute("/watch", watch)],
        exception_handlers=handlers,
    )
    app.router.redirect_slashes = False
    app.state.web = state
    return app


def _state(request: Request) -> WebState:
    state: WebState = request.app.state.web
    return state


def _static(file: StaticFile) -> Endpoint:
    async def static(_: Request) -> Response:
        return Response(file.content, headers={"content-type": file.media_type})

    return static


async def _notice(request: Request) -> Response:
    state = _state(request)
    cameras = [each.name for each in state.traffic.states() if each.status is not None]
    return Response(sign_page(state.sign, cameras), media_type="text/html")


async def _openapi(_: Request) -> Response:
    return Response(openapi(), media_type="application/json")


async def _healthz(request: Request) -> Response:
    if _state(request).healthy:
        return JSONResponse({"status": "ok"})
    raise Refusal(503, "the run makes no progress")


async def _readyz(request: Request) -> Response:
    if _state(request).ready:
        return JSONResponse({"status": "ready"})
    raise Refusal(503, "the run has not begun, or it ends")


async def _metrics(request: Request) -> Response:
    text = await asyncio.to_thread(_state(request).metrics.text)
    return Response(text, headers={"content-type": CONTENT_TYPE})


async def _mjpeg(request: Request) -> Endless:
    state = _state(request)
    if not state.content.images:
        raise Refusal(403, "no images are served in this run: --aggregate needs --blur for that")
    source = source_of(request, state)
    if source is None:
        raise Refusal(404, "there is no such camera; see /cameras")
    return mjpeg(state, source)


async def _events(request: Request) -> Endless:
    return events(_state(request))


async def _analyze(request: Request) -> Response:
    state = _state(request)
    if not state.content.single_people:
        raise Refusal(403, "this run publishes counts over several people only (--aggregate)")
    body = await request.body()
    try:
        async with state.decoding:  # one at a time: a small file can become a large image
            image = await asyncio.to_thread(decode_image, body)
    except EmotionError as error:
        raise Refusal(400, str(error)) from error
    future = state.analyses.submit(image)
    if future is None:
        raise Refusal(503, "too many images wait to be analysed, or the run ends; try again later")
    return answer(Analysis(await _result(future)))


async def _result(future: "Future[Any]") -> Any:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), _ANALYSIS)
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise Refusal(503, "the run did not analyse the image in time; try again later") from error
    except asyncio.CancelledError as error:
        if future.cancelled():
            raise Refusal(503, "the run ends") from error
        raise
    except EmotionError as error:
        raise Refusal(400, str(error)) from error


async def _list_cameras(request: Request) -> Response:
    state = _state(request)
    return answer(CameraList(cameras=state.traffic.states(), can_add=state.cameras.allow_adding))


async def _add_camera(request: Request) -> Response:
    wanted = await read_json(request, NewCamera)
    state = _state(request)
    name = await _asked(state.cameras.add, wanted.uri, failed=409)
    state.removed.discard(name)
    return answer(CameraName(name), 201)


async def _remove_camera(request: Request) -> Response:
    state = _state(request)
    name = request.query_params.get("name", "")
    await _asked(state.cameras.remove, name, failed=404)
    state.removed.add(name)
    state.traffic.drop(name)
    state.newest.drop(name)
    state.metrics.drop(name)
    return answer(CameraName(name))


async def _cameras(request: Request) -> Response:
    method = {"GET": _list_cameras, "HEAD": _list_cameras, "POST": _add_camera, "DELETE": _remove_camera}
    return await method[request.method](request)


async def _pause(request: Request) -> Response:
    wanted = await read_json(request, CameraName)
    await _asked(_state(request).cameras.pause, wanted.name, failed=404)
    _state(request).traffic.set_paused(wanted.name, paused=True)
    return answer(wanted)


async def _resume(request: Request) -> Response:
    wanted = await read_json(request, CameraName)
    await _asked(_state(request).cameras.resume, wanted.name, failed=404)
    _state(request).traffic.set_paused(wanted.name, paused=False)
    return answer(wanted)


async def _asked(act: Callable[[str], Any], value: str, *, failed: int) -> Any:
    """Do something with a camera in a thread, since it may take a moment.

    Raises:
        Refusal: It is not allowed, or it failed.
    """
    try:
        return await asyncio.to_thread(act, value)
    except CameraRefused as error:
        raise Refusal(403, str(error)) from error
    except EmotionError as error:
        raise Refusal(failed, str(error)) from error


async def _markers(request: Request) -> Response:
    session = _state(request).session
    if request.method != "POST":
        return answer(MarkerList(session.markers()))
    wanted = await read_json(request, NewMarker)
    return answer(session.mark(wanted.text), 201)


async def _summary(request: Request) -> Response:
    state = _state(request)
    async with state.summing:
        body = await asyncio.to_thread(state.session.encoded)
    return Response(body, media_type="application/json")


async def _http_problem(_: Request, error: Any) -> Response:
    reasons = {404: "there is nothing at this path", 405: "this method is not for this path"}
    text = reasons.get(error.status_code, "the request cannot be answered")
    return JSONResponse({"error": text}, error.status_code, headers=error.headers)


async def _refusal(_: Request, error: Any) -> Response:
    return JSONResponse({"error": error.reason}, error.status)


async def _mistake(_: Request, __: Any) -> Response:
    """Answer without details, which belong into the log of the operator."""
    return JSONResponse({"error": "the server made a mistake; its log has the details"}, 500)
