"""What a client may do with the cameras of a run."""

import threading
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from emotion_runtime.errors import EmotionError
from emotion_runtime.sources import Address, parse_source

_MOST = 32  # cameras of a run
_SCHEMES = ("rtsp", "rtsps", "http", "https")
_LONGEST = 2000  # characters of a URI


class CameraRefused(EmotionError):  # noqa: N818 - names the event
    """The configuration does not allow this."""


class SourceControl(Protocol):
    """What is needed of `rounds.Rounds`."""

    def pause(self, name: str) -> None:
        """Take no frames from a source until `resume` is called."""
        ...

    def resume(self, name: str) -> None:
        """Take frames from a source again."""
        ...

    def remove(self, name: str) -> None:
        """Close a source."""
        ...

    def names(self) -> list[str]:
        """Return the names of the sources that are not over and were not removed."""
        ...


class Cameras:
    """Pauses and resumes the cameras of a run; adds and removes them where the configuration allows it.

    Args:
        control: The sources of the run.
        add: Opens one more source.
        allow_adding: Whether clients may add cameras, and remove them.
    """

    def __init__(
        self, control: SourceControl, add: Callable[[Address], None], *, allow_adding: bool = False
    ) -> None:
        self._control, self._add, self.allow_adding = control, add, allow_adding
        self._changing = threading.Lock()  # so that two requests do not remove the last two cameras

    def pause(self, name: str) -> None:
        """Pause a camera.

        Raises:
            EmotionError: There is none of this name.
        """
        self._control.pause(name)

    def resume(self, name: str) -> None:
        """Resume a camera.

        Raises:
            EmotionError: There is none of this name.
        """
        self._control.resume(name)

    def add(self, uri: str) -> str:
        """Add a network camera, and return its name.

        Args:
            uri: [NAME=]URI, where URI begins with rtsp://, rtsps://, http:// or https://.

        Raises:
            CameraRefused: The configuration does not allow it.
            EmotionError: It is no such address, or there is a camera of its name, or there are too many.
        """
        self._check_allowed()
        expected = f"expected [NAME=]URI with a URI that begins with {', '.join(f'{s}://' for s in _SCHEMES)}"
        if len(uri) > _LONGEST or not uri.isprintable() or "${" in uri:
            raise EmotionError(f"this is not the address of a camera; {expected}")
        address = parse_source(uri)
        if address.kind != "network" or urlsplit(address.uri).scheme.lower() not in _SCHEMES:
            raise EmotionError(f"only network cameras can be added; {expected}")
        with self._changing:
            if len(self._control.names()) >= _MOST:
                raise EmotionError(f"there are {_MOST} cameras already; remove one first")
            self._add(address)
        return address.name

    def remove(self, name: str) -> None:
        """Remove a camera.

        Raises:
            CameraRefused: The configuration does not allow it, or it is the last one, with which the run
                would end.
            EmotionError: There is none of this name.
        """
        self._check_allowed()
        with self._changing:
            if self._control.names() == [name]:
                raise CameraRefused("this is the last camera: the run would end; pause it instead")
            self._control.remove(name)

    def _check_allowed(self) -> None:
        if not self.allow_adding:
            raise CameraRefused(
                "cameras cannot be added or removed in this run; start it with --serve-cameras to allow it"
            )
