"""The contrastive stages of pre-training: scenes, and clips of video."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_train.clips.batches import ShardBatches
from emotion_train.clips.reader import ShardSet
from emotion_train.language.labels import rows_by_class
from emotion_train.language.sentence_bank import SentenceBank
from emotion_train.model import EmotionCLIP
from emotion_train.scenes.batches import SceneBatches, SceneMix
from emotion_train.scenes.text_batches import SceneTextBatches
from emotion_train.scenes.training_data import SceneData
from emotion_train.training.loop import Stage
from emotion_train.training.objective import ContrastiveObjective, Execution
from emotion_train.training.optim import Rates, Schedule, parameter_groups, parameter_groups_by_part
from emotion_train.training.stage_config import Clips, Scenes
from emotion_train.training.supervision import Supervision
from emotion_train.training.warmup_stages import short_warmup, text_parameters

MAX_LOGIT_SCALE = math.log(100)  # the authors clamp to [0, ln 100] after each step
AUTHORS_WARMUP = 0.41  # of all steps: 10,000 of 25 epochs of a million clips, 1,024 at a time


def scene_stage(
    model: EmotionCLIP,
    data: SceneData,
    config: Scenes,
    *,
    seed: int,
    execution: Execution,
    supervision: Supervision | None = None,
) -> Stage:
    """Return contrastive pre-training on scenes: clips of people and sentences of their emotions (Eq. 5-7).

    Args:
        model: The model to train.
        data: Faces and sentences.
        config: Of the stage.
        seed: Of the stage.
        execution: How it is computed.
        supervision: Classifier of the supervised term, with its targets; None without that term.
    """
    bank = data.bank.confident(config.sentence_confidence)
    text, anchors = (bank.tokens, None) if config.train_text else _freeze_text(model, bank)
    groups = parameter_groups(
        [*model.named_parameters(), *(supervision.named_parameters() if supervision else ())],
        lr=config.lr,
        weight_decay=config.weight_decay,
        slow="stem",
        factor=config.stem_lr,
    )
    encoder = execution.encoder(model, supervision)
    scenes = SceneBatches(
        data.faces,
        model.config.preprocess,
        _scene_mix(config),
        seed=seed,
        scenes_per_batch=config.scenes_per_batch,
        distinct_frames=config.distinct_frames,
    )
    return Stage(
        "scenes",
        SceneTextBatches(scenes, bank, text, supervision.targets.cpu() if supervision else None),
        ContrastiveObjective(
            encoder,
            config.beta,
            config.kl_direction,
            world=execution.world,
            chunks=execution.accumulate,
            supervised=config.supervised,
            anchors=anchors,
        ),
        torch.optim.AdamW(groups, fused=execution.world.device.type == "cuda"),
        (encoder,),
        Schedule(config.steps, short_warmup(config.steps, config.warmup)),
        after_step=_clamp_scale(model),
        evaluate_every=config.evaluate_every,
    )


def clip_stage(
    model: EmotionCLIP,
    shards: ShardSet,
    config: Clips,
    *,
    seed: int,
    execution: Execution,
    probe_every: int = 0,
) -> Stage:
    """Return contrastive pre-training on clips of video and the sentences spoken in them, as the authors did.

    Args:
        model: The model to train.
        shards: The clips.
        config: Of the stage.
        seed: Of the stage.
        execution: How it is computed.
        probe_every: Epochs between two evaluations; 0 means none.

    Raises:
        EmotionError: There are too few clips for the configured warm-up.
    """
    batches = ShardBatches(
        shards,
        model.config.preprocess,
        seed=seed,
        batch=config.batch,
        frames=model.config.clip_frames,
        parallel=execution.world.size,
    )
    groups = parameter_groups_by_part(
        model.named_parameters(), rates=_clip_rates(config), weight_decay=config.weight_decay
    )
    encoder = execution.encoder(model)
    epoch = batches.steps_per_epoch
    check_schedule(config, epoch)
    return Stage(
        "clips",
        batches,
        ContrastiveObjective(
            encoder, config.beta, config.kl_direction, world=execution.world, chunks=execution.accumulate
        ),
        torch.optim.AdamW(
            groups, betas=config.betas, eps=config.eps, fused=execution.world.device.type == "cuda"
        ),
        (encoder,),
        Schedule(
            config.epochs * epoch,
            config.warmup,
            config.warmup_start,
            config.final_lr,
            stride=epoch if config.epoch_steps else 1,
            whole_cosine=True,
        ),
        clip_norm=config.clip_norm or math.inf,
        after_step=_clamp_scale(model),
        evaluate_every=probe_every * epoch,
        epoch=epoch,
        skipped=lambda batch: batch.skipped,
    )


def _freeze_text(model: EmotionCLIP, bank: SentenceBank) -> tuple[Tensor, Tensor]:
    """Freeze the text tower; return the features (N, D) of the sentences and (C, D) of the classes."""
    for parameter in text_parameters(model).values():
        parameter.requires_grad_(False)
    text = _encode_bank(model, bank.tokens).cpu()
    return text, torch.stack([F.normalize(text[rows].mean(0), dim=0) for rows in rows_by_class(bank.labels)])


def check_schedule(config: Clips, epoch: int) -> None:
    """Refuse a warm-up that is longer than the run.

    Args:
        config: Of the stage.
        epoch: Steps of an epoch.

    Raises:
        EmotionError: The warm-up does not end within the run.
    """
    steps = config.epochs * epoch
    if config.warmup >= steps:
        raise EmotionError(
            f"[clips] warmup {config.warmup} is longer than the run: {config.epochs} epochs of {epoch} steps "
            f"are {steps} steps; set warmup to at most {steps - 1} (the authors' share would be "
            f"{int(AUTHORS_WARMUP * steps)}), or epochs to at least {config.warmup // epoch + 1}"
        )


def _clip_rates(config: Clips) -> Rates:
    return Rates(
        matrices=config.lr,
        vectors=config.vector_lr,
        head_matrices=config.head_lr or config.lr,
        head_vectors=config.head_vector_lr or config.vector_lr,
        scale=config.scale_lr or config.lr,
    )


def _scene_mix(config: Scenes) -> SceneMix:
    """Return the settings of what is rendered; TOML keys keep the names that checkpoints store."""
    return SceneMix(
        people=config.people,
        face_height=config.face_share,
        body_boxes=config.body_boxes,
        wide_windows=config.wide_windows,
        shared_crop=config.one_picture,
        aspect=config.aspect,
        degraded=config.poor,
        close_ups=config.close_ups,
        turned=config.turned,
        worn=config.worn,
        covered=config.covered,
        blurred=config.blurred,
        box_scale=config.box_scale,
    )


def _clamp_scale(model: EmotionCLIP) -> Callable[[], None]:
    def clamp() -> None:
        with torch.no_grad():
            model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)

    return clamp


@torch.no_grad()
def _encode_bank(model: EmotionCLIP, tokens: Tensor, batch: int = 512) -> Tensor:
    """Return the features (N, D) of all sentences under the locked tower."""
    was_training = model.training
    model.eval()
    device = model.logit_scale.device
    parts = [model.encode_text(tokens[i : i + batch].to(device)) for i in range(0, len(tokens), batch)]
    model.train(was_training)
    return torch.cat(parts).float()
