"""What a pre-training run is made of: one TOML file, unknown keys refused."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

import emotion_train
from emotion_runtime.errors import EmotionError
from emotion_train.losses import KLDirection
from emotion_train.model import PRESETS, ModelConfig
from emotion_train.scenes.drawing import ASPECT
from emotion_train.training.precision import PrecisionName

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
    supervised: weight of a cross-entropy on labels beside the contrastive loss. stem_answers: share of its
    targets that the warm stem's own view of each face takes from the label.
    people, face_share, body_boxes, wide_windows, one_picture, aspect, poor, close_ups: see
    `scenes.batches.SceneMix`.
    evaluate_every: steps between two looks at validation faces (zero-shot and a small probe); 0: none.
    """

    steps: Count
    scenes_per_batch: Count = 32
    lr: Rate = 1e-3
    stem_lr: Factor = 0.3
    weight_decay: Factor = 0.05
    warmup: Annotated[int, Meta(ge=0)] = 60
    beta: Factor = 10.0
    kl_direction: KLDirection = "paper"
    distinct_frames: Annotated[tuple[Count, ...], Meta(min_length=1)] = (1, 1, 2)
    train_text: bool = False
    sentence_confidence: Share = 0.5
    supervised: Factor = 0.0
    stem_answers: Share = 0.0
    people: tuple[Share, Share, Share, Share] = (0.35, 0.35, 0.2, 0.1)
    face_share: tuple[Rate, Rate] = (0.16, 0.45)
    body_boxes: Share = 0.15
    wide_windows: Share = 0.3
    one_picture: Share = 0.0
    aspect: tuple[Rate, Rate] = ASPECT
    poor: Share = 0.0
    close_ups: Share = 0.0
    evaluate_every: Annotated[int, Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        # msgspec makes a ValueError of here its own error, with the place in the file.
        if not math.isclose(sum(self.people), 1, abs_tol=1e-8):
            raise ValueError(f"people {list(self.people)} sum to {sum(self.people):g}, expected 1")
        for name, (least, most) in (("face_share", self.face_share), ("aspect", self.aspect)):
            if least > most:
                raise ValueError(f"{name} {[least, most]}: expected the least first")


class Clips(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Contrastive pre-training on clips of video and what is said in them, from shards (paper Sec. 3.4, 4).

    The defaults are the authors'. batch: clips of one process. lr: of matrices; at 1e-8 they hardly move, so
    that what is tuned is mostly gains and biases, at vector_lr. warmup: steps of rising rate, from
    warmup_start times the peak; then a cosine down to final_lr, in strides of an epoch where epoch_steps says
    so. betas, eps: AdamW's. clip_norm: largest norm of the gradient; without it gradients are not clipped.
    beta, kl_direction: of the loss.
    """

    epochs: Count = 25
    batch: Count = 128
    lr: Rate = 1e-8
    vector_lr: Rate = 5e-5
    weight_decay: Factor = 0.1
    betas: tuple[Share, Share] = (0.98, 0.9)
    eps: Rate = 1e-6
    warmup: Annotated[int, Meta(ge=0)] = 10_000
    warmup_start: Share = 1e-5
    final_lr: Factor = 1e-10
    epoch_steps: bool = True
    clip_norm: Rate | None = None
    beta: Factor = 10.0
    kl_direction: KLDirection = "official"


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A labelled data set to probe after every epoch of clips; see `emotion-train fit-probe --dataset`."""

    dataset: str
    data: str
    every: Count = 1


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the weights come from, and which towers learn (paper Table 3).

    clip: tag of open_clip's ViT-B-32 weights ("laion2b_e16") or a file of them. checkpoint: a file of ours or
    of the released layout; what it has of this model is taken. Neither: random.
    frame_encoder, text_encoder: "trained" from there, "frozen" there, or "random" and trained.
    """

    clip: str | None = None
    checkpoint: str | None = None
    frame_encoder: Literal["trained", "frozen", "random"] = "trained"
    text_encoder: Literal["trained", "frozen", "random"] = "trained"

    def __post_init__(self) -> None:
        if self.clip and self.checkpoint:
            raise ValueError("clip and checkpoint are both given, expected one of them")


class PretrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run.

    preset: key of `emotion_train.model.PRESETS`. model: settings of `ModelConfig` that differ from it.
    precision: "bf16" and "fp16" autocast matrix products and convolutions, weights stay float32.
    accumulate: pieces in which a process encodes its batch; the contrastive loss stays that of the whole.
    recompute: transformer blocks are computed again in the backward pass, for memory. compile: torch.compile.
    freeze_batchnorm: see `emotion_train.training.objective.PairEncoder`.
    sentiment: "linear" (fitted on GoEmotions, offline) or a transformers model's hub name or folder, for
    scenes; shards carry their own. workers: processes that draw or decode batches, of each training process.
    save_every: seconds between checkpoints.
    """

    preset: str
    model: dict[str, Any] = {}
    start: Start = Start()
    seed: Annotated[int, Meta(ge=0)] = 0
    precision: PrecisionName = "fp32"
    accumulate: Count = 1
    recompute: bool = False
    compile: bool = False
    freeze_batchnorm: bool = False
    sentiment: str = "linear"
    workers: Annotated[int, Meta(ge=0)] = 1
    save_every: Factor = 60.0
    text_warmup: TextWarmup | None = None
    stem_warmup: StemWarmup | None = None
    scenes: Scenes | None = None
    clips: Clips | None = None
    probe: Probe | None = None

    def __post_init__(self) -> None:
        if self.scenes and self.clips:
            raise ValueError("[scenes] and [clips] are both given, expected one of them")
        if not (self.scenes or self.clips or self.text_warmup or self.stem_warmup):
            raise ValueError("there is nothing to train: expected [scenes] or [clips]")
        if self.clips and (self.text_warmup or self.stem_warmup):
            raise ValueError("[clips] starts from weights, set [start]; warm-ups go with [scenes]")
        if self.compile and self.accumulate > 1:
            raise ValueError(
                "compile with accumulate: dropout of a compiled piece is not the same when it is repeated"
            )
        if self.scenes and self.scenes.stem_answers and not (self.stem_warmup and self.scenes.supervised):
            raise ValueError(
                "scenes.stem_answers needs [stem_warmup], whose stem answers, and supervised > 0"
            )
        if self.probe and not self.clips:
            raise ValueError("[probe] goes with [clips]; scenes have evaluate_every")


# What may be edited between two parts of a run: how fast it learns and how it is computed, never in what
# order it sees its data, nor which parameters learn.
FREE = frozenset(
    {
        "lr",
        "vector_lr",
        "stem_lr",
        "weight_decay",
        "steps",
        "epochs",
        "warmup",
        "warmup_start",
        "final_lr",
        "epoch_steps",
        "clip_norm",
        "precision",
        "accumulate",
        "recompute",
        "compile",
        "workers",
        "save_every",
        "evaluate_every",
        "probe",
    }
)


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any], inside: str = "") -> list[str]:
    """Names of settings that differ between two configurations as plain values, but for the `FREE` ones."""
    changed = []
    for name in before.keys() & now.keys() - FREE:
        old, new = before[name], now[name]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changed += changed_settings(old, new, f"{inside}{name}.")
        elif old != new and not any(
            isinstance(value, Mapping) for value in (old, new)
        ):  # a stage that is done
            changed.append(inside + name)
    return sorted(changed)


def shipped_configs() -> dict[str, Path]:
    """Return the configurations that come with the package, by name."""
    package = Path(emotion_train.__file__).parent
    # In a wheel they are part of the package, in a checkout they lie beside it.
    folders = (package / "configs", package.parent / "configs")
    return dict(sorted((path.stem, path) for folder in folders for path in folder.glob("*.toml")))


def find_config(name: str) -> Path:
    """Return the file of a configuration.

    Args:
        name: Path of a TOML file, or the name of a shipped configuration. A file wins.
    """
    shipped = shipped_configs()
    if Path(name).is_file() or name not in shipped:
        return Path(name)
    return shipped[name]


def load_config(path: Path) -> PretrainConfig:
    """Read and check a TOML file.

    Raises:
        EmotionError: no such file, not TOML, an unknown key, a value of the wrong type or out of range.

    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=PretrainConfig)
    except OSError as error:
        raise EmotionError(
            f"config {path}: {error.strerror}; give the path of a TOML file, or one of "
            f"{', '.join(shipped_configs())}"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # of which a wrong value is a kind
        raise EmotionError(f"{path}: {error}") from error


def model_config(
    preset: str, changes: Mapping[str, Any], presets: Mapping[str, ModelConfig] = PRESETS
) -> ModelConfig:
    """A preset with some settings changed, those of `preprocess` one by one.

    Raises:
        EmotionError: the preset or a setting is unknown, or a value is wrong.

    """
    if preset not in presets:
        raise EmotionError(f"preset {preset!r}: expected one of {sorted(presets)}")
    plain = msgspec.to_builtins(presets[preset])
    changes = dict(changes)
    inner = changes.pop("preprocess", {})
    unknown = sorted(changes.keys() - plain.keys())
    if unknown or not isinstance(inner, dict):
        raise EmotionError(
            f"[model]: {', '.join(unknown) or 'preprocess'}: expected settings among {', '.join(plain)}"
        )
    try:
        return msgspec.convert(
            {**plain, **changes, "preprocess": {**plain["preprocess"], **inner}}, ModelConfig
        )
    except msgspec.ValidationError as error:
        raise EmotionError(f"[model]: {error}") from error
