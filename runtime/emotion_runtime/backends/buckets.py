"""Batches in the few sizes that an engine or a captured graph is made for.

Every size that TensorRT or a CUDA graph meets costs it a capture and memory, so P persons in F pictures are
filled up to powers of two, and more than the largest size are run in parts. Rows of a batch never see each
other, so neither changes a result. On a CPU, where a graph takes any size at once, it would only be work for
nobody: 17 persons of one picture took twice as long (`benchmarks/bench_encoder.py`, rows `bucketed`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Backend, Feeds, Outputs, close

# Inputs of the graphs, see `emotion_runtime.bundle`. All inputs but the pictures have a row a person.
_PICTURES, _INDEX = "images", "frame_index"


@dataclass(frozen=True, slots=True)
class Limits:
    """Most persons and pictures of one run; what `to_trt.py` builds engines for unless told otherwise."""

    persons: int = 16
    images: int = 4


def bucket(count: int, most: int) -> int:
    """The least power of two that holds `count`, but not more than `most`. 1 <= count <= most."""
    return min(1 << (count - 1).bit_length(), most)


def split(frame_index: NDArray[np.int64], limits: Limits) -> list[slice]:
    """Persons in parts, in order, each of at most so many persons in at most so many pictures.

    frame_index: (P,), the picture of each person, P >= 1.
    """
    starts, pictures = [0], set[int]()
    for person, picture in enumerate(frame_index.tolist()):
        full = person - starts[-1] == limits.persons
        if full or (picture not in pictures and len(pictures) == limits.images):
            starts.append(person)
            pictures = set()
        pictures.add(picture)
    return [slice(*ends) for ends in zip(starts, [*starts[1:], len(frame_index)], strict=True)]


class Bucketed:
    """A backend that is only given batches of P and F in powers of two. See `Backend`."""

    def __init__(self, backend: Backend, limits: Limits | None = None) -> None:
        self._backend = backend
        self._limits = limits or Limits()

    @property
    def description(self) -> str:
        """That of the backend."""
        return self._backend.description

    def run(self, feeds: Feeds) -> Outputs:
        """Outputs by name, (P, ...), as the backend would give them for all at once."""
        persons = next(len(value) for name, value in feeds.items() if name != _PICTURES)
        # A graph without pictures has one row a person, and nothing else limits it.
        index = feeds.get(_INDEX, np.zeros(persons, np.int64))
        parts = [self._run_part(feeds, part) for part in split(index, self._limits)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """See `Closeable`."""
        close(self._backend)

    def _run_part(self, feeds: Feeds, part: slice) -> Outputs:
        rows = {name: value[part] for name, value in feeds.items() if name != _PICTURES}
        persons = len(next(iter(rows.values())))
        if _PICTURES in feeds:
            # Only the pictures in which somebody of this part stands, renumbered.
            kept, rows[_INDEX] = np.unique(rows[_INDEX], return_inverse=True)
            pictures = bucket(len(kept), self._limits.images)
        size = bucket(persons, self._limits.persons)
        # A person made of zeros stands in the first picture and covers none of it.
        filled = {name: _fill(np.asarray(value, feeds[name].dtype), size) for name, value in rows.items()}
        if _PICTURES in feeds:
            filled[_PICTURES] = _fill(feeds[_PICTURES][kept], pictures)
        return {name: value[:persons] for name, value in self._backend.run(filled).items()}


def _fill(rows: NDArray[Any], size: int) -> NDArray[Any]:
    """(N, ...) -> (size, ...), zeros below."""
    if len(rows) == size:
        return rows
    filled = np.zeros((size, *rows.shape[1:]), rows.dtype)
    filled[: len(rows)] = rows
    return filled
