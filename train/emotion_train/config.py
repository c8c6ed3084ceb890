"""What a pre-training run is made of: one TOML file, unknown keys refused."""

from pathlib import Path
from typing import Literal

import msgspec

from emotion_runtime.errors import EmotionError


class TextWarmup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text tower learns the seven emotions of sentences; a small model has no CLIP to start from."""

    steps: int
    batch: int = 128
    lr: float = 1e-3


class StemWarmup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The convolutional stem learns on tight faces; from scratch on scenes it stays at the majority class.

    size: side of the face pictures, pixels; about what a face has in a subject window.
    """

    steps: int
    batch: int = 128
    lr: float = 2e-3
    size: int = 64
    weight_decay: float = 0.05


class Scenes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Contrastive pre-training on scenes (paper Sec. 3.4).

    beta, kl_direction: of the sentiment-guided loss. stem_lr: factor on the warm stem's rate.
    distinct_frames: frames drawn and encoded of each clip of 8, cycling over the steps.
    train_text: False keeps the warm text tower locked. sentence_confidence: a sentence must be given at least
    this probability of its own class by the sentiment model (the paper filters by neutral probability).
    people, face_share, body_boxes, wide_windows: see `emotion_train.data.clips.SceneMix`.
    """

    steps: int
    scenes_per_batch: int = 32
    lr: float = 1e-3
    stem_lr: float = 0.3
    weight_decay: float = 0.05
    warmup: int = 60
    beta: float = 10.0
    kl_direction: Literal["paper", "official"] = "paper"
    distinct_frames: tuple[int, ...] = (1, 1, 2)
    train_text: bool = False
    sentence_confidence: float = 0.5
    people: tuple[float, float, float, float] = (0.35, 0.35, 0.2, 0.1)
    face_share: tuple[float, float] = (0.16, 0.45)
    body_boxes: float = 0.15
    wide_windows: float = 0.3


class PretrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run. precision: "bf16" autocasts matrix products and convolutions, weights stay float32.

    sentiment: "linear" (fitted on GoEmotions, offline) or a transformers model's hub name or folder.
    workers: processes that draw batches. save_every: seconds between checkpoints.
    """

    preset: str
    scenes: Scenes
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    sentiment: str = "linear"
    workers: int = 1
    save_every: float = 60.0
    text_warmup: TextWarmup | None = None
    stem_warmup: StemWarmup | None = None


def load_config(path: Path) -> PretrainConfig:
    """Read and check a TOML file.

    Raises:
        EmotionError: no such file, not TOML, an unknown key or a value of the wrong type.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=PretrainConfig)
    except FileNotFoundError as error:
        raise EmotionError(
            f"no config at {path}: train/configs/ holds the ones that come with this"
        ) from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EmotionError(f"{path}: {error}") from error
