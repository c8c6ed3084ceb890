"""Events as lines of JSON for all clients that listen; one that is slow loses the oldest."""

import threading
from collections import deque

import msgspec

from emotion_runtime.rounding import rounded
from emotion_runtime.web.newest import Bell

_LINES = 256  # that wait for one client


class Listener:
    """The lines that wait for one client.

    Attributes:
        lost: Lines that were dropped because the client was slow.
    """

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._lock = threading.Lock()
        self.lost = 0

    def put(self, line: bytes) -> None:
        """Add a line."""
        with self._lock:
            self._lines.append(line)
            if len(self._lines) > _LINES:
                self._lines.popleft()
                self.lost += 1

    def take(self) -> list[bytes]:
        """Return the lines that wait."""
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
        return lines


class EventFeed:
    """Gives every line to every listener.

    Attributes:
        bell: Rings with every line.
    """

    def __init__(self) -> None:
        self.bell = Bell()
        self._listeners: set[Listener] = set()

    def put(self, line: msgspec.Struct) -> None:
        """Publish an event or a change of a status; nothing is encoded if nobody listens."""
        listeners = list(self._listeners)
        if not listeners:
            return
        text = msgspec.json.encode(rounded(line))
        for listener in listeners:
            listener.put(text)
        self.bell.ring()

    def listen(self) -> Listener:
        """Return a new listener."""
        listener = Listener()
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a listener."""
        self._listeners.discard(listener)
