"""Bodies of requests and of answers, and how they are read and written."""

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from emotion_runtime.rounding import rounded
from emotion_runtime.types import Person
from emotion_runtime.web.session import MARKER_LENGTH, Marker
from emotion_runtime.web.traffic import CameraState

T = TypeVar("T")


class CameraName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which camera a request is about.

    Attributes:
        name: Its name, as in the list of cameras.
    """

    name: str


class NewCamera(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A camera to add.

    Attributes:
        uri: [NAME=]URI, where URI begins with rtsp://, rtsps://, http:// or https://.
    """

    uri: str


class NewMarker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A marker to set.

    Attributes:
        text: What it says; may be empty.
    """

    text: str = ""

    def __post_init__(self) -> None:
        if len(self.text) > MARKER_LENGTH:
            raise ValueError(f"text has {len(self.text)} characters; expected at most {MARKER_LENGTH}")


class CameraList(msgspec.Struct, frozen=True, kw_only=True):
    """All cameras.

    Attributes:
        cameras: How each does.
        can_add: Whether clients may add and remove cameras.
    """

    cameras: list[CameraState]
    can_add: bool


class MarkerList(msgspec.Struct, frozen=True):
    """The latest markers.

    Attributes:
        markers: Oldest first.
    """

    markers: list[Marker]


class Analysis(msgspec.Struct, frozen=True):
    """The people in an image.

    Attributes:
        persons: From left to right.
    """

    persons: list[Person]


class Problem(msgspec.Struct, frozen=True):
    """Why a request failed.

    Attributes:
        error: One sentence.
    """

    error: str


class Refusal(Exception):  # noqa: N818 - names the event
    """A request that cannot be answered.

    Args:
        status: Status of HTTP.
        reason: One sentence for the client.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def answer(value: msgspec.Struct, status: int = 200) -> Response:
    """Return an answer as JSON."""
    return Response(msgspec.json.encode(rounded(value)), status, media_type="application/json")


async def read_json(request: Request, kind: type[T]) -> T:
    """Return the body of a request.

    Raises:
        Refusal: It is not JSON, or it does not have the fields that are expected.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(415, "expected a body of JSON, with Content-Type: application/json")
    body: Any = await request.body()
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not as expected: {str(error)[:300]}") from error
