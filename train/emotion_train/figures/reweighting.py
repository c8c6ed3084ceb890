"""What the sentiment-guided loss does to the logits of one clip (paper Table 2).

False negatives, sentences that feel like the clip's own, should drop out of its softmax; true negatives
should stay as they are.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_train.batch import ClipTextBatch
from emotion_train.clips.reader import ShardSet
from emotion_train.language.labels import EKMAN
from emotion_train.losses import KLDirection, negative_weights
from emotion_train.model import EmotionCLIP
from emotion_train.scenes.training_data import load_scene_data
from emotion_train.training.config import Clips, Scenes
from emotion_train.training.objective import ContrastiveObjective, Encoded, Execution
from emotion_train.training.stages import clip_stage, scene_stage

_SPACE_TOO_MANY = re.compile(r" (?=[.,!?;:')])")  # the tokenizer puts one before every mark
STRONG, FAINT = 10.0, 0.5  # logits; a softmax loses e^-10 of a sentence, or hardly notices


@dataclass(frozen=True, slots=True)
class ReweightedBatch:
    """A batch, and what the loss makes of it.

    pairs: with tokens as text. logits: (B, B) float32, clips by sentences, scaled by 1/tau. weights: (B, B)
    float32 in [0, inf], subtracted from them.
    """

    pairs: ClipTextBatch
    logits: Tensor
    weights: Tensor


@dataclass(frozen=True, slots=True)
class BatchSource:
    """Where a batch comes from.

    data: folder of scenes' faces and sentences, or folder or URL of shards. batch: scenes, or clips.
    sentiment, sentence_confidence: of scenes, as in `PretrainConfig` and `Scenes`; shards carry their own.
    """

    data: str
    batch: int
    seed: int
    sentiment: str
    sentence_confidence: float


def draw_batch(model: EmotionCLIP, source: BatchSource) -> ClipTextBatch:
    """The first batch that pre-training would draw, sentences as tokens.

    Raises:
        EmotionError: the data cannot be used.

    """
    execution, seed = Execution(), source.seed
    if (Path(source.data) / "data" / "fer2013.npz").is_file():
        scenes = load_scene_data(Path(source.data), source.sentiment)
        settings = Scenes(
            steps=1,
            scenes_per_batch=source.batch,
            sentence_confidence=source.sentence_confidence,
            train_text=True,  # so that sentences stay tokens
        )
        stage = scene_stage(model, scenes, settings, seed=seed, execution=execution)
    else:
        shards = ShardSet.open(source.data)
        stage = clip_stage(model, shards, Clips(batch=source.batch, warmup=0), seed=seed, execution=execution)
    if not isinstance(stage.objective, ContrastiveObjective):
        raise TypeError(f"stage {stage.name} is not contrastive")
    batch: ClipTextBatch = stage.batches[0]
    return batch


@torch.no_grad()
def reweight(
    model: EmotionCLIP, pairs: ClipTextBatch, *, beta: float, kl_direction: KLDirection
) -> ReweightedBatch:
    """Logits of a batch under the model and the weights that the loss subtracts; raises as the loss does."""
    encoder = Execution().encoder(model).eval()
    encoded: Encoded = encoder(pairs.images, pairs.clip_index, pairs.patch_weights, pairs.text)
    weights = negative_weights(pairs.sentiment, beta=beta, kl_direction=kl_direction)
    return ReweightedBatch(pairs, encoded.scale * encoded.video @ encoded.text.T, weights)


def choose_rows(weights: Tensor, positive: int, rows: int) -> list[int]:
    """The positive, then `rows` - 1 others: half of them the most suppressed, half the least, in that order.

    weights: (B,) of the positive's row.
    """
    order = [
        number for number in weights.argsort(descending=True, stable=True).tolist() if number != positive
    ]
    if len(order) > rows - 1:
        most = rows // 2
        order = order[:most] + order[len(order) - (rows - 1 - most) :]
    return [positive, *order]


def reweighting_page(drawn: ReweightedBatch, positive: int, rows: int, facts: str) -> str:
    """Markdown: the table, and how much of the whole batch is suppressed. facts: one line on its origin.

    Raises:
        EmotionError: there is no such clip, or fewer than 2 rows are asked for.

    """
    batch = len(drawn.pairs)
    if not 0 <= positive < batch:
        raise EmotionError(f"--positive {positive}: expected 0 to {batch - 1}, the clips of the batch")
    if rows < 2:
        raise EmotionError(f"--rows {rows}: expected 2 or more, the positive and others")
    lines = ["# Logits of a clip before and after sentiment-guided reweighting", "", facts, ""]
    lines += ["| text | sentiment | logit |", "|---|---|---|"]
    for number in choose_rows(drawn.weights[positive], positive, rows):
        logit, weight = float(drawn.logits[positive, number]), float(drawn.weights[positive, number])
        own = number == positive
        text = decode_sentence(drawn.pairs.text[number]).replace("|", "\\|")
        moved = format_logit(logit) if own else f"{format_logit(logit)} → {format_logit(logit - weight)}"
        name = f"{text} **(positive sample)**" if own else text
        lines.append(f"| {name} | {_feeling(drawn.pairs.sentiment[number])} | {moved} |")
    return "\n".join([*lines, "", _summary(drawn.weights), ""])


def decode_sentence(tokens: Tensor) -> str:
    """What the text encoder reads, in lower case and cut where it is too long. tokens: (77,) int64."""
    from open_clip.tokenizer import SimpleTokenizer  # noqa: PLC0415  (seconds to import)

    inside = tokens[1 : int(tokens.argmax())].tolist()  # the end token has the largest number
    return _SPACE_TOO_MANY.sub("", SimpleTokenizer().decode(inside).strip())


def format_logit(logit: float) -> str:
    """Three digits; a logit from which infinity was subtracted is removed from the softmax."""
    if logit == -torch.inf:
        return "removed"
    return f"{logit:.3g}" if abs(logit) < 1000 else f"{logit:.0f}"


def _feeling(sentiment: Tensor) -> str:
    probability, label = F.softmax(sentiment, dim=-1).max(dim=-1)
    return f"{EKMAN[int(label)]} {100 * float(probability):.0f} %"


def _summary(weights: Tensor) -> str:
    others = weights[~torch.eye(len(weights), dtype=torch.bool)]
    removed, strong, faint = (
        100 * float(share.float().mean()) for share in (others.isinf(), others > STRONG, others < FAINT)
    )
    return (
        f"Of the {len(others):,} negative pairs of the batch {removed:.1f} % are removed and {strong:.1f} % "
        f"lose more than {STRONG:g} (the removed among them); {faint:.1f} % lose less than {FAINT:g}."
    )
