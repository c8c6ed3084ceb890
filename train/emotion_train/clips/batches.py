"""Training batches of clips from shards, cropped and masked as the authors did."""

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

_JITTER = 0.15  # largest relative change of a subject window's scale


class ShardBatches(Dataset[ClipTextBatch]):
    """A map-style data set of batches; clips are drawn without replacement within an epoch.

    Item i depends only on (seed, i) and the shards, in whatever process or worker, so a resumed run sees
    the same batches as an uninterrupted one.

    Args:
        shards: The clips.
        spec: How the model's input is cut.
        seed: Seed of all batches.
        batch: Clips per batch.
        frames: Frames per clip.
        parallel: Number of training processes. Together they take this many consecutive batches per step;
            clips that do not fill a step at the end of an epoch are left out.

    Raises:
        EmotionError: There are too few clips for one step.
    """

    def __init__(
        self, shards: ShardSet, spec: PreprocessSpec, *, seed: int, batch: int, frames: int, parallel: int = 1
    ) -> None:
        self.shards, self.spec = shards, spec
        self.seed, self.batch, self.frames = seed, batch, frames
        self.steps_per_epoch = steps_per_epoch(shards, batch, parallel)
        self._batches_per_epoch = self.steps_per_epoch * parallel
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __getitem__(self, index: int) -> ClipTextBatch:
        epoch, position = divmod(index, self._batches_per_epoch)
        clip_indices = self._epoch_order(epoch)[position * self.batch : (position + 1) * self.batch]
        clips = [self._clip(int(clip), epoch) for clip in clip_indices]
        images, weights, captions, sentiments = zip(*clips, strict=True)
        return ClipTextBatch(
            torch.from_numpy(np.stack(images)),
            torch.arange(len(clips)),
            torch.from_numpy(np.stack(weights)),
            tokenize(list(captions)),
            torch.tensor(sentiments, dtype=torch.float32),
        )

    def _epoch_order(self, epoch: int) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.shards)))
        return self._order[1]

    def _clip(
        self, clip: int, epoch: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], str, Sequence[float]]:
        """Cut a clip: (K, S, S, 3) uint8, (K, G) float32, the caption and its sentiment."""
        rng = np.random.default_rng([self.seed, epoch, clip])
        length = self.shards.frame_count(clip)
        # Random frames in time order; a clip that is too short repeats some.
        chosen = np.sort(rng.choice(length, self.frames, replace=length < self.frames))
        record = self.shards.record(clip)
        images, weights = [], []
        for frame, jpeg in zip(chosen, self.shards.read_frames(clip, chosen.tolist()), strict=True):
            image = self._decoded(jpeg, clip)
            people = [box[:4] for box in record.boxes[frame] if box[4] > PERSON_SCORE]
            cropped, weight = cut_frame(rng, image, people, self.spec)
            images.append(cropped)
            weights.append(weight)
        return np.stack(images), np.stack(weights), record.caption, record.sentiment

    def _decoded(self, jpeg: bytes, clip: int) -> NDArray[np.uint8]:
        try:
            return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
        except OSError as error:
            raise EmotionError(
                f"{self.shards.location}: clip {self.shards.keys[clip]} has a corrupt frame ({error}): "
                "copy the shards again, or run emotion-train prepare-data again"
            ) from error


def steps_per_epoch(shards: ShardSet, batch: int, parallel: int) -> int:
    """Return the number of steps in which `parallel` processes see all clips, `batch` clips each per step.

    Raises:
        EmotionError: There are too few clips for one step.
    """
    steps = len(shards) // (batch * parallel)
    if not steps:
        raise EmotionError(
            f"{shards.location} has {len(shards)} clips, too few for a batch of {batch} in each of "
            f"{parallel} processes: lower the batch size, or prepare more videos"
        )
    return steps


def cut_frame(
    rng: np.random.Generator, image: NDArray[np.uint8], people: Sequence[Box], spec: PreprocessSpec
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cut the model's input out of a frame.

    With `spec.window` "center", as the authors did: a random crop of side S from the frame resized to
    `spec.short_side`, at another position for every frame, and the union of all people, because it is
    unknown who speaks. With "subject": the runtime's window around the largest person, with a random change
    of scale.

    Args:
        rng: Random generator.
        image: (H, W, 3) uint8 RGB.
        people: Boxes in pixels of the image.
        spec: How the model's input is cut.

    Returns:
        The crop (S, S, 3) uint8 RGB and its patch weights (G,) float32.
    """
    height, width = image.shape[:2]
    if spec.window == "center":
        window = window_at(height, width, spec, across=rng.random(), down=rng.random())
        return crop(image, window, spec), union_patch_weights(people, window, spec)
    if not people:
        window = center_window(height, width, spec)
        return crop(image, window, spec), np.zeros(spec.patches, np.float32)
    subject = max(people, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    if spec.subject_scale is not None:
        scale = max(spec.subject_scale * rng.uniform(1 - _JITTER, 1 + _JITTER), 1.0)
        spec = msgspec.structs.replace(spec, subject_scale=scale)
    window = subject_window(subject, height, width, spec)
    return crop(image, window, spec), patch_weights(subject, window, spec)
