"""What a client may do with the cameras of a run."""

import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from emotion_runtime.errors import EmotionError
from emotion_runtime.sources import Address, is_network, parse_source, same_target

_MOST = 32  # cameras of a run
_EXPECTED = "expected [NAME=]URI with a URI that begins with rtsp://, rtsps://, http:// or https://"
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
        first: The sources that the run began with.
    """

    def __init__(
        self,
        control: SourceControl,
        add: Callable[[Address], None],
        *,
        allow_adding: bool = False,
        first: Iterable[Address] = (),
    ) -> None:
        self._control, self._add, self.allow_adding = control, add, allow_adding
        self._opened = {address.name: address for address in first}
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
            EmotionError: It is no such address, a camera has its name or its address already, or there are
                too many.
        """
        self._check_allowed()
        if len(uri) > _LONGEST or not uri.isprintable() or "${" in uri:
            raise EmotionError(f"this is not the address of a camera; {_EXPECTED}")
        if not is_network(uri):  # `parse_source` would look for a file, or for all files of a pattern
            raise EmotionError(f"only network cameras can be added; {_EXPECTED}")
        address = parse_source(uri)
        with self._changing:
            names = self._control.names()
            if len(names) >= _MOST:
                raise EmotionError(f"there are {_MOST} cameras already; remove one first")
            for name, opened in self._opened.items():
                if name in names and name != address.name and same_target(address, opened):
                    raise EmotionError(f"this camera is open already: {name}; give another one")
            self._add(address)
            self._opened[address.name] = address
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
