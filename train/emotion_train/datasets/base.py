"""Labelled data sets as probes use them: samples of images with a subject, and their targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from emotion_runtime.types import Box

TaskKind = Literal["single_label", "multi_label", "regression"]


@dataclass(frozen=True, slots=True)
class Task:
    """Something to predict.

    Attributes:
        name: Name of the task.
        kind: Kind of the targets.
        labels: Names of the C classes, or of the V values of a regression.
    """

    name: str
    kind: TaskKind
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One image of a sample.

    Attributes:
        path: An image file; with `seconds`, a video file.
        boxes: The subject is the union of these boxes, in pixels of the image; without boxes there is none.
        seconds: Time of the frame in the video.
    """

    path: Path
    boxes: tuple[Box, ...]
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of a data set.

    Attributes:
        key: Unique and stable within the data set; identifies cached features.
        group: Cluster id (video or film). Groups are resampled and smoothed as a whole.
        images: T in time order, or one for a data set of single images.
        targets: By name of the task: int64 () for single_label, float32 (C,) of 0 and 1 for multi_label,
            float32 (V,) for regression.
    """

    key: str
    group: str
    images: tuple[SampleImage, ...]
    targets: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Dataset:
    """One split of a data set.

    Attributes:
        name: Name of the data set.
        split: Name of the split.
        tasks: What its rows have targets for.
        samples: Its rows.
        skipped: Number of rows left out, by reason.
        short_side: Length to which the data set's protocol resizes the short side of an image, pixels for
            an input of 224; None uses the model's `PreprocessSpec`.
    """

    name: str
    split: str
    tasks: tuple[Task, ...]
    samples: tuple[Sample, ...]
    skipped: Mapping[str, int]
    short_side: int | None = None
