"""Training batches of clips from shards, cropped and masked as the authors did."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
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
from emotion_train.batch import ClipTextBatch, SkippedClip
from emotion_train.clips.format import PERSON_SCORE, ClipRecord
from emotion_train.clips.jpeg import decode_jpeg
from emotion_train.clips.order import shuffled
from emotion_train.clips.parts import ClipPart
from emotion_train.clips.reader import ShardSet
from emotion_train.language.tokenizer import tokenize

_JITTER = 0.15  # largest relative change of a subject window's scale
_REPLACEMENTS = 10  # clips in a row that cannot be read: then the fault is in the shards, not in a clip


class _DrawnFrames(NamedTuple):
    """The frames of a clip that a batch shows.

    Attributes:
        clip: The clip.
        rng: The generator they were drawn with, which then places the crops.
        frames: Indices of frames, in time order.
    """

    clip: int
    rng: np.random.Generator
    frames: list[int]


class _Space(NamedTuple):
    """The part of a batch where a clip is written to: (K, S, S, 3) uint8, and (K, G) float32."""

    images: NDArray[np.uint8]
    weights: NDArray[np.float32]


class ShardBatches(Dataset[ClipTextBatch]):
    """A map-style data set of batches; clips are drawn without replacement within an epoch.

    Item i depends only on (seed, i) and the shards, in whatever process or worker, so a resumed run sees
    the same batches as an uninterrupted one. Another clip, which depends only on the seed as well, takes the
    place of one that cannot be read.

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

    def __getitem__(self, index: int) -> ClipTextBatch:
        epoch, position = divmod(index, self._batches_per_epoch)
        positions = np.arange(position * self.batch, (position + 1) * self.batch)
        chosen = shuffled(positions, len(self.shards), (self.seed, epoch)).tolist()
        drawn = [self._draw_frames(clip, epoch) for clip in chosen]
        # All are requested together; one that fails is read again by itself.
        parts = self.shards.read_together([(clip, frames) for clip, _, frames in drawn])
        spec, shape = self.spec, (self.batch, self.frames)
        images = np.empty((*shape, spec.size, spec.size, 3), np.uint8)
        weights = np.empty((*shape, spec.patches), np.float32)
        skipped: list[SkippedClip] = []
        records = [
            self._write_clip(_Space(images[row], weights[row]), clip, epoch, part, skipped)
            for row, (clip, part) in enumerate(zip(drawn, parts, strict=True))
        ]
        return ClipTextBatch(
            torch.from_numpy(images),
            torch.arange(self.batch),
            torch.from_numpy(weights),
            tokenize([record.caption for record in records]),
            torch.tensor([record.sentiment for record in records], dtype=torch.float32),
            skipped=tuple(skipped),
        )

    def _draw_frames(self, clip: int, epoch: int) -> _DrawnFrames:
        rng, frames = draw_frames((self.seed, epoch, clip), self.shards.frame_count(clip), self.frames)
        return _DrawnFrames(clip, rng, frames)

    def _write_clip(
        self,
        space: _Space,
        drawn: _DrawnFrames,
        epoch: int,
        part: ClipPart | None,
        skipped: list[SkippedClip],
    ) -> ClipRecord:
        """Write a clip, or another in its place; those that cannot be read are added to `skipped`.

        Raises:
            EmotionError: None of many clips can be read.
        """
        others = np.random.default_rng([self.seed, epoch, drawn.clip, _REPLACEMENTS])
        for _ in range(_REPLACEMENTS):
            with suppress(EmotionError):
                return self._cut_clip(space, drawn, part)
            # Once more: its bytes may have been damaged on the way.
            drawn = self._draw_frames(drawn.clip, epoch)
            try:
                return self._cut_clip(space, drawn)
            except EmotionError as error:
                skipped.append(SkippedClip(self.shards.key(drawn.clip), str(error)))
            drawn, part = self._draw_frames(int(others.integers(len(self.shards))), epoch), None
        raise EmotionError(f"{_REPLACEMENTS} clips in a row cannot be read; the last: {skipped[-1].reason}")

    def _cut_clip(self, space: _Space, drawn: _DrawnFrames, part: ClipPart | None = None) -> ClipRecord:
        """Write a clip, of which `part` may have been read before."""
        record, frames = part or self.shards.read_part(drawn.clip, drawn.frames)
        for index, (frame, jpeg) in enumerate(zip(drawn.frames, frames, strict=True)):
            image = self._decoded(jpeg, drawn.clip)
            people = [box[:4] for box in record.boxes[frame] if box[4] > PERSON_SCORE]
            _, space.weights[index] = cut_frame(drawn.rng, image, people, self.spec, out=space.images[index])
        return record

    def _decoded(self, jpeg: bytes, clip: int) -> NDArray[np.uint8]:
        try:
            return decode_jpeg(jpeg)
        except ValueError as error:
            raise EmotionError(
                f"{self.shards.location}: clip {self.shards.key(clip)} has a corrupt frame ({error}): "
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


def draw_frames(seed: tuple[int, ...], length: int, count: int) -> tuple[np.random.Generator, list[int]]:
    """Draw frames of a clip.

    Args:
        seed: Of the clip in its epoch.
        length: Number of frames of the clip; one that is too short repeats some.
        count: Number of frames to draw.

    Returns:
        The generator that they were drawn with, and their indices in time order.
    """
    rng = np.random.default_rng(list(seed))
    frames = rng.choice(length, count, replace=length < count)
    return rng, sorted(frames.tolist())


def cut_frame(
    rng: np.random.Generator,
    image: NDArray[np.uint8],
    people: Sequence[Box],
    spec: PreprocessSpec,
    *,
    out: NDArray[np.uint8] | None = None,
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
        out: (S, S, 3) uint8, where the crop is written to; None for a new array.

    Returns:
        The crop (S, S, 3) uint8 RGB and its patch weights (G,) float32.
    """
    height, width = image.shape[:2]
    if spec.window == "center":
        window = window_at(height, width, spec, across=rng.random(), down=rng.random())
        return crop(image, window, spec, out=out), union_patch_weights(people, window, spec)
    if not people:
        window = center_window(height, width, spec)
        return crop(image, window, spec, out=out), np.zeros(spec.patches, np.float32)
    subject = max(people, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    if spec.subject_scale is not None:
        scale = max(spec.subject_scale * rng.uniform(1 - _JITTER, 1 + _JITTER), 1.0)
        spec = msgspec.structs.replace(spec, subject_scale=scale)
    window = subject_window(subject, height, width, spec)
    return crop(image, window, spec, out=out), patch_weights(subject, window, spec)
