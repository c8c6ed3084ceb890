"""The models of a pipeline."""

from dataclasses import dataclass

from emotion_runtime.detectors import Detector
from emotion_runtime.detectors.heads import HeadFinder
from emotion_runtime.encoder import FrameEncoder, TemporalEncoder
from emotion_runtime.heads import LinearHead
from emotion_runtime.manifest import DEFAULT_QUALITY, QualityLimits, SwapLimits


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a pipeline, shared by all sources.

    Attributes:
        detector: Finds persons in a frame.
        encoder: Turns crops of persons into embeddings.
        temporal: Turns clips of embeddings into features.
        head: Turns features into probabilities of emotions.
        affect: Regression whose labels are some of valence, arousal and dominance. None: events have none.
        heads: Finds the heads of persons whose whole bodies the detector finds. None: it finds heads itself.
        swap: When embeddings are of different persons. None: that is not looked for.
        quality: The least quality with which a person gets a label.
    """

    detector: Detector
    encoder: FrameEncoder
    temporal: TemporalEncoder
    head: LinearHead
    affect: LinearHead | None = None
    heads: HeadFinder | None = None
    swap: SwapLimits | None = None
    quality: QualityLimits = DEFAULT_QUALITY
