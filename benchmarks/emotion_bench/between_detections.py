"""How well predicted boxes agree with those of a detector that sees every frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from emotion_runtime.bundle import load_bundle
from emotion_runtime.detectors import Detector
from emotion_runtime.detectors.agreement import intersection_over_union
from emotion_runtime.heads import load_head
from emotion_runtime.person import PersonOptions
from emotion_runtime.ring import plan_clips
from emotion_runtime.source_state import SourceState
from emotion_runtime.sources import open_source
from emotion_runtime.types import Box, Detections, Frame

ENOUGH = 0.7  # intersection over union from which on two boxes agree


@dataclass(frozen=True)
class Clip:
    """The frames of a video, with what is detected in each."""

    name: str
    frames: list[Frame]
    found: list[Detections]


@dataclass(frozen=True)
class Agreement:
    """How the boxes of a clip agree.

    Attributes:
        boxes: Number of boxes of people who are in view if people are detected in every frame.
        agreeing: How many of them agree with a box of the same frame.
        predicted: Number of them in frames without a detection.
        predicted_agreeing: How many of these agree.
        detect_every: Mean time between two detections, in seconds.
    """

    boxes: int
    agreeing: int
    predicted: int
    predicted_agreeing: int
    detect_every: float


def read_clip(source: str, detector: Detector, limit: int) -> Clip:
    """Return the first frames of a source, with the people detected in them."""
    with open_source(source) as opened:
        frames = list(islice(opened, limit))
    return Clip(source, frames, [detector(frame.image) for frame in frames])


def agreement(clip: Clip, every: float, new_source: Callable[[], SourceState] | None = None) -> Agreement:
    """Follow the people of a clip with a detection every so many seconds, and in every frame, and compare.

    Args:
        clip: The clip.
        every: Longest time between two detections, in seconds.
        new_source: Makes the state of a source. None: as for the shipped bundle.
    """
    new_source = new_source or _shipped
    always, seldom = new_source(), new_source()
    total, agreeing, predicted, predicted_agreeing = 0, 0, 0, 0
    detected = []
    for frame, found in zip(clip.frames, clip.found, strict=True):
        expected = _seen(always, frame, found, 0.0)
        boxes = _seen(seldom, frame, found, every)
        good = 0
        if expected and boxes:
            overlaps = intersection_over_union(np.array(expected, np.float32), np.array(boxes, np.float32))
            good = int((overlaps.max(axis=1) >= ENOUGH).sum())
        total, agreeing = total + len(expected), agreeing + good
        if seldom.detected_at == frame.t:
            detected.append(frame.t)
        else:
            predicted, predicted_agreeing = predicted + len(expected), predicted_agreeing + good
    interval = float(np.diff(detected).mean()) if len(detected) > 1 else np.inf
    return Agreement(total, agreeing, predicted, predicted_agreeing, interval)


def _shipped() -> SourceState:
    bundle = load_bundle("nano")
    clips = plan_clips(bundle.manifest.clip_frames, bundle.manifest.clip_seconds)
    return SourceState(PersonOptions(clips, 0.0, 0.0, load_head(bundle)))


def _seen(source: SourceState, frame: Frame, found: Detections, every: float) -> Sequence[Box]:
    if source.begin(frame, every):
        source.follow(found, frame)
    return [track.box for track in source.tracks if track.seen]
