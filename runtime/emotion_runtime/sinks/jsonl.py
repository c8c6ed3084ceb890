"""Write events as JSON lines."""

from datetime import datetime, timezone
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_runtime.rounding import rounded
from emotion_runtime.sinks.rotation import RotatingOutput, Rotation
from emotion_runtime.types import AggregateLine, EmotionEvent, Frame, RunLine, StatusLine

_Timed = TypeVar("_Timed", EmotionEvent, AggregateLine)
_STARTS = (b'{"schema":',)  # of every line, without spaces


class JsonlSink:
    """Writes one line per event and flushes it, so that all lines but the last one parse even after a kill.

    Args:
        path: The file, or "-" for standard output.
        append: Whether to keep what the file contains. False: it is replaced.
        run: The first line, which says what made the lines after it. None: no such line.
        wall_clock: Whether to add the present time to events without one.
        frames: Whether to write a line for each frame. False: only counts over several people.
        rotation: When the file begins anew; `run` is the first line of each file. None: never.
        stopped: Set from outside when the run should end; waiting for the reader of a pipe ends then.

    Raises:
        EmotionError: The file cannot be written, or another run writes into it. `write` and `close` raise it
            too, for example on a full disk.
    """

    def __init__(  # noqa: PLR0913 - options of a public constructor, given by name
        self,
        path: str | Path,
        *,
        append: bool = False,
        run: RunLine | None = None,
        wall_clock: bool = False,
        frames: bool = True,
        rotation: Rotation | None = None,
        stopped: Event | None = None,
    ) -> None:
        self._encoder = msgspec.json.Encoder()
        self._wall_clock, self._frames = wall_clock, frames
        path = str(path)
        self._path, self._closed = path, False
        what = "JSON lines on standard output" if path == "-" else f"JSONL file {path}"
        self._files = [] if path == "-" else [Path(path)]
        self._output = RotatingOutput(path, what, rotation, append=append, starts=_STARTS, stopped=stopped)
        if run is not None:
            self._write(run)
            self._output.first_line = self._encode(rounded(run)) + b"\n"

    @property
    def files(self) -> list[Path]:
        """The files that were written and still exist, the newest one last."""
        return [*self._output.parts, *self._files]

    def write(self, frame: Frame, event: EmotionEvent) -> bool:  # noqa: ARG002 - part of the Protocol
        """Write one line. Return False if the reader of the pipe is gone (`| head`).

        Raises:
            EmotionError: The line cannot be written, or the file was closed.
        """
        return not self._frames or self._write(self._with_time(event))

    def write_aggregate(self, line: AggregateLine) -> bool:
        """Write the counts of one moment. Return False if the reader of the pipe is gone."""
        return self._write(self._with_time(line))

    def write_status(self, line: StatusLine) -> bool:
        """Write a change of the status of a source. Return False if the reader of the pipe is gone."""
        return self._write(line)

    def idle(self) -> bool:
        """Return False if the reader of the pipe is gone, which nothing else shows while no frame comes."""
        return not self._output.reader_left()

    def close(self) -> None:
        """Close the file; standard output stays open.

        Raises:
            EmotionError: The last buffered data cannot be written.
        """
        self._closed = True
        self._output.close()

    def _with_time(self, line: _Timed) -> _Timed:
        if not self._wall_clock or line.time is not None:
            return line
        return msgspec.structs.replace(line, time=datetime.now(timezone.utc))

    def _write(self, line: msgspec.Struct) -> bool:
        if self._closed:
            raise EmotionError(f"JSONL file {self._path}: it is closed; make a new JsonlSink to write more")
        return self._output.write(self._encode(rounded(line)) + b"\n")

    def _encode(self, line: Any) -> bytes:
        return self._encoder.encode(line)
