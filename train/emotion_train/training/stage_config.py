"""The tables of a run's configuration that describe its stages: warm-ups, rendered scenes, clips of video."""

import math
import sys
from typing import Annotated

import msgspec
from msgspec import Meta

from emotion_train.losses import KLDirection
from emotion_train.scenes.drawing import ASPECT

Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0, le=sys.float_info.max)]  # TOML knows inf
Factor = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
Share = Annotated[float, Meta(ge=0, le=1)]
Decay = Annotated[float, Meta(ge=0, lt=1)]  # of a running mean


class TextWarmup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Warm-up of the text tower on the emotions of sentences, for models that do not start from CLIP.

    Attributes:
        steps: Number of training steps.
        batch: Sentences per step.
        lr: Peak learning rate.
    """

    steps: Count
    batch: Count = 128
    lr: Rate = 1e-3


class StemWarmup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Warm-up of the convolutional stem on aligned faces.

    Trained from scratch on scenes, the stem stays at the majority class.

    Attributes:
        steps: Number of training steps.
        batch: Faces per step.
        lr: Peak learning rate.
        size: Side of the face images, pixels; about the size of a face in a subject window.
        weight_decay: Weight decay of matrices.
    """

    steps: Count
    batch: Count = 128
    lr: Rate = 2e-3
    size: Annotated[int, Meta(ge=16)] = 64
    weight_decay: Factor = 0.05


class Scenes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Contrastive pre-training on rendered scenes (paper Sec. 3.4).

    Attributes:
        steps: Number of training steps.
        scenes_per_batch: Scenes per step.
        lr: Peak learning rate.
        stem_lr: Factor on the learning rate of the warm stem.
        weight_decay: Weight decay of matrices.
        warmup: Steps in which the learning rate rises.
        beta: Strength of the sentiment guidance in the loss.
        kl_direction: Direction of the divergence between sentiments.
        distinct_frames: Number of frames rendered and encoded of each clip of 8, cycling over the steps.
        train_text: Whether the text tower is trained. Otherwise it stays as the warm-up left it.
        sentence_confidence: Least probability that the sentiment model must give to a sentence's own class.
            The paper filters by the probability of "neutral" instead.
        supervised: Weight of a cross-entropy on votes and labels beside the contrastive loss.
        stem_answers: Fraction of the targets of that term that are the warm stem's predictions.
        people: Probabilities of 1, 2, 3 and 4 people in a scene.
        face_share: Smallest and largest height of a face, as a fraction of the image's height.
        body_boxes: Fraction of clips whose subject is given by a body box instead of a head box.
        wide_windows: Fraction of clips with a window up to 2.4 times the usual one, so that others are in it.
        one_picture: Fraction of scenes in which all people share one crop.
        aspect: Smallest and largest aspect ratio of the image.
        poor: Fraction of scenes with degraded images.
        close_ups: Fraction of scenes that show one face closely.
        turned: Fraction of people whose head is tilted by up to 45 degrees.
        worn: Fraction of people with a beard, dark glasses or a mask.
        covered: Fraction of people with about half of the face behind something.
        blurred: Fraction of scenes that are out of focus.
        box_scale: The box of a clip is up to this factor larger or smaller than the head.
        evaluate_every: Steps between two evaluations on validation faces; 0 means none.
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
    turned: Share = 0.0
    worn: Share = 0.0
    covered: Share = 0.0
    blurred: Share = 0.0
    box_scale: Annotated[float, Meta(ge=1)] = 1.0
    evaluate_every: Annotated[int, Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        # msgspec turns a ValueError raised here into its own error, with the place in the file.
        if not math.isclose(sum(self.people), 1, abs_tol=1e-8):
            raise ValueError(f"people {list(self.people)} sum to {sum(self.people):g}, expected 1")
        for name, (least, most) in (("face_share", self.face_share), ("aspect", self.aspect)):
            if least > most:
                raise ValueError(f"{name} {[least, most]}: expected the smallest first")


class Clips(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Contrastive pre-training on clips of video and the sentences spoken in them (paper Sec. 3.4 and 4).

    The defaults are the authors'.

    Attributes:
        epochs: Number of passes over the clips.
        batch: Clips per step and process.
        lr: Peak learning rate of matrices. At 1e-8 they hardly move: mostly gains and biases are tuned.
        vector_lr: Peak learning rate of everything else.
        head_lr: Peak learning rate of the temporal encoder's matrices; None means `lr`.
        head_vector_lr: Peak learning rate of everything else in the temporal encoder; None means `vector_lr`.
        scale_lr: Peak learning rate of the temperature's logarithm; None means `lr`.
        weight_decay: Weight decay of matrices.
        betas: Of AdamW.
        eps: Of AdamW.
        warmup: Steps in which the learning rate rises, from `warmup_start` times the peak to where the cosine
            is by then.
        warmup_start: See `warmup`.
        final_lr: Learning rate at the end of the cosine, which begins with the first step.
        epoch_steps: Whether the cosine falls once per epoch instead of at every step.
        clip_norm: Largest norm of the gradient; None means no clipping.
        beta: Strength of the sentiment guidance in the loss.
        kl_direction: Direction of the divergence between sentiments.
        skip_limit: Most clips that a run may skip because they cannot be read, even when tried again: those
            of all its processes and resumptions together.
    """

    epochs: Count = 25
    batch: Count = 128
    lr: Rate = 1e-8
    vector_lr: Rate = 5e-5
    head_lr: Rate | None = None
    head_vector_lr: Rate | None = None
    scale_lr: Rate | None = None
    weight_decay: Factor = 0.1
    betas: tuple[Decay, Decay] = (0.98, 0.9)
    eps: Rate = 1e-6
    warmup: Annotated[int, Meta(ge=0)] = 10_000
    warmup_start: Share = 1e-5
    final_lr: Factor = 1e-10
    epoch_steps: bool = True
    clip_norm: Rate | None = None
    beta: Factor = 10.0
    kl_direction: KLDirection = "official"
    skip_limit: Annotated[int, Meta(ge=0)] = 100
