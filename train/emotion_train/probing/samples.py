"""Turn the samples of a data set into frozen features: images are read, cropped and encoded once."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.datasets.base import Dataset, Sample
from emotion_train.datasets.images import prepare_sample
from emotion_train.probing.cache import CacheKey, cached
from emotion_train.probing.features import ClipEncoder, ClipInput, FeatureKind, FeatureSet, encode_all

_log = logging.getLogger(__name__)

PAPER_SIZE = 224  # input size that the short side of a data set refers to

# Row index with images and patch weights, or with the reason why an image cannot be read.
Prepared = tuple[int, NDArray[np.uint8], NDArray[np.float32]] | tuple[int, str]


@dataclass(frozen=True, slots=True)
class Encoding:
    """A model and how images are fed to it.

    Attributes:
        encoder: The frozen model.
        sha256: Of its checkpoint.
        kind: Kind of feature.
        cache: Folder of stored features.
        workers: Processes that read images; 0 reads them in this process.
    """

    encoder: ClipEncoder
    sha256: str
    kind: FeatureKind
    cache: Path
    workers: int = 0

    @property
    def spec(self) -> PreprocessSpec:
        """How the model's images are preprocessed."""
        return self.encoder.spec


def features_of(dataset: Dataset, encoding: Encoding) -> FeatureSet:
    """Return the features of one split, from the cache or by encoding its images.

    A sample with an image that cannot be read is left out and counted.

    Raises:
        EmotionError: No sample is left, or the model's features are not finite.
    """
    if not dataset.samples:
        raise EmotionError(f"split {dataset.split} of {dataset.name} is empty: expected at least one sample")
    spec = protocol_spec(encoding.spec, dataset)
    key = CacheKey(
        checkpoint_sha256=encoding.sha256,
        preprocess=spec,
        kind=encoding.kind,
        dataset=dataset.name,
        split=dataset.split,
        samples=len(dataset.samples),
        fingerprint=fingerprint(dataset),
    )

    def compute() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return _encode(dataset, spec, encoding)

    rows, features = cached(encoding.cache, key, compute)
    kept = [dataset.samples[row] for row in rows]
    unreadable = len(dataset.samples) - len(kept)
    skipped = Counter(dataset.skipped) + Counter({"image cannot be read": unreadable})
    return FeatureSet(
        dataset.split,
        features,
        {task.name: np.stack([sample.targets[task.name] for sample in kept]) for task in dataset.tasks},
        tuple(sample.group for sample in kept),
        dict(skipped),
    )


def protocol_spec(spec: PreprocessSpec, dataset: Dataset) -> PreprocessSpec:
    """Return the model's spec with the data set's own short side, which refers to an input of 224 pixels."""
    if dataset.short_side is None:
        return spec
    short_side = max(round(dataset.short_side * spec.size / PAPER_SIZE), spec.size)
    return msgspec.structs.replace(spec, short_side=short_side)


def fingerprint(dataset: Dataset) -> str:
    """Return a SHA-256 over what the features depend on, in order.

    These are keys, names, sizes and times of change of files, times in videos, and boxes: an image that was
    replaced, or repaired, is encoded again.
    """
    digest = hashlib.sha256()
    state = cache(_file_state)
    for sample in dataset.samples:
        images = [(list(p.path.parts[-3:]), state(p.path), p.seconds, p.boxes) for p in sample.images]
        digest.update(msgspec.json.encode([sample.key, images]))
    return digest.hexdigest()


def _file_state(path: Path) -> tuple[int, int] | None:
    """Return the size in bytes and the time of change in nanoseconds; None without the file."""
    try:
        found = path.stat()
    except OSError:  # the reason is reported when it is read
        return None
    return found.st_size, found.st_mtime_ns


def _encode(
    dataset: Dataset, spec: PreprocessSpec, encoding: Encoding
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    loader = _read(_Prepared(dataset.samples, spec, encoding.kind), encoding.workers)
    name = f"{dataset.name} {dataset.split}"
    unreadable: list[str] = []

    def clips() -> Iterator[ClipInput]:
        for prepared in tqdm(loader, total=len(dataset.samples), desc=name, unit="sample"):
            if len(prepared) == 2:
                unreadable.append(prepared[1])
            else:
                row, images, weights = prepared
                yield int(row), np.asarray(images), np.asarray(weights)

    try:
        found = encode_all(encoding.encoder, clips(), kind=encoding.kind)
    except EmotionError as error:
        reason = f" (no image can be read; first error: {unreadable[0]})" if unreadable else ""
        raise EmotionError(f"{name}: {error}{reason}") from error
    if unreadable:
        _log.warning(
            "%s: %d samples left out because an image cannot be read; first error: %s",
            name,
            len(unreadable),
            unreadable[0],
        )
    return found


def _read(samples: "_Prepared", workers: int) -> Iterable[Any]:
    """Read all samples in order; in several processes if there are workers."""
    if not workers:
        return (samples[row] for row in range(len(samples)))
    from torch.utils.data import DataLoader  # noqa: PLC0415 - torch is not needed without workers

    loader: DataLoader[Any] = DataLoader(
        cast("Any", samples),  # it has the two methods that are used
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="forkserver",  # as in `training.loop`
    )
    return loader


class _Prepared:
    """Samples as the workers of a loader read them; a clip that repeats one image holds it once."""

    def __init__(self, samples: tuple[Sample, ...], spec: PreprocessSpec, kind: FeatureKind) -> None:
        self.samples, self.spec, self.kind = samples, spec, kind

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> Prepared:
        sample = self.samples[row]
        if self.kind == "image" or len(set(sample.images)) == 1:
            sample = replace(sample, images=sample.images[:1])
        try:
            images, weights = prepare_sample(sample, self.spec)
        except EmotionError as error:
            return row, str(error)
        return row, images, weights
