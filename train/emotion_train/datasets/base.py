"""What a labelled data set gives to a probe: samples of pictures with a subject, and their targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from emotion_runtime.types import Box

TaskKind = Literal["single_label", "multi_label", "regression"]


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be predicted. labels: names of the C classes, or of the V values of a regression."""

    name: str
    kind: TaskKind
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One frame of a sample.

    path: an image file, or a video file when `seconds` says where in it. boxes: (x1, y1, x2, y2) in pixels of
    that picture; the subject is their union, and nobody when there is none.
    """

    path: Path
    boxes: tuple[Box, ...]
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of a data set.

    key: unique and stable within the data set; cached features go by it. group: what rows hang together by
    (the video, the film), over which predictions are smoothed and intervals are bootstrapped.
    pictures: T in order of time, or one for a data set of images. targets: by name of the task: int64 ()
    for single_label, float32 (C,) of 0 and 1 for multi_label, float32 (V,) for regression.
    """

    key: str
    group: str
    images: tuple[SampleImage, ...]
    targets: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Dataset:
    """One split.

    skipped: how many rows were left out, by reason. short_side: what the data set's protocol scales the short
    side of a picture to, pixels at an input of 224; None leaves it to the model's `PreprocessSpec`.
    """

    name: str
    split: str
    tasks: tuple[Task, ...]
    samples: tuple[Sample, ...]
    skipped: Mapping[str, int]
    short_side: int | None = None
