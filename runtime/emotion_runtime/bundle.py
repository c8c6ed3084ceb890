"""A bundle: the folder that holds a model as the runtime takes it.

bundle.json           this schema
frame_encoder.onnx    images (F, S, S, 3) uint8 RGB, frame_index (P,) int64, patch_weights (P, G) float32
                      -> embeddings (P, D) float32
temporal_encoder.onnx embeddings (P, T, D) float32 -> features (P, D) float32
*.safetensors         heads: weight (C, D) and bias (C,) float32, applied to L2-normalised features
MODEL_CARD.md
"""

from typing import Literal

import msgspec

from emotion_runtime.preprocess import PreprocessSpec

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A graph's input or output; a str in `shape` names a dynamic dimension."""

    name: str
    dtype: str
    shape: list[int | str]


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An ONNX file of the bundle."""

    file: str
    sha256: str
    opset: int
    inputs: list[Tensor]
    outputs: list[Tensor]


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A linear head: `activation((features @ weight.T + bias) / temperature)`, features L2-normalised.

    kind "probe": fitted on labels. kind "zero_shot": weight holds L2-normalised text embeddings, bias is 0.
    metrics: figures measured on unseen data, by name.
    """

    kind: Literal["probe", "zero_shot"]
    file: str
    sha256: str
    labels: list[str]
    activation: Literal["softmax", "sigmoid"]
    temperature: float
    metrics: dict[str, float]


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Largest difference between a graph and the torch model, at one size of batch."""

    graph: str
    persons: int
    frames: int
    max_abs: float
    mean_abs: float
    cosine_min: float
    tolerance: float


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """bundle.json.

    embedding_dim: D. clip_frames: T, embeddings a clip. clip_seconds: time a clip spans, the default of
    `--window`. default_head: key of `heads`. checkpoint_sha256: of the checkpoint this came from.
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
    graphs: dict[Literal["frame_encoder", "temporal_encoder"], Graph]
    heads: dict[str, Head]
    default_head: str
    parity: list[Parity]
