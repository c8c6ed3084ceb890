"""The time constants of a pipeline."""

from dataclasses import dataclass

from emotion_runtime.defaults import HYSTERESIS, SMOOTHING
from emotion_runtime.names import DetectEvery


@dataclass(frozen=True, slots=True)
class Timing:
    """Time constants of the pipeline, in seconds of media time.

    Attributes:
        window: Time that a clip spans. None: the bundle's. See `ring.plan_clips`.
        every: Time between two encodings of a person. None: follows from `window`.
        smoothing: Time constant of the smoothing, see `smoothing.ExponentialAverage`.
        hysteresis: Probability margin of the shown label (not a time), see `smoothing.LabelHysteresis`.
        detect_every: Mean time between two detections; boxes in between are predicted. 0: detect in every
            frame. "auto": for live sources, as often as the machine can keep up with, see `pace.Pace`; in
            every frame of a file.
    """

    window: float | None = None
    every: float | None = None
    smoothing: float = SMOOTHING
    hysteresis: float = HYSTERESIS
    detect_every: DetectEvery = "auto"
