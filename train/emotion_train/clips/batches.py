"""Batches of clips from shards, cropped and masked as the authors trained."""

import io
from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import (
    PreprocessSpec,
    center_window,
    crop,
    patch_weights,
    subject_window,
    union_patch_weights,
    window_at,
)
from emotion_runtime.types import Box
from emotion_train.batch import ClipTextBatch
from emotion_train.clips.format import PERSON_SCORE
from emotion_train.clips.reader import ShardSet
from emotion_train.language.tokenizer import tokenize

_JITTER = 0.15  # of a subject window's scale, either way


class ShardBatches(Dataset[ClipTextBatch]):
    """Item j is batch j of `batch` clips, drawn without replacement within an epoch.

    It depends on (seed, j) and the shards alone, whatever process or worker asks for it, so a resumed run
    sees what an uninterrupted one would have seen. parallel: training processes; together they take one
    stride of that many batches a step, and what does not fill a stride at the end of an epoch is left out.

    Raises:
        EmotionError: there are too few clips for one step.

    """

    def __init__(
        self, shards: ShardSet, spec: PreprocessSpec, *, seed: int, batch: int, frames: int, parallel: int = 1
    ) -> None:
        self.shards, self.spec = shards, spec
        self.seed, self.batch, self.frames = seed, batch, frames
        self.steps_per_epoch = len(shards) // (batch * parallel)
        if not self.steps_per_epoch:
            raise EmotionError(
                f"{shards.location} holds {len(shards)} clips, too few for a batch of {batch} in each of "
                f"{parallel} processes: lower batch, or prepare more videos"
            )
        self._batches = self.steps_per_epoch * parallel  # of an epoch
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __getitem__(self, index: int) -> ClipTextBatch:
        epoch, number = divmod(index, self._batches)
        rows = self._epoch(epoch)[number * self.batch : (number + 1) * self.batch]
        clips = [self._clip(int(row), epoch) for row in rows]
        images, weights, captions, sentiments = zip(*clips, strict=True)
        return ClipTextBatch(
            torch.from_numpy(np.stack(images)),
            torch.arange(len(rows)),
            torch.from_numpy(np.stack(weights)),
            tokenize(list(captions)),
            torch.tensor(sentiments, dtype=torch.float32),
        )

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.shards)))
        return self._order[1]

    def _clip(
        self, row: int, epoch: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], str, Sequence[float]]:
        """(K, S, S, 3) uint8, (K, G) float32, the caption and its sentiment."""
        rng = np.random.default_rng([self.seed, epoch, row])
        length = self.shards.frames_of(row)
        # Random moments in time order; a clip that is too short shows some twice.
        which = np.sort(rng.choice(length, self.frames, replace=length < self.frames))
        record = self.shards.record(row)
        images, weights = [], []
        for frame, jpeg in zip(which, self.shards.read_frames(row, which.tolist()), strict=True):
            picture = self._decoded(jpeg, row)
            persons = [box[:4] for box in record.boxes[frame] if box[4] >= PERSON_SCORE]
            image, weight = cut_frame(rng, picture, persons, self.spec)
            images.append(image)
            weights.append(weight)
        return np.stack(images), np.stack(weights), record.caption, record.sentiment

    def _decoded(self, jpeg: bytes, row: int) -> NDArray[np.uint8]:
        try:
            return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
        except OSError as error:
            raise EmotionError(
                f"{self.shards.location}: clip {self.shards.keys[row]} has a damaged picture ({error}): "
                "copy the shards again, or run emotion-train prepare-data again"
            ) from error


def cut_frame(
    rng: np.random.Generator, picture: NDArray[np.uint8], persons: Sequence[Box], spec: PreprocessSpec
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One training picture (S, S, 3) uint8 RGB and its patch weights (G,) float32.

    picture: (H, W, 3) uint8 RGB. persons: boxes in its pixels. With window "center", as the authors: a
    random crop of S from the frame whose short side is `short_side`, drawn anew for every frame, and the
    union of all persons, since nobody knows who speaks. With "subject", the window of the runtime around the
    largest person, a little larger or smaller.
    """
    height, width = picture.shape[:2]
    if spec.window == "center":
        window = window_at(height, width, spec, across=rng.random(), down=rng.random())
        return crop(picture, window, spec), union_patch_weights(persons, window, spec)
    if not persons:
        window = center_window(height, width, spec)
        return crop(picture, window, spec), np.zeros(spec.patches, np.float32)
    subject = max(persons, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    if spec.subject_scale is not None:
        scale = max(spec.subject_scale * rng.uniform(1 - _JITTER, 1 + _JITTER), 1.0)
        spec = msgspec.structs.replace(spec, subject_scale=scale)
    window = subject_window(subject, height, width, spec)
    return crop(picture, window, spec), patch_weights(subject, window, spec)
