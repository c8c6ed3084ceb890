"""Write a table with one row per source and person: seconds seen, share of each label, changes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from emotion_runtime.files import write_atomically
from emotion_runtime.sinks.csv_text import Value, csv_comment, csv_line, kept_header
from emotion_runtime.summary import PersonSummary, Summary
from emotion_runtime.types import EmotionEvent, Frame, RunLine

COLUMNS = (
    "source",
    "id",
    "first_t",
    "last_t",
    "seconds",
    "changes",
    "no_label",
)  # before those of the labels


class CsvSummarySink:
    """Writes the summary of a run, whole, when the run ends. Photos have no duration, and are left out.

    If people have no ids, there is no file.

    Args:
        path: The file.
        labels: Labels that get a column.
        append: Whether to keep what the file contains. False: it is replaced.
        run: What made the rows; a comment before them. None: no comment.

    Raises:
        EmotionError: The file is to be kept and has other columns. `close` raises it if the file cannot be
            written.
    """

    def __init__(
        self, path: Path, labels: Sequence[str] = (), *, append: bool = False, run: RunLine | None = None
    ) -> None:
        self.files = [path]  # empty if there is none
        self._path = path
        self._labels, self._append, self._run = labels, append, run
        self._header = csv_line((*COLUMNS, *(f"share_{label}" for label in labels)))
        self._summary: Summary | None = Summary()
        if append:
            self._is_there()

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Count one event. Always returns True."""
        if any(person.id == 0 for person in event.persons):  # --no-ids: nobody can be told apart
            self._summary, self.files = None, []
        if self._summary is not None:
            self._summary.add(event, still=frame.still)
        return True

    def close(self) -> None:
        """Write the file. Safe to call twice.

        Raises:
            EmotionError: It cannot be written.
        """
        summary, self._summary = self._summary, None
        if summary is None:
            return
        before = self._path.read_bytes() if self._append and self._path.is_file() else b""
        if before and not before.endswith(b"\n"):
            before += b"\n"
        comment = b"" if self._run is None else csv_comment(self._run)
        header = b"" if before and self._is_there() else self._header
        self.files = []  # if it cannot be written, there is none
        write_atomically(self._path, b"".join([before, comment, header, *self._rows(summary)]))
        self.files = [self._path]

    def _is_there(self) -> bool:
        return kept_header(self._path, self._header, f"CSV file {self._path}")

    def _rows(self, summary: Summary) -> Iterator[bytes]:
        for source, found in summary.by_source().items():
            for person in found.persons:
                yield csv_line(self._row(source, person))
            if found.others:
                yield csv_comment({"source": source, "more_people": found.others})

    def _row(self, source: str, person: PersonSummary) -> list[Value]:
        times = (round(value, 6) for value in (person.first, person.last, person.seconds))
        shares: list[Value] = [None] * (1 + len(self._labels))  # of no time there are none
        if person.seconds > 0:
            no_label = max(1 - sum(person.emotions.values()), 0.0)
            parts = (no_label, *(person.emotions.get(label, 0.0) for label in self._labels))
            shares = [round(part, 6) for part in parts]
        return [source, person.id, *times, person.changes, *shares]
