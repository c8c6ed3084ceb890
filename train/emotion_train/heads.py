"""Linear heads on L2-normalised features, as files that the export to a bundle reads.

There are two kinds: probes fitted on labels, and zero-shot heads, whose weights are text embeddings.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from emotion_runtime.bundle import sha256_of
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.manifest import Activation, Head, QualityLimits

# Names of the heads' files, without suffix.
PROBE, AFFECT_PROBE, ZERO_SHOT, CATEGORIES = "probe", "affect", "zero_shot", "categories"


class HeadCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The description of a head, stored as JSON beside its weights.

    Attributes:
        kind: A probe fitted on labels, or text embeddings.
        labels: Names of the C classes or values.
        activation: Maps logits to predictions.
        temperature: Divides the logits.
        metrics: Results of its evaluation, by name.
        checkpoint_sha256: Hash of the model whose features the head reads.
        features: Output of the temporal encoder ("video", which the runtime has) or of the frame encoder
            ("image").
        text_tower_sha256: Hash of the text tower that made a zero-shot head.
        dataset: Data set on which the head was fitted or measured.
        table_sha256: Hash of the table's file, if the head was fitted on a table.
        abstain: See `manifest.Head`.
        experimental: See `manifest.Head`.
        quality: Measured with this head, for the manifest of its bundle; None: not measured.
    """

    kind: Literal["probe", "zero_shot"]
    labels: list[str]
    activation: Activation
    temperature: float
    metrics: dict[str, float]
    checkpoint_sha256: str
    features: Literal["video", "image"] = "video"
    text_tower_sha256: str | None = None
    dataset: str | None = None
    table_sha256: str | None = None
    abstain: float = 0.0
    experimental: bool = False
    quality: QualityLimits | None = None


@dataclass(frozen=True, slots=True)
class LinearHead:
    """A linear head, `activation((features @ weight.T + bias) / temperature)`.

    Attributes:
        weight: (C, D) float32.
        bias: (C,) float32.
        card: Its description.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    card: HeadCard


class ProbeReportFiles(msgspec.Struct, frozen=True):
    """The part of fit-probe's report.json that says which files belong to it.

    Attributes:
        dataset: Name of the data set.
        heads: Names of the heads; None in reports that were written before they listed them.
        plots: File names of the plots.
    """

    dataset: str
    heads: list[str] | None = None
    plots: list[str] = []


def read_probe_report(folder: Path) -> ProbeReportFiles | None:
    """Read which files the report of fit-probe in `folder` lists; None without a report.

    Raises:
        EmotionError: report.json is not a report of fit-probe.
    """
    path = folder / "report.json"
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=ProbeReportFiles)
    except msgspec.DecodeError as error:
        raise EmotionError(
            f"{path} is not a report of emotion-train fit-probe ({error}): remove it"
        ) from error


def save_head(folder: Path, name: str, head: LinearHead) -> None:
    """Write NAME.safetensors and NAME.json, each atomically.

    Raises:
        EmotionError: The folder cannot be written to.
    """
    _write_weights(folder / f"{name}.safetensors", head)
    card = msgspec.json.format(msgspec.json.encode(head.card), indent=2)
    write_atomically(folder / f"{name}.json", card + b"\n")


def store_head(folder: Path, name: str, head: LinearHead) -> Head:
    """Write the weights of a head into the folder of a bundle, and return its entry in the manifest.

    Raises:
        EmotionError: A value is not finite, or the folder cannot be written to.
    """
    if not (np.isfinite(head.weight).all() and np.isfinite(head.bias).all()):
        raise EmotionError(
            f"head {name} contains values that are not finite: training diverged before this checkpoint was "
            "written, use an earlier one"
        )
    path, card = folder / f"{name}.safetensors", head.card
    _write_weights(path, head)
    return Head(
        card.kind,
        path.name,
        sha256_of(path),
        card.labels,
        card.activation,
        card.temperature,
        card.metrics,
        card.abstain,
        card.experimental,
    )


def _write_weights(path: Path, head: LinearHead) -> None:
    # safetensors ignores strides, and scikit-learn stores coefficients column by column.
    tensors = {"weight": np.ascontiguousarray(head.weight), "bias": np.ascontiguousarray(head.bias)}
    write_atomically(path, save(tensors))


def load_head(folder: Path, name: str) -> LinearHead:
    """Read a head that `save_head` wrote.

    Raises:
        EmotionError: A file is missing or is not a head.
    """
    weights, card = folder / f"{name}.safetensors", folder / f"{name}.json"
    if not weights.is_file() or not card.is_file():
        raise EmotionError(
            f"no head {name!r} in {folder}: expected {weights.name} and {card.name}, written by "
            "emotion-train fit-probe"
        )
    try:
        described = msgspec.json.decode(card.read_bytes(), type=HeadCard)
    except msgspec.DecodeError as error:
        raise EmotionError(f"{card}: {error}") from error
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise EmotionError(f"{weights} is not a safetensors file ({error}): fit the head again") from error
    found = {key: (value.dtype.name, *value.shape) for key, value in tensors.items()}
    classes = len(described.labels)
    width = found.get("weight", ())[2:]  # (D,) of a matrix
    if len(width) != 1 or found != {
        "weight": ("float32", classes, *width),
        "bias": ("float32", classes),
    }:
        raise EmotionError(
            f"{weights}: tensors {found}, expected weight ({classes}, D) and bias ({classes},) of float32; "
            "fit the head again"
        )
    return LinearHead(tensors["weight"], tensors["bias"], described)
