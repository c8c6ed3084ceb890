"""bundle.json: what a bundle says of itself, and how it is written."""

from pathlib import Path
from typing import Literal

import msgspec

from emotion_runtime.preprocess import PreprocessSpec

SCHEMA_VERSION = 2  # 2: graphs have variants, parity rows have a precision; 1 is still read
MANIFEST = "bundle.json"

GraphName = Literal["frame_encoder", "temporal_encoder"]
ReducedPrecision = Literal["fp16", "int8"]
Precision = Literal["fp32", ReducedPrecision]
Activation = Literal["softmax", "sigmoid", "identity"]
AFFECT = ("valence", "arousal", "dominance")


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A graph's input or output; a str in `shape` names a dynamic dimension. dtype: numpy's name."""

    name: str
    dtype: str
    shape: list[int | str]


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A graph in another precision; inputs and outputs are those of the fp32 graph, dtypes too."""

    file: str
    sha256: str
    opset: int


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An ONNX file of the bundle, in fp32. variants: the same graph in other precisions."""

    file: str
    sha256: str
    opset: int
    inputs: list[Tensor]
    outputs: list[Tensor]
    variants: dict[ReducedPrecision, Variant] = {}


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A linear head: `activation((features @ weight.T + bias) / temperature)`, features L2-normalised.

    kind "probe": fitted on labels. kind "zero_shot": weight holds L2-normalised text embeddings, bias is 0.
    activation "identity": a regression; temperature is 1, answers have the units of what it was fitted on.
    metrics: figures measured on unseen data, by name. abstain: a label less probable than this is not given.
    experimental: its answers are known to be weak, or are mostly unmeasured.
    """

    kind: Literal["probe", "zero_shot"]
    file: str
    sha256: str
    labels: list[str]
    activation: Activation
    temperature: float
    metrics: dict[str, float]
    abstain: float = 0.0
    experimental: bool = False


class Parity(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    rename={"images": "pictures"},
):
    """Difference between a graph and the model in fp32, at one size of batch.

    tolerance: largest max_abs that is taken. cosine_min, cosine_mean: over persons. top1_agreement: share of
    persons, in [0, 1], to whom all heads give the label that the model's features get. images: what was
    compared on: "real" (photographs and video), "random" (noise and drawings), or both in one row. reference:
    the model in torch, or, where its checkpoint was not at hand, the fp32 graph. samples: persons compared.
    Fields that a bundle of schema 1 has not are None.
    """

    graph: str
    persons: int
    frames: int
    max_abs: float
    mean_abs: float
    cosine_min: float
    tolerance: float
    precision: Precision = "fp32"
    cosine_mean: float | None = None
    top1_agreement: float | None = None
    images: Literal["mixed", "real", "random"] = "mixed"
    reference: Literal["torch", "fp32 graph"] = "torch"
    samples: int | None = None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """bundle.json.

    embedding_dim: D. clip_frames: T, embeddings a clip. clip_seconds: time a clip spans, the default of
    `--window`. default_head: key of `heads`. checkpoint_sha256: of the checkpoint this came from.
    affect_head: key of a head with the activation "identity" whose labels are some of `AFFECT`; None: no
    such head, and persons have no valence, arousal and dominance.
    """

    schema: int
    name: str
    preset: str
    created_by: str
    license: str
    checkpoint_sha256: str
    embedding_dim: int
    clip_frames: int
    clip_seconds: float
    preprocess: PreprocessSpec
    graphs: dict[GraphName, Graph]
    heads: dict[str, Head]
    default_head: str
    parity: list[Parity]
    affect_head: str | None = None


def write_manifest(manifest: Manifest, folder: Path) -> Path:
    """Write bundle.json into `folder`, indented for readers and diffs. Returns its path."""
    path = folder / MANIFEST
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    return path
