"""The pages of `emotion-train reproduce`: our metrics with intervals, and the paper's numbers beside them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from emotion_runtime.errors import EmotionError
from emotion_train.clips.jpeg import decode_jpeg
from emotion_train.clips.reader import ShardSet
from emotion_train.figures.attention_maps import (
    AttentionMaps,
    PersonCrop,
    attention_fractions,
    crop_person,
    person_attention,
)
from emotion_train.figures.reweighting import (
    BatchSource,
    ReweightedBatch,
    draw_batch,
    reweight,
    reweighting_page,
    reweighting_png,
)
from emotion_train.model import EmotionCLIP
from emotion_train.plotting import BLUE, new_figure, plot_intervals, style_axes, to_png
from emotion_train.probing.published import PAPER, SOURCE, published
from emotion_train.reproduce.training import RANKS
from emotion_train.tables import markdown_table

BOLD = {"val_categories map": "mAP", "val_categories auc": "AUC", "val_vad r2": "R2"}  # in the paper's order
_PAPER_TABLE_2 = """| text (paper, Table 2) | logit |
|---|---|
| I'm sorry to keep you any longer than is necessary. **(positive sample)** | 10.65 |
| I'm sorry Tom couldn't join us. | 12.6 → -697 |
| I hate to say it guys but it's getting late. | 9.81 → -97.6 |
| I still say it was a wild idea. | 13.8 → 13.6 |
| Well, that was truly fascinating. | 15.2 → 15.0 |
"""
_FRAMES = 4
_SENTENCES = 5
_HEADLINES = 3  # metrics of a data set other than BoLD, of which the headline metrics are the first


def comparison_page(title: str, facts: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return Markdown that compares variants: metrics with 95 % intervals, and the paper's on BoLD."""
    shown = _headline(dict.fromkeys(name for row in rows for name in row["metrics"]))
    stated = range(max(len(row["paper"]) for row in rows))
    cells = [
        [
            row["title"],
            *(cell(row["metrics"].get(name), row["intervals"].get(name)) for name in shown),
            *(f"{row['paper'][i]:.4g}" if i < len(row["paper"]) else "-" for i in stated),
        ]
        for row in rows
    ]
    paper = [f"{name}, paper (BoLD)" for name in list(BOLD.values())[: len(stated)]]
    header = ["", *(BOLD.get(name, name) for name in shown), *paper]
    parts = [f"# {title}", facts, markdown_table(header, cells)]
    if any(row["held_out"] for row in rows):
        keys = ["loss", *(f"{way}_r@{k}" for way in ("video_to_text", "text_to_video") for k in RANKS)]
        held = [[row["title"], *(cell(row["held_out"].get(key), None) for key in keys)] for row in rows]
        clips = int(rows[0]["held_out"]["clips"])
        names = ["InfoNCE loss", *(key.replace("_r@", " R@").replace("_", " ") for key in keys[1:])]
        parts += [f"On {clips:,} clips that were held out:", markdown_table(["", *names], held)]
    return "\n\n".join(parts) + "\n"


def _headline(names: Iterable[str]) -> list[str]:
    """Return the metrics that are shown: those of the paper on BoLD, or the first, of the whole set."""
    names = list(names)
    return [name for name in BOLD if name in names] or names[:_HEADLINES]


def cell(value: float | None, interval: Sequence[float] | None) -> str:
    """Write a metric with its interval: "0.225 (0.219 to 0.231)"."""
    if value is None:
        return "-"
    ends = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    return f"{value:.3f}{ends}"


def published_page(title: str, facts: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return Markdown with a part for each data set: ours, and all methods of the paper's Table 4."""
    parts = [f"# {title}", facts]
    for dataset, result in found.items():
        rows = published(dataset)
        columns = list(dict.fromkeys(column for row in rows for column in row.metrics))
        names = [f"{name} {metric}" for name, metric in columns] or _headline(result["metrics"])
        ours = [cell(result["metrics"].get(name), result["intervals"].get(name)) for name in names]
        cells = [["this model", "linear", *ours]]
        for row in rows:
            values = [f"{row.metrics[c]:.3f}" if c in row.metrics else "-" for c in columns]
            name = f"**{row.method}**" if row.method == PAPER else row.method
            cells.append(
                [name + (" (with sound or text)" if row.multimodal else ""), row.evaluation, *values]
            )
        source = f"Other rows: {SOURCE}." if rows else "The paper has no such data set."
        parts += [f"## {dataset}", source, markdown_table(["", "evaluation", *names], cells)]
    return "\n\n".join(parts) + "\n"


def sweep_png(rows: Sequence[Mapping[str, Any]], betas: Sequence[float], title: str) -> bytes:
    """Draw the headline metrics over beta with their intervals as PNG (paper Fig. 6)."""
    shown = _headline(dict.fromkeys(name for row in rows for name in row["metrics"]))
    figure = new_figure(max(3.6 * len(shown), 4.0), 3.4, title)
    for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for place, row in enumerate(rows):
            value = row["metrics"].get(name)
            if value is not None:
                low, high = row["intervals"].get(name, (value, value))
                plot_intervals(axes, [place], [(value, low, high)], BLUE, "")
        style_axes(axes, BOLD.get(name, name))
        labels = [f"{beta:g}" + ("\nInfoNCE" if beta == 0 else "") for beta in betas]
        axes.set(xlabel="beta", xticks=range(len(rows)), xticklabels=labels)
        axes.set_xlim(-0.5, len(rows) - 0.5)
    return to_png(figure)


def reweighted_batch(model: EmotionCLIP, shards: Path) -> ReweightedBatch:
    """Return the first batch that training would draw, with the logits and the weights of the loss."""
    batch = min(32, len(ShardSet.open(str(shards))))
    pairs = draw_batch(model, BatchSource(str(shards), batch, 0, "linear", 0.5))
    return reweight(model, pairs, beta=10.0, kl_direction="official")


def reweighting(drawn: ReweightedBatch, facts: str) -> str:
    """Return Markdown of what the loss does to the logits of a clip, beside the paper's Table 2."""
    rows = min(_SENTENCES, len(drawn.pairs))
    return reweighting_page(drawn, 0, rows, facts) + "\n" + _PAPER_TABLE_2


def reweighting_bars(drawn: ReweightedBatch) -> bytes:
    """Draw the same for more sentences as PNG (paper Fig. 4)."""
    return reweighting_png(drawn, 0, 2 * _SENTENCES, "Fig. 4: logits of a clip before and after reweighting")


def attention_of_clip(model: EmotionCLIP, shards: Path) -> list[tuple[PersonCrop, AttentionMaps]]:
    """Return a few frames of the first clip that shows somebody, with the attention of that person's token.

    Raises:
        EmotionError: No clip shows anybody in the part that the model sees.
    """
    opened = ShardSet.open(str(shards))
    model = model.to(torch.device("cpu"))
    for clip in range(len(opened)):
        record, jpegs = opened.read(clip)
        found: list[tuple[PersonCrop, AttentionMaps]] = []
        for jpeg, boxes in zip(jpegs, record.boxes, strict=True):
            person = _person(decode_jpeg(jpeg), boxes, model) if boxes and len(found) < _FRAMES else None
            if person is not None:
                found.append((person, person_attention(model, person)))
        if found:
            return found
    raise EmotionError(f"{shards}: no clip shows a person; prepare the data with another --detector")


def _person(image: Any, boxes: Sequence[Sequence[float]], model: EmotionCLIP) -> PersonCrop | None:
    x1, y1, x2, y2, _ = max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    try:
        return crop_person(image, (x1, y1, x2, y2), model.config.preprocess)
    except EmotionError:  # the box is outside the centre crop
        return None


def attention_page(frames: Sequence[tuple[PersonCrop, AttentionMaps]], facts: str) -> str:
    """Return Markdown with the fraction of the hmn token's attention to patches that is on the person."""
    shares = [
        [attention_fractions(row.numpy(), person.patch_weights)[1] for row in maps.hmn[:, 0].mean(1)]
        for person, maps in frames
    ]
    header = ["frame", *(f"layer {layer + 1}" for layer in range(len(shares[0])))]
    cells = [[str(index + 1), *(f"{share:.3f}" for share in row)] for index, row in enumerate(shares)]
    text = (
        "Fraction of the hmn token's attention to patches that is on the person; the paper shows images only."
    )
    return f"# Fig. 5: attention of the hmn token\n\n{facts}\n\n{text}\n\n{markdown_table(header, cells)}\n"
