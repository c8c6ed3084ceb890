"""The pages of `emotion-train reproduce`: our metrics with intervals, and the paper's numbers beside them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emotion_runtime.errors import EmotionError
from emotion_train.clips.jpeg import decode_jpeg
from emotion_train.clips.reader import ShardSet
from emotion_train.figures.attention_maps import AttentionMaps, PersonCrop, crop_person, person_attention
from emotion_train.figures.reweighting import BatchSource, draw_batch, reweight, reweighting_page
from emotion_train.model import EmotionCLIP
from emotion_train.plotting import BLUE, GREY, new_figure, style_axes, to_png
from emotion_train.probing.published import PAPER, SOURCE, published
from emotion_train.reproduce.training import RANKS
from emotion_train.tables import markdown_table

BOLD = ("val_categories map", "val_categories auc", "val_vad r2")
_PAPER_TABLE_2 = """| text (paper, Table 2) | logit |
|---|---|
| I'm sorry to keep you any longer than is necessary. **(positive sample)** | 10.65 |
| I'm sorry Tom couldn't join us. | 12.6 → -697 |
| I hate to say it guys but it's getting late. | 9.81 → -97.6 |
| I still say it was a wild idea. | 13.8 → 13.6 |
| Well, that was truly fascinating. | 15.2 → 15.0 |
"""
_FRAMES = 4
_HEADLINES = 3  # metrics of a data set other than BoLD, of which the headline metrics are the first


def comparison_page(title: str, facts: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return Markdown that compares variants: metrics with 95 % intervals, and the paper's on BoLD."""
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    shown = [name for name in BOLD if name in names] or names[:_HEADLINES]
    paper = any(row["paper"] for row in rows)
    cells = [
        [
            row["title"],
            *(cell(row["metrics"].get(name), row["intervals"].get(name)) for name in shown),
            *([" / ".join(f"{value:.4g}" for value in row["paper"]) or "-"] if paper else []),
        ]
        for row in rows
    ]
    header = ["", *shown, *(["paper, BoLD: mAP / AUC / R2"] if paper else [])]
    parts = [f"# {title}", facts, markdown_table(header, cells)]
    if any(row["held_out"] for row in rows):
        keys = ["loss", *(f"{way}_r@{k}" for way in ("video_to_text", "text_to_video") for k in RANKS)]
        held = [[row["title"], *(cell(row["held_out"].get(key), None) for key in keys)] for row in rows]
        clips = int(rows[0]["held_out"]["clips"])
        parts += [f"On {clips:,} clips that were held out:", markdown_table(["", *keys], held)]
    return "\n\n".join(parts) + "\n"


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
        names = [f"{name} {metric}" for name, metric in columns] or list(result["metrics"])
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
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    shown = [name for name in BOLD if name in names] or names[:_HEADLINES]
    figure = new_figure(max(3.6 * len(shown), 4.0), 3.4, title)
    for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for place, row in enumerate(rows):
            value, interval = row["metrics"].get(name), row["intervals"].get(name)
            if value is not None:
                axes.plot(place, value, marker="o", color=BLUE)
            if interval:
                axes.plot([place, place], interval, color=GREY, linewidth=1.6)
        style_axes(axes, name)
        axes.set(xlabel="beta", xticks=range(len(rows)), xticklabels=[f"{beta:g}" for beta in betas])
    return to_png(figure)


def reweighting(model: EmotionCLIP, shards: Path, facts: str) -> str:
    """Return Markdown of what the loss does to the logits of a clip, beside the paper's Table 2."""
    batch = min(32, len(ShardSet.open(str(shards))))
    pairs = draw_batch(model, BatchSource(str(shards), batch, 0, "linear", 0.5))
    drawn = reweight(model, pairs, beta=10.0, kl_direction="official")
    return reweighting_page(drawn, 0, min(5, batch), facts) + "\n" + _PAPER_TABLE_2


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


def shares_on_person(frames: Sequence[tuple[PersonCrop, AttentionMaps]]) -> Tensor:
    """Return the fraction of the hmn token's attention to patches that is on the person, (frames, layers)."""
    shares = []
    for person, maps in frames:
        weights = torch.from_numpy(person.patch_weights)
        on_patches = maps.hmn[:, 0].mean(1)[:, : len(weights)]
        shares.append((on_patches @ weights) / on_patches.sum(1))
    return torch.stack(shares)
