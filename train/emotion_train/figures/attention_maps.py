"""Where the frame encoder looks for a person, block by block (paper Fig. 5).

The weights are those that the model uses, subject bias and shift included, computed again from the queries
and keys that its attention is given. Shapes: P persons, G patches.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec, Window, crop
from emotion_runtime.subject import plan_crops
from emotion_runtime.types import Box
from emotion_train.model import EmotionCLIP
from emotion_train.model.attention import Attention, Block, attention_shift
from emotion_train.model.normalise import normalise

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GREY, BOX = "#1b2a38", "#8a949e", "#ff4d4d"
_PANEL = 1.75  # inches


@dataclass(frozen=True, slots=True)
class AttentionMaps:
    """Attention of a person's own two tokens. The keys of a row are [patches, cls, hmn], and it sums to 1.

    cls: (layers, P, heads, G + 2) float32. hmn: (layers - 1, P, heads, G + 2): of the last block nothing but
    the cls row is computed, since nothing else is read.
    """

    hmn: Tensor
    cls: Tensor


@torch.no_grad()
def hmn_attention(
    model: EmotionCLIP, images: Tensor, frame_index: Tensor, patch_weights: Tensor
) -> AttentionMaps:
    """Attention of the hmn and the cls token of each person; arguments as in `EmotionCLIP.encode_people`.

    Raises:
        EmotionError: the model has no hmn token, or one block, in which the token looks at nothing.

    """
    subject, layers = model.config.subject, model.config.vision_layers
    if subject == "none":
        raise EmotionError(
            'the model has subject "none", so it has no hmn token: expected one of sap, saam, shared'
        )
    if layers < 2:
        raise EmotionError(
            "the frame encoder has 1 layer, whose hmn row is never computed: expected 2 or more"
        )
    with _recorded(model.backbone.visual.transformer.blocks()) as recorded:
        model.encode_people(images, frame_index, patch_weights)
    patches = patch_weights.shape[1]
    # Where patches are a stream of their own, they see each other only: rows over G keys, nobody's.
    own = [rows for rows in recorded if rows.shape[-1] == patches + 2]
    if subject != "shared":  # whose keys are in this order already
        own = [torch.cat([r[..., 1:-1], r[..., :1], r[..., -1:]], dim=-1) for r in own]  # [cls, patches, hmn]
    return AttentionMaps(
        torch.stack([rows[:, :, -1] for rows in own[:-1]]).float(),
        torch.stack([rows[:, :, 0] for rows in own]).float(),
    )


def attention_weights(attention: Attention, query: Tensor, key: Tensor, subject: Tensor | None) -> Tensor:
    """(N, heads, Lq, Lk), the weights with which `attention.attend` sums up the values; rows sum to 1.

    Arguments are as there.
    """
    logits = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    if subject is not None and attention.subject_gain is not None:
        logits = logits + attention.subject_gain.view(-1, 1, 1) * subject
    weights: Tensor = logits.softmax(-1)
    if subject is not None and attention.subject_shift is not None:
        weights = weights + attention_shift(query, key, subject, attention.subject_shift.sigmoid())
    return weights


@contextmanager
def _recorded(blocks: Sequence[Block]) -> Iterator[list[Tensor]]:
    """The weights of every call of the blocks' `attend`, in order."""
    calls: list[Tensor] = []
    for block in blocks:
        # No hook sees `attend`, which is no forward; the instance's attribute hides the class's method.
        replaced = partial(_attend, block.attn, block.attn.attend, calls)
        block.attn.attend = replaced  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        for block in blocks:
            del block.attn.attend


def _attend(
    attention: Attention,
    attend: Callable[..., Tensor],
    calls: list[Tensor],
    *projected: Tensor,
    subject: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    query, key, _ = projected
    calls.append(attention_weights(attention, query, key, subject))
    return attend(*projected, subject=subject, causal=causal)


@dataclass(frozen=True, slots=True)
class PersonCrop:
    """What the encoder is given of a person in a picture.

    image: (S, S, 3) uint8 RGB. patch_weights: (G,) float32. box: (x1, y1, x2, y2) in pixels of the image.
    """

    image: NDArray[np.uint8]
    patch_weights: NDArray[np.float32]
    box: Box


def crop_person(picture: NDArray[np.uint8], box: Box, spec: PreprocessSpec) -> PersonCrop:
    """The person's window, as the runtime cuts it. picture: (H, W, 3) uint8 RGB. box: in its pixels.

    Raises:
        EmotionError: the box is none, or nothing of it is in the window.

    """
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = box
    if not (x1 < x2 and y1 < y2):
        raise EmotionError(f"box {_numbers(box)}: expected x1 < x2 and y1 < y2, pixels of the picture")
    subjects = plan_crops([box], height, width, spec)
    weights, window = subjects.patch_weights[0], subjects.windows[0]
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height or not weights.any():
        raise EmotionError(
            f"box {_numbers(box)} lies outside of what the model sees of the {width} x {height} picture, "
            f"{_numbers(window.source)}: give a box in there, or cut the picture around the person"
        )
    return PersonCrop(crop(picture, window, spec), weights, _in_window(box, window))


def _in_window(box: Box, window: Window) -> Box:
    left, top, scale = window.left, window.top, window.scale
    return (box[0] * scale - left, box[1] * scale - top, box[2] * scale - left, box[3] * scale - top)


def _numbers(box: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in box)


def person_attention(model: EmotionCLIP, person: PersonCrop) -> AttentionMaps:
    """`hmn_attention` of one person, P = 1."""
    image = normalise(torch.tensor(person.image)[None], model.config.preprocess)
    index = torch.zeros(1, dtype=torch.int64)
    return hmn_attention(model, image, index, torch.from_numpy(person.patch_weights)[None])


def attention_png(person: PersonCrop, maps: AttentionMaps, title: str, *, heads: bool = False) -> bytes:
    """A panel a block: the hmn token in the first row, cls below; with `heads`, so for every head.

    Each panel has its own scale, from 0 to its largest weight. Under it: the share of the row's attention
    that falls on patches (the rest is on cls and hmn), and the share of that which falls on the person.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    rows = [
        (f"{token}, head {head + 1}", weights[:, 0, head])
        for token, weights in (("hmn", maps.hmn), ("cls", maps.cls))
        for head in range(weights.shape[2])
    ]
    if not heads:
        rows = [("hmn", maps.hmn[:, 0].mean(1)), ("cls", maps.cls[:, 0].mean(1))]
    layers = maps.cls.shape[0]
    figure = Figure(
        figsize=(_PANEL * (layers + 1) + 0.3, (_PANEL + 0.42) * len(rows) + 0.9), layout="constrained"
    )
    grid = figure.subplots(len(rows), layers + 1, squeeze=False)
    for number, (name, weights) in enumerate(rows):
        _picture(grid[number][0], person)
        grid[number][0].set_ylabel(name, fontsize=10, color=INK)
        for layer, axes in enumerate(grid[number][1:]):
            if layer < len(weights):
                _panel(axes, person, weights[layer].numpy())
            else:
                axes.set_axis_off()
                axes.set_box_aspect(1)
            if number == 0:
                axes.set_title(f"layer {layer + 1}", fontsize=10, color=INK)
    grid[0][-1].text(
        0.5, 0.5, "of the last layer\nonly the cls row\nis computed", ha="center", va="center",
        fontsize=8, color=GREY, transform=grid[0][-1].transAxes,
    )  # fmt: skip
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    note = "each panel from 0 (dark) to its largest weight; the box covers"
    covered = 100 * float(person.patch_weights.mean())
    figure.supxlabel(
        f"{note} {covered:.0f} % of what the model sees", x=0.01, ha="left", fontsize=8, color=GREY
    )
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=140, metadata={"Software": None})
    return out.getvalue()


def attention_fractions(
    weights: NDArray[np.float32], patch_weights: NDArray[np.float32]
) -> tuple[float, float]:
    """Of a row (G + 2,): the share of it on patches, and the share of that on the person."""
    on_patches = weights[: len(patch_weights)]
    total = float(on_patches.sum())
    return total, float(on_patches @ patch_weights) / total


def _panel(axes: "Axes", person: PersonCrop, weights: NDArray[np.float32]) -> None:
    side = round(len(person.patch_weights) ** 0.5)
    size = person.image.shape[0]
    grey = person.image.mean(axis=2)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
    axes.imshow(
        weights[: side * side].reshape(side, side),
        cmap="viridis", alpha=0.62, vmin=0, extent=(-0.5, size - 0.5, size - 0.5, -0.5),
    )  # fmt: skip
    _frame(axes, person)
    on_patches, on_person = attention_fractions(weights, person.patch_weights)
    axes.set_xlabel(f"patches {100 * on_patches:.0f} %\nof it person {100 * on_person:.0f} %", fontsize=7)


def _picture(axes: "Axes", person: PersonCrop) -> None:
    axes.imshow(person.image)
    _frame(axes, person)


def _frame(axes: "Axes", person: PersonCrop) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - slow to import

    x1, y1, x2, y2 = person.box
    axes.add_patch(
        Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=BOX, linewidth=1.6)
    )
    axes.set(
        xticks=[],
        yticks=[],
        xlim=(-0.5, person.image.shape[1] - 0.5),
        ylim=(person.image.shape[0] - 0.5, -0.5),
    )
    axes.spines[:].set_visible(False)
