"""The configuration of a pre-training run: one TOML file, in which unknown keys are refused."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from emotion_train.training.precision import PrecisionName
from emotion_train.training.stage_config import (
    Clips,
    Count,
    Factor,
    Rate,
    Scenes,
    Share,
    StemWarmup,
    TextWarmup,
)
from emotion_train.training.trackers import TrackerName

LEAST_PURE_LR = 1e-5  # a weight of 0.005 is rounded to multiples of 2e-5 in bfloat16


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A labelled data set to probe while clips are trained; see `emotion-train fit-probe --dataset`.

    Attributes:
        dataset: Name of the data set.
        data: Its folder or file.
        every: Epochs between two evaluations.
        metric: Name in the log of the metric by which best.pt is chosen; None means the first of the probe.
    """

    dataset: str
    data: str
    every: Count = 1
    metric: str | None = None


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """First weights, and which towers are trained (paper Table 3).

    Without `clip` and `checkpoint` the weights are random.

    Attributes:
        clip: Tag of weights of open_clip, for example "laion2b_e16", or a file of them: ViT-B-32, ViT-B-16
            or ViT-L-14, as the preset says. Weights trained with QuickGELU, such as "openai", need
            `model.activation = "quick_gelu"`.
        checkpoint: A checkpoint of this project or of the released layout, of which the tensors that the
            model has too are loaded.
        frame_encoder: "trained" or "frozen" from these weights, or "random" and trained.
        text_encoder: The same.
        temporal: How a new temporal transformer begins: "small" with positions from N(0, 0.02), and layers
            that differ; "authors" with positions from N(0, 1), and layers that are copies of one.
        temperature: "kept" takes the temperature from the first weights, as the authors did; "new" begins at
            1/0.07, as a model without first weights does.
    """

    clip: str | None = None
    checkpoint: str | None = None
    frame_encoder: Literal["trained", "frozen", "random"] = "trained"
    text_encoder: Literal["trained", "frozen", "random"] = "trained"
    temporal: Literal["small", "authors"] = "small"
    temperature: Literal["kept", "new"] = "kept"

    def __post_init__(self) -> None:
        if self.clip and self.checkpoint:
            raise ValueError("clip and checkpoint are both given, expected one of them")


class PretrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run.

    Attributes:
        preset: Key of `emotion_train.model.PRESETS`.
        model: Settings of `ModelConfig` that differ from the preset.
        start: First weights.
        seed: Of everything random.
        precision: "bf16" and "fp16" compute matrix products and convolutions in 16 bits. Weights stay
            float32, except matrices with "pure-bf16", for clips, which needs half the memory.
        tf32: Multiply float32 matrices in TF32 on a GPU: faster, with 10 bits of mantissa.
        accumulate: Chunks in which a process encodes its batch. The loss is that of the whole batch.
        recompute: Recompute transformer blocks in the backward pass, to save memory.
        compile: Use torch.compile.
        freeze_batchnorm: See `emotion_train.training.objective.PairEncoder`.
        sentiment: Sentiment model of scenes: "linear" (fitted on GoEmotions, offline), or the name or folder
            of a transformers model. Shards have scores of their own.
        votes: Weight of the annotators' votes against the label of FER2013 in what a face is an example of; 1
            uses the votes alone. It matters only for faces that have votes.
        predictions: File of `emotion-train predict-votes`; None: the votes stay as they are.
        prediction_weight: Weight of these predictions against the votes.
        workers: Processes that draw or decode batches, for each training process.
        save_every: Seconds between two checkpoints.
        keep_last: Number of epochs of clips whose checkpoints are kept beside the latest.
        trackers: Where metrics go besides log.jsonl and report.html: "tensorboard" (into tensorboard/) and
            "wandb" (Weights & Biases, offline unless the variable WANDB_MODE is "online").
        stall_limit: Seconds without progress after which one of several processes has stalled, which ends the
            run and names it. Evaluations may take longer.
        text_warmup: First stage, for scenes.
        stem_warmup: Second stage, for scenes.
        scenes: Last stage on rendered scenes.
        clips: The only stage on clips of video.
        probe: Evaluation while clips are trained.
    """

    preset: str
    model: dict[str, Any] = {}
    start: Start = Start()
    seed: Annotated[int, Meta(ge=0)] = 0
    precision: PrecisionName = "fp32"
    tf32: bool = False
    accumulate: Count = 1
    recompute: bool = False
    compile: bool = False
    freeze_batchnorm: bool = False
    sentiment: str = "linear"
    votes: Share = 1.0
    predictions: str | None = None
    prediction_weight: Share = 0.5
    workers: Annotated[int, Meta(ge=0)] = 1
    save_every: Factor = 60.0
    keep_last: Annotated[int, Meta(ge=0)] = 3
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    stall_limit: Rate = 600.0
    text_warmup: TextWarmup | None = None
    stem_warmup: StemWarmup | None = None
    scenes: Scenes | None = None
    clips: Clips | None = None
    probe: Probe | None = None

    def __post_init__(self) -> None:
        if self.scenes and self.clips:
            raise ValueError("[scenes] and [clips] are both given, expected one of them")
        if not (self.scenes or self.clips or self.text_warmup or self.stem_warmup):
            raise ValueError("nothing to train: expected [scenes] or [clips]")
        if self.clips and (self.text_warmup or self.stem_warmup):
            raise ValueError("[clips] needs pre-trained weights: set [start]; warm-ups are only for [scenes]")
        if self.compile and self.accumulate > 1:
            raise ValueError("compile with accumulate: a compiled encoder cannot repeat a chunk's dropout")
        if self.scenes and self.scenes.stem_answers and not (self.stem_warmup and self.scenes.supervised):
            raise ValueError("scenes.stem_answers needs [stem_warmup], for the stem, and supervised > 0")
        clips = self.clips
        if self.precision == "pure-bf16" and not (
            clips and min(clips.lr, clips.head_lr or clips.lr) >= LEAST_PURE_LR
        ):
            raise ValueError(
                "precision pure-bf16: matrices of 8 bits are for [clips] with an lr and a head_lr of "
                f"{LEAST_PURE_LR:g} or more, smaller steps are lost; use bf16"
            )
        if self.probe and not self.clips:
            raise ValueError("[probe] is only for [clips]; with [scenes] set evaluate_every")
