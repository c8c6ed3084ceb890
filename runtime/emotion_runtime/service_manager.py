"""Report to systemd, and to the health check of a container, that a run is ready and makes progress.

The protocol is that of sd_notify(3): datagrams of `KEY=VALUE` lines to the socket in NOTIFY_SOCKET. Nothing
happens where neither that variable nor EMOTION_HEALTH_FILE is set.
"""

import faulthandler
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from emotion_runtime.types import StatusLine

HEALTH_FILE = "EMOTION_HEALTH_FILE"  # names a file whose time of modification is that of the last progress
_MOST = 10.0  # seconds between two reports, at most
_log = logging.getLogger(__name__)


class ServiceManager:
    """What started this process, and wants to know how it is.

    Args:
        environment: The variables that it set. None: those of this process.
        clock: Returns seconds; monotonic.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        environment = os.environ if environment is None else environment
        self._clock = clock
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._health = Path(environment[HEALTH_FILE]) if environment.get(HEALTH_FILE) else None
        self._socket: socket.socket | None = None
        if self._address and hasattr(socket, "AF_UNIX"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            # The watchdog ends a run that hangs with SIGABRT: then the log shows where each thread was.
            if not faulthandler.is_enabled():
                faulthandler.enable(file=sys.__stderr__ or 2)
        watchdog = _watchdog_seconds(environment)
        # Three reports in the time of the watchdog: two may be late or lost.
        self._interval = _MOST if watchdog is None else min(_MOST, watchdog / 3)
        self._next = clock()

    def ready(self) -> None:
        """Report that the models are loaded and the outputs are open."""
        self._send("READY=1")
        self.alive(lambda: "running")

    def alive(self, status: Callable[[], str]) -> None:
        """Report progress; called in every turn of the loop, and cheap.

        Args:
            status: Returns one line about the run, for `systemctl status`.
        """
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self._interval
        text = " ".join(status().split())
        self._send(f"WATCHDOG=1\nSTATUS={text}")
        if self._health is not None:
            try:
                self._health.write_text(f"{text}\n", encoding="utf-8")
            except OSError as error:
                _log.warning("%s cannot be written (%s); set %s", self._health, error.strerror, HEALTH_FILE)
                self._health = None

    def stopping(self) -> None:
        """Report that the run ends, and that closing its outputs may take a moment."""
        self._send("STOPPING=1\nSTATUS=closing outputs")

    def close(self) -> None:
        """Close the socket. Safe to call twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        # An address that begins with @ is one without a file.
        address = self._address.replace("@", "\0", 1) if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(message.encode(), address)
        except BlockingIOError:  # it does not read now; the next report comes soon
            return
        except OSError as error:
            _log.warning("the service manager cannot be told about this run (%s)", error.strerror or error)
            self.close()

    def __enter__(self) -> "ServiceManager":  # noqa: PYI034 - typing.Self needs Python 3.11
        """Return the object itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the socket."""
        self.close()


def status_text(statuses: Mapping[str, StatusLine], frames: int) -> str:
    """Return one line about a run: how many live sources are live, and what is wrong with the others.

    Args:
        statuses: The latest change of the status of each live source, by its name.
        frames: Frames processed so far.
    """
    parts = [f"{frames} frames processed"]
    if statuses:
        live = sum(line.status == "live" for line in statuses.values())
        parts.insert(0, f"{live} of {len(statuses)} sources live")
    for name, line in statuses.items():
        if line.status != "live":
            parts.append(f"{name} {line.status}" + (f" ({line.reason})" if line.reason else ""))
    return "; ".join(parts)


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Return the time of systemd's watchdog; None if there is none, or it is that of another process."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    process = environment.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or not int(microseconds) or (process and process != str(os.getpid())):
        return None
    return int(microseconds) / 1e6
