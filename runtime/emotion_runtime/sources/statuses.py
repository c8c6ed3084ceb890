"""The status of a live source, and the changes of it that nobody has taken yet."""

import logging
import re
import threading
from collections import deque
from datetime import datetime, timezone

from emotion_runtime.types import SourceStatus, StatusLine

_KEPT = 1000  # changes of a source whose changes nobody takes
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]+")
_TROUBLE = ("degraded", "frozen", "lost")


class StatusRecord:
    """Keeps the status of one source, and logs each change.

    Args:
        source: Name of the source.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._changes: deque[StatusLine] = deque(maxlen=_KEPT)
        self._told: set[str | None] = set()
        self.status: SourceStatus | None = None
        self.reason: str | None = None

    def change(self, status: SourceStatus, reason: str | None = None) -> bool:
        """Change the status, and return whether it is news.

        A reason is told once, and not again until the status has been another one: while a source is lost,
        the reasons of attempts to open it may alternate.

        Args:
            status: The new status.
            reason: What happened, in words. Libraries put addresses into their messages, which may hold
                passwords: they are cut out.
        """
        if (status, reason) == (self.status, self.reason):
            return False
        if reason is not None:
            reason = _URI.sub("(address)", reason)
        with self._lock:
            if status != self.status:
                self._told.clear()
            elif reason in self._told:
                return False
            self._told.add(reason)
            self.status, self.reason = status, reason
            self._changes.append(
                StatusLine(source=self._source, time=datetime.now(timezone.utc), status=status, reason=reason)
            )
        level = logging.WARNING if status in _TROUBLE else logging.INFO
        text = f"source {self._source} is {status}{f': {reason}' if reason else ''}"
        text += "; trying again" if status == "lost" else ""
        logging.getLogger(__name__).log(level, "%s", text, extra={"source": self._source})
        return True

    def take(self) -> list[StatusLine]:
        """Return the changes since the last call."""
        with self._lock:
            taken = list(self._changes)
            self._changes.clear()
        return taken
