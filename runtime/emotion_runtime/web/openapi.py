"""The description of the interface in OpenAPI 3.1, made from the types of bodies and answers."""

from functools import cache
from typing import Any

import msgspec

from emotion_runtime import __version__
from emotion_runtime.types import RunLine
from emotion_runtime.web.requests import (
    Analysis,
    CameraList,
    CameraName,
    MarkerList,
    NewCamera,
    NewMarker,
    Problem,
)
from emotion_runtime.web.session import MARKER_LENGTH, Marker, SessionView

_TYPES = (
    Analysis,
    CameraList,
    CameraName,
    MarkerList,
    NewCamera,
    NewMarker,
    Problem,
    Marker,
    SessionView,
    RunLine,
)
_ALWAYS = {
    "401": "a token is needed",
    "403": "the request comes from a page of another site, or the configuration does not allow it",
    "421": "the host name is not one of this server",
    "429": "too many requests",
}
_WITH_BODY = {"400": "the body is not as expected", "408": "the body is too slow", "413": "it is too large"}
_JSON = {"415": "the body is not JSON"}


@cache
def openapi() -> bytes:
    """Return the description as JSON."""
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    schemas["NewMarker"]["properties"]["text"]["maxLength"] = MARKER_LENGTH
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "emotion-runtime",
                "version": __version__,
                "description": "How each person in front of a camera appears to feel.",
            },
            "paths": _paths(),
            "security": [{"bearer": []}, {"basic": []}, {}],
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "basic": {"type": "http", "scheme": "basic"},
                },
            },
        }
    )


def _paths() -> dict[str, Any]:
    name = {"name": "name", "in": "query", "required": True, "schema": {"type": "string"}}
    source = {"name": "source", "in": "query", "schema": {"type": "string"}}
    camera = {"404": "there is no such camera"}
    full = {"503": "too many viewers"}
    waiting = {"503": "too many images wait"}
    image: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    images = {
        "requestBody": {
            "required": True,
            "content": dict.fromkeys(("image/jpeg", "image/png", "image/webp"), image),
        }
    }
    return {
        "/analyze": {"post": _op("Analyse one image", "Analysis", _WITH_BODY | waiting) | images},
        "/cameras": {
            "get": _op("List the cameras", "CameraList"),
            "post": _op(
                "Add a network camera", "CameraName", {"409": "it cannot be added"}, "NewCamera", status="201"
            ),
            "delete": _op("Remove a camera", "CameraName", camera) | {"parameters": [name]},
        },
        "/cameras/pause": {"post": _op("Pause a camera", "CameraName", camera, "CameraName")},
        "/cameras/resume": {"post": _op("Resume a camera", "CameraName", camera, "CameraName")},
        "/events": {
            "get": _op("Events, as server-sent events", "text/event-stream", full),
        },
        "/healthz": {"get": _open("Whether the run makes progress")},
        "/readyz": {"get": _open("Whether the run has begun")},
        "/markers": {
            "get": _op("List the markers", "MarkerList"),
            "post": _op("Set a marker at the present moment", "Marker", {}, "NewMarker", status="201"),
        },
        "/metrics": {"get": _op("Metrics for Prometheus", "text/plain")},
        "/notice": {"get": _op("A printable notice", "text/html")},
        "/stream.mjpg": {
            "get": _op("Images of a camera as Motion JPEG", "multipart/x-mixed-replace", camera | full)
            | {"parameters": [source]}
        },
        "/summary": {"get": _op("Timelines, shares, changes and markers of this run", "SessionView")},
    }


def _op(
    summary: str,
    result: str,
    problems: dict[str, str] | None = None,
    body: str | None = None,
    *,
    status: str = "200",
) -> dict[str, Any]:
    """Return an operation.

    Args:
        summary: What it does.
        result: Name of the type of the answer, or its media type.
        problems: Further statuses, with what they mean.
        body: Name of the type of the body.
        status: The status if it works.
    """
    content = {result: {}} if "/" in result else {"application/json": {"schema": _ref(result)}}
    found: dict[str, Any] = {
        "summary": summary,
        "responses": {status: {"description": summary, "content": content}},
    }
    all_problems = _ALWAYS | (problems or {})
    if body is not None:
        all_problems |= _WITH_BODY | _JSON
        schema = {"schema": _ref(body)}
        found["requestBody"] = {"required": True, "content": {"application/json": schema}}
    for code, meaning in all_problems.items():
        problem = {"application/json": {"schema": _ref("Problem")}}
        found["responses"][code] = {"description": meaning, "content": problem}
    return found


def _open(summary: str) -> dict[str, Any]:
    """Return an operation that needs no token."""
    found = _op(summary, "application/json", {"503": "no"})
    del found["responses"]["401"]
    return found | {"security": [{}]}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
