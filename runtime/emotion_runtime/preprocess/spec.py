"""How images are prepared for a model: a description that travels with checkpoints and bundles."""

from typing import Literal

import msgspec

from emotion_runtime.errors import EmotionError

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # the authors trained with these instead of CLIP's own
IMAGENET_STD = (0.229, 0.224, 0.225)

MAX_SIDE = 8192  # pixels; encoders have inputs of 112 to 448
MAX_SUBJECT_SCALE = 16.0  # head widths; a person and what is around them are in 8
MIN_STD = 0.001  # pixel values are divided by it


class PreprocessSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How images are prepared for a model. It is stored in checkpoints and bundles and must match on loading.

    Attributes:
        size: Side S of the square input, in pixels.
        patch: Side of a patch, in pixels; S is a multiple of it.
        window: "center" is the paper's protocol (short side scaled to `short_side`, centre crop of S);
            "subject" is a square window that contains the person.
        short_side: Length to which the frame's short side is scaled for a centre crop, in pixels.
        subject_scale: Side of a subject window in head widths (1.8: the head fills a bit over half of it).
            None: the same fraction of the frame's short side as the centre crop, moved to the person.
        mean: RGB mean of pixel values in [0, 1].
        std: RGB standard deviation of pixel values in [0, 1].
        beyond_frame: Whether a subject window larger than the frame keeps its side; the part outside of the
            frame is filled with the mean colour. False: the window shrinks to the frame's short side, which
            shows a head that fills the frame larger than the heads in training.

    Raises:
        EmotionError: The sizes contradict each other.
    """

    size: int = 224
    patch: int = 32
    window: Literal["center", "subject"] = "center"
    short_side: int = 256
    subject_scale: float | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    beyond_frame: bool = False

    def __post_init__(self) -> None:
        if self.patch <= 0 or self.size <= 0 or self.size % self.patch:
            raise EmotionError(
                f"preprocess spec: size {self.size} must be a positive multiple of patch {self.patch}"
            )
        if self.short_side < self.size:
            raise EmotionError(
                f"preprocess spec: short_side {self.short_side} must be at least size {self.size}"
            )
        if self.short_side > MAX_SIDE:
            raise EmotionError(
                f"preprocess spec: short_side {self.short_side} must be at most {MAX_SIDE} pixels"
            )
        # A window beyond the frame is filled, which takes memory and time as the square of its side.
        if self.subject_scale is not None and not 1 <= self.subject_scale <= MAX_SUBJECT_SCALE:
            raise EmotionError(
                f"preprocess spec: subject_scale {self.subject_scale} must be from 1 to {MAX_SUBJECT_SCALE} "
                "head widths"
            )
        if not all(0 <= value <= 1 for value in self.mean):
            raise EmotionError(f"preprocess spec: mean {list(self.mean)} must be 3 numbers from 0 to 1")
        if not all(MIN_STD <= value <= 1 for value in self.std):
            raise EmotionError(f"preprocess spec: std {list(self.std)} must be 3 numbers from {MIN_STD} to 1")

    @property
    def side_patches(self) -> int:
        """Number of patches along one side."""
        return self.size // self.patch

    @property
    def patches(self) -> int:
        """Number of patches, G."""
        return self.side_patches**2
