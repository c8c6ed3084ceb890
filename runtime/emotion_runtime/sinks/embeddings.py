"""Write the embeddings of persons to one file, with who they are of and when."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.feature_log import FeatureLog
from emotion_runtime.files import WriteError
from emotion_runtime.sinks.byte_output import open_locked
from emotion_runtime.sinks.embedding_row import EmbeddingRow
from emotion_runtime.types import EmotionEvent, Frame, Person, RunLine

SUFFIXES = (".npz", ".parquet")
_BATCH = 512  # rows that are kept in memory


class Table(Protocol):
    """A file to which rows are added; it appears, complete, when it is closed."""

    def add(self, rows: Sequence[EmbeddingRow]) -> None:
        """Add rows."""
        ...

    def close(self) -> None:
        """Write the rest, and give the file its name."""
        ...

    def discard(self) -> None:
        """Leave everything as it was."""
        ...


class EmbeddingsSink:
    """Writes one row per person and encoding, see `EmbeddingRow`. The file appears when the run ends.

    Args:
        path: A file that ends with .npz or .parquet.
        log: Where the pipeline puts the features.
        run: What made them; written into the file.
        keep: Refuse a file that exists.

    Raises:
        EmotionError: The name has another ending, the file exists and is to be kept, another run is going to
            write it, its folder cannot be written to, or it is Parquet and pyarrow is not installed.
    """

    def __init__(self, path: str, log: FeatureLog, *, run: RunLine | None = None, keep: bool = False) -> None:
        self._path, self._log = check_embeddings_name(path), log
        if keep and self._path.exists():
            raise EmotionError(
                f"--embeddings {path} exists, and embeddings cannot be added to a file: give another name, "
                "or --overwrite"
            )
        self._rows: list[EmbeddingRow] = []
        self._failed = False
        # The file itself is not there until the end.
        self._lock_path = self._path.with_name(f".{self._path.name}.lock")
        self._lock = self._locked()
        try:
            self._table: Table | None = _open(self._path, log, run)
        except BaseException:
            self._unlock()
            raise

    @property
    def files(self) -> list[Path]:
        """The file, unless it could not be written."""
        return [] if self._failed else [self._path]

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Add the persons who were encoded in this frame."""
        features = self._log.take(frame.source, frame.index)
        self._rows += [
            self._row(event, each, features[each.id]) for each in event.persons if each.id in features
        ]
        if len(self._rows) >= _BATCH:
            self._flush()
        return True

    def close(self) -> None:
        """Write the file. Safe to call twice.

        Raises:
            EmotionError: It cannot be written.
        """
        table = self._table
        if table is None:
            return
        try:
            if not self._failed:
                self._flush()
                with self._failing():
                    table.close()
        finally:
            self._table = None
            self._unlock()
            if self._failed:
                with suppress(OSError, EmotionError):  # of what is discarded anyway
                    table.discard()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if self._table is not None:
            with self._failing():
                self._table.add(rows)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Take note of an error of the block, and let it name the file."""
        try:
            yield
        except BaseException as error:
            self._failed = True
            if isinstance(error, OSError):
                raise self._unwritable(error) from error
            raise

    def _locked(self) -> BinaryIO:
        try:
            return open_locked(self._lock_path, f"--embeddings {self._path}")
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> WriteError:
        return WriteError(
            f"{self._path} cannot be written ({error.strerror or error}): free disk space, or choose another "
            "folder"
        )

    def _unlock(self) -> None:
        with suppress(OSError):  # somebody has removed it
            self._lock_path.unlink()
        self._lock.close()

    def _row(self, event: EmotionEvent, person: Person, embedding: NDArray[np.float32]) -> EmbeddingRow:
        return EmbeddingRow(
            source=event.source,
            frame=event.frame,
            t=event.t,
            time=np.nan if event.time is None else event.time.timestamp(),
            id=person.id,
            label=person.top or "",
            why=person.why or "",
            box=person.box,
            probabilities=np.array([person.emotions[label] for label in self._log.labels], np.float32),
            embedding=embedding,
        )


def check_embeddings_name(path: str) -> Path:
    """Return the path of a file of embeddings.

    Raises:
        EmotionError: It does not end with .npz or .parquet.
    """
    if Path(path).suffix not in SUFFIXES:
        raise EmotionError(f"--embeddings {path}: expected a name that ends with {' or '.join(SUFFIXES)}")
    return Path(path)


def _open(path: Path, log: FeatureLog, run: RunLine | None) -> Table:
    about = (
        {} if run is None else {"bundle": run.bundle, "bundle_sha256": run.bundle_sha256, "head": run.head}
    )
    if path.suffix == ".npz":
        from emotion_runtime.sinks.embeddings_npz import NpzTable  # noqa: PLC0415 - rarely used

        return NpzTable(path, log.width, log.labels, about)
    from emotion_runtime.sinks.embeddings_parquet import ParquetTable  # noqa: PLC0415 - needs pyarrow

    return ParquetTable(path, log.width, log.labels, about)
