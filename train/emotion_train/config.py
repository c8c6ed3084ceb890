"""What a pre-training run is made of: one TOML file, unknown keys refused."""

import math
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from emotion_runtime.errors import EmotionError

Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0)]
Factor = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class TextWarmup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text tower learns the seven emotions of sentences; a small model has no CLIP to start from."""

    steps: Count
    batch: Count = 128
    lr: Rate = 1e-3


class StemWarmup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The convolutional stem learns on tight faces; from scratch on scenes it stays at the majority class.

    size: side of the face pictures, pixels; about what a face has in a subject window.
    """

    steps: Count
    batch: Count = 128
    lr: Rate = 2e-3
    size: Annotated[int, Meta(ge=16)] = 64
    weight_decay: Factor = 0.05


class Scenes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Contrastive pre-training on scenes (paper Sec. 3.4).

    beta, kl_direction: of the sentiment-guided loss. stem_lr: factor on the warm stem's rate.
    distinct_frames: frames drawn and encoded of each clip of 8, cycling over the steps.
    train_text: False keeps the warm text tower locked. sentence_confidence: a sentence must be given at least
    this probability of its own class by the sentiment model (the paper filters by neutral probability).
    people, face_share, body_boxes, wide_windows: see `emotion_train.data.clips.SceneMix`.
    """

    steps: Count
    scenes_per_batch: Count = 32
    lr: Rate = 1e-3
    stem_lr: Factor = 0.3
    weight_decay: Factor = 0.05
    warmup: Annotated[int, Meta(ge=0)] = 60
    beta: Factor = 10.0
    kl_direction: Literal["paper", "official"] = "paper"
    distinct_frames: Annotated[tuple[Count, ...], Meta(min_length=1)] = (1, 1, 2)
    train_text: bool = False
    sentence_confidence: Share = 0.5
    people: tuple[Share, Share, Share, Share] = (0.35, 0.35, 0.2, 0.1)
    face_share: tuple[Rate, Rate] = (0.16, 0.45)
    body_boxes: Share = 0.15
    wide_windows: Share = 0.3

    def __post_init__(self) -> None:
        # msgspec makes a ValueError of here its own error, with the place in the file.
        if not math.isclose(sum(self.people), 1, abs_tol=1e-8):
            raise ValueError(f"people {list(self.people)} sum to {sum(self.people):g}, expected 1")
        if self.face_share[0] > self.face_share[1]:
            raise ValueError(f"face_share {list(self.face_share)}: expected the least first")


class PretrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run. precision: "bf16" autocasts matrix products and convolutions, weights stay float32.

    sentiment: "linear" (fitted on GoEmotions, offline) or a transformers model's hub name or folder.
    workers: processes that draw batches. save_every: seconds between checkpoints.
    """

    preset: str
    scenes: Scenes
    seed: Annotated[int, Meta(ge=0)] = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    sentiment: str = "linear"
    workers: Annotated[int, Meta(ge=0)] = 1
    save_every: Factor = 60.0
    text_warmup: TextWarmup | None = None
    stem_warmup: StemWarmup | None = None


def load_config(path: Path) -> PretrainConfig:
    """Read and check a TOML file.

    Raises:
        EmotionError: no such file, not TOML, an unknown key, a value of the wrong type or out of range.

    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=PretrainConfig)
    except OSError as error:
        raise EmotionError(
            f"config {path}: {error.strerror}; train/configs/ holds the ones that come with this"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # of which a wrong value is a kind
        raise EmotionError(f"{path}: {error}") from error
