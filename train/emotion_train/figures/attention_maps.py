"""Draw where the frame encoder looks for a person, block by block (paper Fig. 5).

The weights are those that the model uses, including subject bias and shift. Shapes: P people, G patches.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from emotion_train.model.encode import normalise
from emotion_train.model.transformer import Block
from emotion_train.plotting import GREY, INK, new_figure, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BOX = "#ff4d4d"  # bright enough to be seen on any image
_PANEL = 1.75  # inches


@dataclass(frozen=True, slots=True)
class AttentionMaps:
    """Attention of each person's own two tokens. The keys of a row are [patches, cls, hmn]; it sums to 1.

    Attributes:
        hmn: (layers - 1, P, heads, G + 2) float32. In the last block only the cls row is computed.
        cls: (layers, P, heads, G + 2) float32.
    """

    hmn: Tensor
    cls: Tensor


@torch.no_grad()
def hmn_attention(
    model: EmotionCLIP, images: Tensor, frame_index: Tensor, patch_weights: Tensor
) -> AttentionMaps:
    """Return the attention of the hmn and the cls token of each person.

    Args:
        model: The model.
        images: As in `EmotionCLIP.encode_people`.
        frame_index: As in `EmotionCLIP.encode_people`.
        patch_weights: As in `EmotionCLIP.encode_people`.

    Raises:
        EmotionError: The model has no hmn token, or only one block, in which the hmn row is not computed.
    """
    subject, layers = model.config.subject, model.config.vision_layers
    if subject == "none":
        raise EmotionError(
            'the model has subject "none", so it has no hmn token: expected one of sap, saam, shared'
        )
    if layers < 2:
        raise EmotionError(
            "the frame encoder has 1 layer, in which the hmn row is not computed: expected 2 or more"
        )
    with _recorded(model.backbone.visual.transformer.blocks()) as recorded:
        model.encode_people(images, frame_index, patch_weights)
    patches = patch_weights.shape[1]
    # Patches that are a stream of their own only see each other: their rows over G keys belong to no person.
    person_rows = [rows for rows in recorded if rows.shape[-1] == patches + 2]
    if subject != "shared":  # its keys already have this order
        person_rows = [
            torch.cat([r[..., 1:-1], r[..., :1], r[..., -1:]], dim=-1) for r in person_rows
        ]  # [cls, patches, hmn]
    return AttentionMaps(
        torch.stack([rows[:, :, -1] for rows in person_rows[:-1]]).float(),
        torch.stack([rows[:, :, 0] for rows in person_rows]).float(),
    )


@contextmanager
def _recorded(blocks: Sequence[Block]) -> Iterator[list[Tensor]]:
    """Record the attention weights of every call of the blocks, in order."""
    recorded: list[Tensor] = []
    for block in blocks:
        block.attn.weights_hook = recorded.append
    try:
        yield recorded
    finally:
        for block in blocks:
            block.attn.weights_hook = None


@dataclass(frozen=True, slots=True)
class PersonCrop:
    """The encoder's input for one person.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        patch_weights: (G,) float32.
        box: (x1, y1, x2, y2) in pixels of `image`.
    """

    image: NDArray[np.uint8]
    patch_weights: NDArray[np.float32]
    box: Box


def crop_person(image: NDArray[np.uint8], box: Box, spec: PreprocessSpec) -> PersonCrop:
    """Crop a person as the runtime does.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: Of the person, in pixels of the image.
        spec: How the model's images are preprocessed.

    Raises:
        EmotionError: The box is empty, or no part of it lies in the crop.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    if not (x1 < x2 and y1 < y2):
        raise EmotionError(f"box {_numbers(box)}: expected x1 < x2 and y1 < y2, in pixels of the image")
    subjects = plan_crops([box], height, width, spec)
    weights, window = subjects.patch_weights[0], subjects.windows[0]
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height or not weights.any():
        raise EmotionError(
            f"box {_numbers(box)} lies outside the part of the {width} x {height} image that the model sees, "
            f"{_numbers(window.source)}: give a box inside it, or crop the image around the person"
        )
    return PersonCrop(crop(image, window, spec), weights, _in_window(box, window))


def _in_window(box: Box, window: Window) -> Box:
    left, top, scale = window.left, window.top, window.scale
    return (box[0] * scale - left, box[1] * scale - top, box[2] * scale - left, box[3] * scale - top)


def _numbers(box: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in box)


def person_attention(model: EmotionCLIP, person: PersonCrop) -> AttentionMaps:
    """Return the attention maps of one person (P = 1)."""
    image = normalise(torch.tensor(person.image)[None], model.config.preprocess)
    index = torch.zeros(1, dtype=torch.int64)
    return hmn_attention(model, image, index, torch.from_numpy(person.patch_weights)[None])


def attention_png(person: PersonCrop, maps: AttentionMaps, title: str, *, heads: bool = False) -> bytes:
    """Draw the attention of a person's tokens as PNG, one panel per block.

    Args:
        person: The crop that the maps belong to.
        maps: Of this person alone.
        title: Printed above the panels.
        heads: Draw a row for every head, not only the mean over heads. The rows of hmn are above those of
            cls.
    """
    rows = [
        (f"{token}, head {head + 1}", person, weights[:, 0, head])
        for token, weights in (("hmn", maps.hmn), ("cls", maps.cls))
        for head in range(weights.shape[2])
    ]
    if not heads:
        rows = [("hmn", person, maps.hmn[:, 0].mean(1)), ("cls", person, maps.cls[:, 0].mean(1))]
    return _panels_png(rows, title)


def frames_png(frames: Sequence[tuple[PersonCrop, AttentionMaps]], title: str, *, layers: int = 4) -> bytes:
    """Draw the attention of the hmn token in the first blocks as PNG, one row per frame (paper Fig. 5).

    Args:
        frames: Crops of a person, each with its maps.
        title: Printed above the panels.
        layers: Number of blocks, or as many as have a row of hmn.
    """
    rows = [
        (f"frame {number}", person, maps.hmn[:layers, 0].mean(1))
        for number, (person, maps) in enumerate(frames, start=1)
    ]
    return _panels_png(rows, title)


def _panels_png(rows: Sequence[tuple[str, PersonCrop, Tensor]], title: str) -> bytes:
    """Draw a row of panels for each (label, crop, weights (layers, G + 2)), after the crop itself.

    Each panel has its own scale, from 0 to its largest weight. Below it stands the fraction of the row's
    attention that falls on patches (the rest is on cls and hmn), and the fraction of that which falls on the
    person.
    """
    layers = max(len(weights) for _, _, weights in rows)
    figure = new_figure(_PANEL * (layers + 1) + 0.3, (_PANEL + 0.42) * len(rows) + 0.9, title)
    grid = figure.subplots(len(rows), layers + 1, squeeze=False)
    for line, (name, person, weights) in zip(grid, rows, strict=True):
        _draw_image(line[0], person)
        line[0].set_ylabel(name, fontsize=10, color=INK)
        for layer, axes in enumerate(line[1:]):
            if layer < len(weights):
                _draw_weights(axes, person, weights[layer].numpy())
            else:
                axes.set_axis_off()
                axes.set_box_aspect(1)
    for layer, axes in enumerate(grid[0][1:], start=1):
        axes.set_title(f"layer {layer}", fontsize=10, color=INK)
    if layers > len(rows[0][2]):
        grid[0][-1].text(
            0.5, 0.5, "of the last layer\nonly the cls row\nis computed", ha="center", va="center",
            fontsize=8, color=GREY, transform=grid[0][-1].transAxes,
        )  # fmt: skip
    covered = 100 * float(np.mean([person.patch_weights.mean() for _, person, _ in rows]))
    note = (
        f"each panel from 0 (dark) to its largest weight; boxes cover {covered:.0f} % of what the model sees"
    )
    figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color=GREY)
    return to_png(figure)


def attention_fractions(
    weights: NDArray[np.float32], patch_weights: NDArray[np.float32]
) -> tuple[float, float]:
    """Return the fraction of a row (G + 2,) on patches, and the fraction of that on the person."""
    on_patches = weights[: len(patch_weights)]
    total = float(on_patches.sum())
    return total, float(on_patches @ patch_weights) / total


def _draw_weights(axes: "Axes", person: PersonCrop, weights: NDArray[np.float32]) -> None:
    side = round(len(person.patch_weights) ** 0.5)
    size = person.image.shape[0]
    grey = person.image.mean(axis=2)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
    axes.imshow(
        weights[: side * side].reshape(side, side),
        cmap="viridis", alpha=0.62, vmin=0, extent=(-0.5, size - 0.5, size - 0.5, -0.5),
    )  # fmt: skip
    _draw_box(axes, person)
    on_patches, on_person = attention_fractions(weights, person.patch_weights)
    axes.set_xlabel(f"patches {100 * on_patches:.0f} %\nof it person {100 * on_person:.0f} %", fontsize=7)


def _draw_image(axes: "Axes", person: PersonCrop) -> None:
    axes.imshow(person.image)
    _draw_box(axes, person)


def _draw_box(axes: "Axes", person: PersonCrop) -> None:
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
