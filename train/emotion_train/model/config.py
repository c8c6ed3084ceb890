"""Configuration of a model, and the presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec

CONV_STEM_STRIDE = 16

Subject = Literal["sap", "saam", "saam-rowwise", "shared", "none"]
Stem = Literal["patch", "conv"]
Temporal = Literal["transformer", "mean", "conv"]
Activation = Literal["gelu", "quick_gelu"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # with which CLIP's own training normalises images
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

MASKED: Final[frozenset[Subject]] = frozenset({"saam", "saam-rowwise"})  # with attention masking (Eq. 2-4)


@dataclass(frozen=True, slots=True)
class Saam:
    """Subject-aware attention masking of a tower.

    Attributes:
        tokens: Length L of the sequences; 0 turns it off.
        layers: Number of leading blocks with it.
        rowwise: Read Eq. 2 row by row, see `emotion_train.model.attention.rowwise_shift`.
    """

    tokens: int = 0
    layers: int = 0
    rowwise: bool = False


NO_SAAM: Final = Saam()


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything that determines the names and shapes of a model's parameters.

    The defaults are those of the released ViT-B/32.

    Attributes:
        preprocess: How images are cropped, resized and normalised.
        stem: How an image becomes patches: "patch" is CLIP's linear projection, "conv" four strided
            convolutions.
        subject: How the encoder selects the subject. "sap": subject-aware prompting, one more token in each
            person's own pass (paper Sec. 3.3). "shared": as "sap", but the patches of an image are encoded
            once for all its people. "saam": subject-aware attention masking (Eq. 2-4). "saam-rowwise": as
            "saam", but each row of the attention hands what it gives away to its own subject distribution
            instead of Eq. 2's matrix product. "none": plain CLIP, which ignores patch weights.
        subject_bias: Bias the attention of a person's own tokens towards the covered patches; off in the
            released weights.
        saam_layers: Number of leading blocks with subject-aware attention masking; None means all.
        activation: Of the vision and the text tower: exact "gelu", or "quick_gelu", x * sigmoid(1.702 x),
            with which OpenAI, MetaCLIP and LAION-400M trained theirs.
        temporal: "transformer" is the paper's; "mean" has no parameters; "conv" is a depthwise convolution
            over time. The last two ignore the `temporal_*` sizes.
        clip_frames: T, frames of a clip.
        embed_dim: D, size of an embedding.
        stem_channels: Channels of the first three stages of the stem "conv"; the fourth has `vision_width`.
    """

    preprocess: PreprocessSpec = PreprocessSpec()  # noqa: RUF009 (frozen)
    stem: Stem = "patch"
    subject: Subject = "sap"
    subject_bias: bool = False
    saam_layers: int | None = None
    activation: Activation = "gelu"
    temporal: Temporal = "transformer"
    clip_frames: int = 8
    embed_dim: int = 512
    vision_width: int = 768
    vision_layers: int = 12
    vision_heads: int = 12
    stem_channels: tuple[int, int, int] = (32, 64, 128)
    temporal_layers: int = 6
    temporal_heads: int = 8
    temporal_ff: int = 2048
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    text_context: int = 77
    text_vocab: int = 49408

    def __post_init__(self) -> None:
        for tower, width, heads in (
            ("vision", self.vision_width, self.vision_heads),
            ("temporal", self.embed_dim, self.temporal_heads),
            ("text", self.text_width, self.text_heads),
        ):
            if width <= 0 or heads <= 0 or width % heads:
                raise EmotionError(
                    f"model config: {tower} width {width} must be a positive multiple of the number of "
                    f"heads ({heads})"
                )
        if min(self.vision_layers, self.temporal_layers, self.text_layers, self.clip_frames) < 1:
            raise EmotionError(
                "model config: every tower needs at least 1 layer, and a clip at least 1 frame"
            )
        if min(self.stem_channels) < 1:
            raise EmotionError(f"model config: stem_channels {self.stem_channels}: expected at least 1 each")
        if self.stem == "conv" and self.preprocess.patch != CONV_STEM_STRIDE:
            raise EmotionError(
                f"model config: patch {self.preprocess.patch} with stem 'conv', which halves the image "
                f"four times: set preprocess.patch to {CONV_STEM_STRIDE}"
            )
        if self.subject_bias and self.subject not in ("sap", "shared"):
            raise EmotionError(
                f"model config: subject_bias with subject {self.subject!r}: expected 'sap' or 'shared'"
            )
        if self.saam_layers is not None and not (
            self.subject in MASKED and 1 <= self.saam_layers <= self.vision_layers
        ):
            raise EmotionError(
                f"model config: saam_layers {self.saam_layers} with subject {self.subject!r}: expected "
                f"subject 'saam' and 1 to {self.vision_layers} layers"
            )

    @property
    def saam(self) -> Saam:
        """Subject-aware attention masking of the vision tower."""
        if self.subject not in MASKED:
            return NO_SAAM
        return Saam(
            tokens=self.preprocess.patches + 2,
            layers=self.saam_layers or self.vision_layers,
            rowwise=self.subject == "saam-rowwise",
        )


PRESETS: Final[Mapping[str, ModelConfig]] = MappingProxyType(
    {
        "vit-b-32": ModelConfig(),
        "vit-b-16": ModelConfig(preprocess=PreprocessSpec(patch=16, mean=CLIP_MEAN, std=CLIP_STD)),
        "vit-l-14": ModelConfig(
            preprocess=PreprocessSpec(patch=14, mean=CLIP_MEAN, std=CLIP_STD),
            embed_dim=768,
            vision_width=1024,
            vision_layers=24,
            vision_heads=16,
            text_width=768,
            text_heads=12,
        ),
        "nano": ModelConfig(
            preprocess=PreprocessSpec(
                size=112, patch=16, window="subject", short_side=128, subject_scale=1.3, beyond_frame=True
            ),
            stem="conv",
            subject="shared",
            subject_bias=True,
            embed_dim=256,
            vision_width=160,
            vision_layers=3,
            vision_heads=5,
            stem_channels=(24, 48, 96),
            temporal_layers=2,
            temporal_heads=4,
            temporal_ff=512,
            text_width=192,
            text_layers=2,
            text_heads=6,
        ),
    }
)
