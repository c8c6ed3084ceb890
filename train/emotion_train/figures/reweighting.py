"""Show what the sentiment-guided loss does to the logits of one clip (paper Table 2).

False negatives, which are sentences of a similar sentiment, should drop out of the clip's softmax; true
negatives should stay unchanged.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_train.batch import ClipTextBatch
from emotion_train.clips.reader import ShardSet
from emotion_train.language.labels import EKMAN
from emotion_train.losses import KLDirection, negative_weights
from emotion_train.model import EmotionCLIP
from emotion_train.plotting import GREEN, GREY, INK, new_figure, style_axes, to_png
from emotion_train.scenes.faces import FACES_FILE
from emotion_train.scenes.training_data import load_scene_data
from emotion_train.tables import markdown_table
from emotion_train.training.objective import ContrastiveObjective, Encoded, Execution
from emotion_train.training.stage_config import Clips, Scenes
from emotion_train.training.stages import clip_stage, scene_stage

_SPACE_TOO_MANY = re.compile(r" (?=[.,!?;:')])")  # the tokenizer puts a space before punctuation
STRONG, FAINT = 10.0, 0.5  # changes of a logit that remove a sentence from a softmax, or hardly affect it
REMOVED = 1e6  # a change that is infinite but for rounding: the sentiments are the same


@dataclass(frozen=True, slots=True)
class ReweightedBatch:
    """A batch with its logits and the weights of the loss.

    Attributes:
        pairs: Clips and sentences, with tokens as text.
        logits: (B, B) float32, clips by sentences, scaled by 1/tau.
        weights: (B, B) float32 in [0, inf], which the loss subtracts from the logits.
    """

    pairs: ClipTextBatch
    logits: Tensor
    weights: Tensor


@dataclass(frozen=True, slots=True)
class BatchSource:
    """Where a batch comes from.

    Attributes:
        data: Folder with faces and sentences for scenes, or folder or URL of shards.
        batch: Number of scenes or clips.
        seed: Of the batch.
        sentiment: For scenes, as in `PretrainConfig`; shards contain sentiment logits.
        sentence_confidence: For scenes, as in `Scenes`.
    """

    data: str
    batch: int
    seed: int
    sentiment: str
    sentence_confidence: float


def draw_batch(model: EmotionCLIP, source: BatchSource) -> ClipTextBatch:
    """Return the first batch that pre-training would draw, with sentences as tokens.

    Raises:
        EmotionError: The data cannot be used.
    """
    execution, seed = Execution(), source.seed
    if (Path(source.data) / FACES_FILE).is_file():
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
    """Compute the logits of a batch and the weights that the loss subtracts; raises as the loss does."""
    encoder = Execution().encoder(model).eval()
    encoded: Encoded = encoder(pairs.images, pairs.clip_index, pairs.patch_weights, pairs.text)
    weights = negative_weights(pairs.sentiment, beta=beta, kl_direction=kl_direction)
    return ReweightedBatch(pairs, encoded.scale * encoded.video @ encoded.text.T, weights)


def choose_rows(weights: Tensor, positive: int, rows: int) -> list[int]:
    """Choose sentences to show: the positive, then the most and the least suppressed in equal numbers.

    Args:
        weights: (B,), the row of the positive.
        positive: Index of the positive.
        rows: Number of sentences.

    Returns:
        Indices, sorted by falling weight after the positive.
    """
    order = [index for index in weights.argsort(descending=True, stable=True).tolist() if index != positive]
    if len(order) > rows - 1:
        most = rows // 2
        order = order[:most] + order[len(order) - (rows - 1 - most) :]
    return [positive, *order]


def reweighting_page(drawn: ReweightedBatch, positive: int, rows: int, facts: str) -> str:
    """Return Markdown with the table, and how much of the whole batch is suppressed.

    Args:
        drawn: The batch.
        positive: Index of the clip.
        rows: Number of sentences in the table.
        facts: One line on the origin of the batch.

    Raises:
        EmotionError: There is no such clip, or `rows` is less than 2.
    """
    batch = len(drawn.pairs)
    if not 0 <= positive < batch:
        raise EmotionError(
            f"--positive {positive}: expected 0 to {batch - 1}, the index of a clip in the batch"
        )
    if rows < 2:
        raise EmotionError(f"--rows {rows}: expected 2 or more, the positive and at least one other")
    cells = []
    for index in choose_rows(drawn.weights[positive], positive, rows):
        logit, weight = float(drawn.logits[positive, index]), float(drawn.weights[positive, index])
        text, change = decode_sentence(drawn.pairs.text[index]), format_logit(logit)
        if index == positive:
            text += " **(positive sample)**"
        else:
            change += f" → {format_logit(logit - weight)}"
        cells.append((text, _top_sentiment(drawn.pairs.sentiment[index]), change))
    title = "# Logits of a clip before and after sentiment-guided reweighting"
    table = markdown_table(("text", "sentiment", "logit"), cells)
    return "\n".join([title, "", facts, "", table, "", _summary(drawn.weights), ""])


def reweighting_png(drawn: ReweightedBatch, positive: int, rows: int, title: str) -> bytes:
    """Draw the logits of a clip's sentences before and after the reweighting as PNG (paper Fig. 4).

    Bars begin at or below the smallest logit before; a logit after that is lower has none.
    """
    chosen = choose_rows(drawn.weights[positive], positive, rows)[::-1]  # barh draws upwards
    before = drawn.logits[positive, chosen]
    after = before - drawn.weights[positive, chosen]
    span = float(before.max() - before.min()) or 1.0
    least = min(0.0, float(before.min()) - 0.05 * span)  # so that every bar before is seen
    figure = new_figure(9.0, 0.5 * len(chosen) + 1.3, title)
    axes = figure.subplots()
    places = np.arange(len(chosen))
    for logits, offset, color, label in (
        (before, 0.2, GREEN, "before reweighting"),
        (after, -0.2, GREY, "after reweighting"),
    ):
        widths = logits.clamp(min=least) - least
        axes.barh(places + offset, widths.numpy(), 0.38, left=least, color=color, label=label)
    for place, logit in enumerate(after.tolist()):
        text = f" {format_logit(logit)}"
        axes.text(max(logit, least), place - 0.2, text, va="center", fontsize=8, color=INK)
    style_axes(axes)
    axes.grid(visible=False, axis="y")
    sentences = [fill(decode_sentence(drawn.pairs.text[index]), 44, max_lines=2) for index in chosen]
    axes.set_yticks(places, sentences, color=INK)
    axes.get_yticklabels()[-1].set_color(GREEN)  # the positive
    axes.set_xlabel("logit (similarity to the clip / tau); the positive sentence is on top", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return to_png(figure)


def decode_sentence(tokens: Tensor) -> str:
    """Decode tokens (77,) int64 to the text that the encoder reads: lower case, truncated if too long."""
    from open_clip.tokenizer import SimpleTokenizer  # noqa: PLC0415  (seconds to import)

    inside = tokens[1 : int(tokens.argmax())].tolist()  # the end token has the largest id
    return _SPACE_TOO_MANY.sub("", SimpleTokenizer().decode(inside).strip())


def format_logit(logit: float) -> str:
    """Write a logit with three digits, or that the sentence was removed from the softmax."""
    if logit < -REMOVED:
        return "removed"
    return f"{logit:.3g}" if abs(logit) < 1000 else f"{logit:.0f}"


def _top_sentiment(sentiment: Tensor) -> str:
    probability, label = F.softmax(sentiment, dim=-1).max(dim=-1)
    return f"{EKMAN[int(label)]} {100 * float(probability):.0f} %"


def _summary(weights: Tensor) -> str:
    others = weights[~torch.eye(len(weights), dtype=torch.bool)]
    removed, strong, faint = (
        100 * float(pairs.float().mean()) for pairs in (others > REMOVED, others > STRONG, others < FAINT)
    )
    return (
        f"Of the {len(others):,} negative pairs of the batch {removed:.1f} % are removed and {strong:.1f} % "
        f"lose more than {STRONG:g} (the removed among them); {faint:.1f} % lose less than {FAINT:g}."
    )
