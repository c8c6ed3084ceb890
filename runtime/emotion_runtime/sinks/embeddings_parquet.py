"""A table of embeddings as Parquet, which needs pyarrow."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import atomic_file

if TYPE_CHECKING:
    from emotion_runtime.sinks.embedding_row import EmbeddingRow


class ParquetTable:
    """Writes rows as they come, to a file beside the result.

    Columns: source, frame, t, time, id, label, why, x1, y1, x2, y2, p_LABEL of each label, and embedding (a
    list of D floats).

    Args:
        path: The file to write.
        width: D, length of an embedding.
        labels: Names of the C emotions.
        about: Texts that are written as they are into the metadata of the schema, by name.

    Raises:
        EmotionError: pyarrow is not installed, or the file cannot be written.
    """

    def __init__(self, path: Path, width: int, labels: Sequence[str], about: Mapping[str, str]) -> None:
        try:
            self._arrow: Any = import_module("pyarrow")
            parquet: Any = import_module("pyarrow.parquet")
        except ImportError as error:
            raise EmotionError(
                f"--embeddings {path} needs pyarrow, which is not installed: pip install pyarrow, or give a "
                "name that ends with .npz"
            ) from error
        arrow = self._arrow
        self._labels = tuple(labels)
        self._vector = arrow.list_(arrow.float32(), width)
        fields = [("source", arrow.string()), ("frame", arrow.int64()), ("t", arrow.float64())]
        fields += [("time", arrow.float64()), ("id", arrow.int64())]
        fields += [("label", arrow.string()), ("why", arrow.string())]
        fields += [(name, arrow.float32()) for name in ("x1", "y1", "x2", "y2")]
        fields += [(f"p_{label}", arrow.float32()) for label in labels]
        self._schema = arrow.schema([*fields, ("embedding", self._vector)], metadata=dict(about))
        self._held = ExitStack()
        file = self._held.enter_context(atomic_file(path))
        self._writer = self._held.enter_context(parquet.ParquetWriter(file, self._schema))

    def add(self, rows: Sequence["EmbeddingRow"]) -> None:
        """Add rows."""
        if not rows:
            return
        columns: dict[str, Any] = {
            name: [getattr(row, name) for row in rows] for name in ("source", "frame", "t", "id")
        }
        columns["time"] = [None if np.isnan(row.time) else row.time for row in rows]
        columns |= {name: [getattr(row, name) or None for row in rows] for name in ("label", "why")}
        boxes = np.array([row.box for row in rows], np.float32)
        columns |= dict(zip(("x1", "y1", "x2", "y2"), boxes.T, strict=True))
        probabilities = np.stack([row.probabilities for row in rows])
        columns |= {f"p_{label}": probabilities[:, i] for i, label in enumerate(self._labels)}
        flat = self._arrow.array(np.concatenate([row.embedding for row in rows]))
        columns["embedding"] = self._arrow.FixedSizeListArray.from_arrays(flat, self._vector.list_size)
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))

    def close(self) -> None:
        """Write the file."""
        self._held.close()

    def discard(self) -> None:
        """Leave everything as it was."""
        error = EmotionError("the file is incomplete")
        try:
            self._held.__exit__(EmotionError, error, None)
        except EmotionError as again:
            if again is not error:
                raise
