"""Run batches in the few sizes that an engine or a captured CUDA graph is made for.

Every new batch size costs TensorRT or a CUDA graph a capture and memory, so a batch of P persons in F images
is padded to powers of two, and a batch beyond the largest size is run in parts. Rows of a batch do not
influence each other, so neither changes a result. On a CPU, where a graph takes any size, padding would only
cost time: 17 persons in one image took twice as long (`benchmarks/bench_encoder.py`, rows `bucketed`).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import IMAGES, Backend, Feeds, Outputs, count_persons

_INDEX = "frame_index"  # the input that names the image of each person


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest batch of one run, and the sizes to which smaller ones are padded.

    Attributes:
        persons: Maximum number of people.
        images: Maximum number of images.
        crop_per_person: Each person has an image, so images are padded to the number of people. That makes
            one size for each number of people; two people who share a crop cost an empty image.
    """

    persons: int = 16
    images: int = 4
    crop_per_person: bool = False

    def size(self, images: int, persons: int) -> tuple[int, int]:
        """Return the (images, persons) to which a batch within the limits is padded."""
        most = bucket(persons, self.persons)
        return min(most, self.images) if self.crop_per_person else bucket(images, self.images), most

    def sizes(self) -> list[tuple[int, int]]:
        """Return all (images, persons) that are ever run; no batch has more images than people."""
        batches = [(i, p) for p in range(1, self.persons + 1) for i in range(1, min(p, self.images) + 1)]
        return sorted({self.size(*each) for each in batches}, key=lambda size: size[::-1])


def limits_for(window: Literal["center", "subject"], persons: int = 16) -> Limits:
    """Return the limits for a model.

    Args:
        window: As in the `PreprocessSpec` of the model: with "subject", each person has a crop.
        persons: Maximum number of people.
    """
    if window == "subject":
        return Limits(persons, persons, crop_per_person=True)
    return Limits(persons, min(persons, Limits().images))


def bucket(count: int, most: int) -> int:
    """Return the smallest power of two that holds `count`, at most `most`; 1 <= count <= most."""
    return min(1 << (count - 1).bit_length(), most)


def split(frame_index: NDArray[np.int64], limits: Limits) -> list[slice]:
    """Split the persons of a batch, in order, into parts that are within the limits.

    Args:
        frame_index: (P,) image of each person, P >= 1.
        limits: The largest part.

    Returns:
        One slice of the persons per part.
    """
    starts, images = [0], set[int]()
    for person, image in enumerate(frame_index.tolist()):
        full = person - starts[-1] == limits.persons
        if full or (image not in images and len(images) == limits.images):
            starts.append(person)
            images = set()
        images.add(image)
    return [slice(*ends) for ends in zip(starts, [*starts[1:], len(frame_index)], strict=True)]


class Bucketed:
    """A backend that receives only batches whose P and F are powers of two. See `Backend`.

    Args:
        backend: What runs the batches.
        limits: The largest batch.
    """

    def __init__(self, backend: Backend, limits: Limits | None = None) -> None:
        self._backend = backend
        self._limits = limits or Limits()

    @property
    def name(self) -> str:
        """The name of the wrapped backend."""
        return self._backend.name

    @property
    def description(self) -> str:
        """The description of the wrapped backend."""
        return self._backend.description

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs by name, (P, ...), as the backend would return them for the whole batch."""
        # Without images, nothing but the number of persons limits a batch.
        index = feeds.get(_INDEX, np.zeros(count_persons(feeds), np.int64))
        parts = [self._run_part(feeds, part) for part in split(index, self._limits)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Close the wrapped backend."""
        self._backend.close()

    def _run_part(self, feeds: Feeds, part: slice) -> Outputs:
        rows = {name: value[part] for name, value in feeds.items() if name != IMAGES}
        persons = count_persons(rows)
        if IMAGES in feeds:
            # Only the images that show a person of this part, renumbered.
            kept, rows[_INDEX] = np.unique(rows[_INDEX], return_inverse=True)
        images, size = self._limits.size(len(kept) if IMAGES in feeds else 1, persons)
        # Padding rows point at image 0 with zero patch weights.
        padded = {name: _pad(np.asarray(value, feeds[name].dtype), size) for name, value in rows.items()}
        if IMAGES in feeds:
            padded[IMAGES] = _pad(feeds[IMAGES][kept], images)
        return {name: value[:persons] for name, value in self._backend.run(padded).items()}


def _pad(value: NDArray[Any], size: int) -> NDArray[Any]:
    """Append rows of zeros up to `size` rows."""
    if len(value) == size:
        return value
    padding = np.zeros((size - len(value), *value.shape[1:]), value.dtype)
    return np.concatenate([value, padding])
