"""Write events as a table: one row per person and frame."""

from datetime import datetime, timezone
from pathlib import Path

import msgspec

from emotion_runtime.sinks.base import Outputs
from emotion_runtime.sinks.csv_summary import CsvSummarySink
from emotion_runtime.sinks.csv_text import csv_comment, csv_line, kept_header
from emotion_runtime.sinks.outputs import summary_path
from emotion_runtime.sinks.rotation import RotatingOutput
from emotion_runtime.types import EmotionEvent, Frame, Quality

COLUMNS = (
    *("source", "frame", "t", "time", "id", "x1", "y1", "x2", "y2", "score", "state", "top", "why"),
    *("confidence", *Quality.__struct_fields__, "valence", "arousal", "dominance"),
)  # before those of the labels
_STARTS = (b'#{"schema":', ",".join(COLUMNS).encode())  # the run line, or the names of the columns


class CsvSink:
    """Writes the rows of each event at once, so that all but the last ones are whole after a kill.

    The columns are `COLUMNS` and `p_LABEL` for each label, whatever the events hold. A summary is written
    beside the file when the run ends, see `CsvSummarySink`.

    Args:
        path: The file, or "-" for standard output.
        outputs: Of this, `labels`, `run`, `append`, `wall_clock`, `rotation` and `stopped` are used. Each
            file that a rotation begins has the comment with `run` and the names of the columns.

    Raises:
        EmotionError: A file cannot be written, another run writes into it, or it is to be kept and has other
            columns. `write` and `close` raise it too, for example on a full disk.
    """

    def __init__(self, path: str, outputs: Outputs) -> None:
        self._wall_clock = outputs.wall_clock
        self._columns = (*COLUMNS, *(f"p_{label}" for label in outputs.labels))
        comment = b"" if outputs.run is None else csv_comment(outputs.run)
        header = csv_line(self._columns)
        what = "CSV on standard output" if path == "-" else f"CSV file {path}"
        self._files = [] if path == "-" else [Path(path)]
        beside = summary_path(path)
        self._beside = None
        if beside is not None:
            self._beside = CsvSummarySink(beside, outputs.labels, append=outputs.append, run=outputs.run)
        self._output = RotatingOutput(
            path,
            what,
            outputs.rotation,
            append=outputs.append,
            starts=_STARTS,
            stopped=outputs.stopped,
        )
        self._output.first_line = comment + header
        try:
            goes_on = outputs.append and path != "-" and kept_header(Path(path), header, what)
        except BaseException:
            self._output.close()
            raise
        self._output.write(comment if goes_on else comment + header)

    @property
    def files(self) -> list[Path]:
        """The files that were written and still exist, the newest one last."""
        return [*self._output.parts, *self._files, *(self._beside.files if self._beside is not None else [])]

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Write the rows of one event. Return False if the reader of the pipe is gone (`| head`)."""
        if self._beside is not None:
            self._beside.write(frame, event)
        if not event.persons:
            return self.idle()
        if self._wall_clock and event.time is None:
            event = msgspec.structs.replace(event, time=datetime.now(timezone.utc))
        rows = (csv_line(map(row.get, self._columns)) for row in event.to_rows())
        return self._output.write(b"".join(rows))

    def idle(self) -> bool:
        """Return False if the reader of the pipe is gone, which nothing else shows while no frame comes."""
        return not self._output.reader_left()

    def close(self) -> None:
        """Close the file, and the one beside it; standard output stays open.

        Raises:
            EmotionError: The last buffered data, or the file beside it, cannot be written.
        """
        try:
            self._output.close()
        finally:
            if self._beside is not None:
                self._beside.close()
