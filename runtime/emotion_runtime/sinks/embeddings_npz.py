"""A table of embeddings as NumPy's .npz, whose arrays are never in memory as a whole."""

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from emotion_runtime.files import WriteError, atomic_file, make_folder

if TYPE_CHECKING:
    from emotion_runtime.sinks.embedding_row import EmbeddingRow

_TEXTS = ("source", "label", "why")
_BLOCK = 1024  # rows that are copied at a time


class NpzTable:
    """Collects rows in a temporary file, from which the arrays are copied at the end.

    Args:
        path: The file to write.
        width: D, length of an embedding.
        labels: Names of the C emotions.
        about: Texts that are written as they are, by name.
    """

    def __init__(self, path: Path, width: int, labels: Sequence[str], about: Mapping[str, str]) -> None:
        self._path, self._labels, self._about = path, tuple(labels), about
        self._record = np.dtype(
            [
                *((name, np.int32) for name in _TEXTS),
                ("frame", np.int64),
                ("t", np.float64),
                ("time", np.float64),
                ("id", np.int64),
                ("box", np.float32, (4,)),
                ("probabilities", np.float32, (len(self._labels),)),
                ("embeddings", np.float32, (width,)),
            ]
        )
        self._codes: dict[str, dict[str, int]] = {name: {} for name in _TEXTS}
        self._count = 0
        make_folder(path.parent)
        try:
            # On the same disk as the result, and without a name: nothing is left of a process that is killed.
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed below
        except OSError as error:
            raise WriteError(
                f"{path} cannot be written ({error.strerror}): choose a folder that you can write to"
            ) from error

    def add(self, rows: Sequence["EmbeddingRow"]) -> None:
        """Add rows."""
        records = np.zeros(len(rows), self._record)
        for record, row in zip(records, rows, strict=True):
            for name in _TEXTS:
                codes = self._codes[name]
                record[name] = codes.setdefault(getattr(row, name), len(codes))
            for name in ("frame", "t", "time", "id", "box", "probabilities"):
                record[name] = getattr(row, name)
            record["embeddings"] = row.embedding
        self._file.write(records.tobytes())
        self._count += len(rows)

    def close(self) -> None:
        """Write the file."""
        with atomic_file(self._path) as file, zipfile.ZipFile(file, "w") as archive:
            for name in ("embeddings", *_TEXTS, "frame", "t", "time", "id", "box", "probabilities"):
                self._write(archive, name)
            _write_array(archive, "labels", np.array(self._labels))
            for name, text in self._about.items():
                _write_array(archive, name, np.array(text))
        self._file.close()

    def discard(self) -> None:
        """Leave everything as it was."""
        self._file.close()

    def _write(self, archive: zipfile.ZipFile, name: str) -> None:
        if name in _TEXTS:
            texts = np.array([*self._codes[name], ""])  # fixed-width text; the last one is for no rows at all
            _write_blocks(archive, name, texts.dtype, (self._count,), lambda: self._texts(name, texts))
            return
        base, shape = self._record[name].base, self._record[name].shape
        _write_blocks(
            archive, name, base, (self._count, *shape), lambda: (block[name] for block in self._blocks())
        )

    def _texts(self, name: str, texts: NDArray[np.str_]) -> Iterator[NDArray[Any]]:
        for block in self._blocks():
            yield texts[block[name]]

    def _blocks(self) -> Iterator[NDArray[Any]]:
        self._file.seek(0)
        while content := self._file.read(_BLOCK * self._record.itemsize):
            yield np.frombuffer(content, self._record)


def _write_blocks(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    blocks: Callable[[], Iterator[NDArray[Any]]],
) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(member, header)
        for block in blocks():
            member.write(np.ascontiguousarray(block).tobytes())


def _write_array(archive: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    _write_blocks(archive, name, values.dtype, values.shape, lambda: iter([values]))
