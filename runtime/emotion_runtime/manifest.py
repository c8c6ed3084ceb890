"""bundle.json: its fields, and how it is written."""

from pathlib import Path
from typing import Literal

import msgspec

from emotion_runtime.names import GraphName, Precision, ReducedPrecision
from emotion_runtime.preprocess import PreprocessSpec

# 2: graphs have variants, parity rows have a precision. 3: limits of quality. Older ones can still be read.
SCHEMA_VERSION = 3
MANIFEST = "bundle.json"

Activation = Literal["softmax", "sigmoid", "identity"]
AFFECT = ("valence", "arousal", "dominance")


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input or output of a graph.

    Attributes:
        name: Its name in the graph.
        dtype: NumPy's name of the type.
        shape: Its dimensions; a string names a dynamic dimension.
    """

    name: str
    dtype: str
    shape: list[int | str]


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A graph in another precision. It has the inputs and outputs of the fp32 graph, in the same dtypes."""

    file: str
    sha256: str
    opset: int


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An ONNX file of the bundle, in fp32.

    Attributes:
        file: Name of the file in the bundle's folder.
        sha256: Hash of the file.
        opset: ONNX opset.
        inputs: Inputs of the graph.
        outputs: Outputs of the graph.
        variants: The same graph in other precisions.
    """

    file: str
    sha256: str
    opset: int
    inputs: list[Tensor]
    outputs: list[Tensor]
    variants: dict[ReducedPrecision, Variant] = {}


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A linear head: `activation((features @ weight.T + bias) / temperature)` of L2-normalised features.

    Attributes:
        kind: "probe": fitted on labels. "zero_shot": weight has L2-normalised text embeddings, bias is 0.
        file: Name of the safetensors file in the bundle's folder.
        sha256: Hash of the file.
        labels: One name per row of the weight.
        activation: "identity" for a regression: temperature is 1, and predictions have the units of the
            targets.
        temperature: Divisor of the logits.
        metrics: Metrics measured on unseen data, by name.
        abstain: No label is given if the most probable one is less probable than this.
        experimental: The predictions are known to be weak, or are mostly unmeasured.
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
    """Difference between a graph and the model in fp32, for one batch size.

    Fields that a bundle of schema 1 does not have are None.

    Attributes:
        graph: Name of the graph.
        persons: P of the batch.
        frames: F of the frame encoder, T of the temporal encoder.
        max_abs: Largest absolute difference.
        mean_abs: Mean absolute difference.
        cosine_min: Lowest cosine of any person.
        tolerance: Largest `max_abs` that is accepted.
        precision: Numeric precision of the graph.
        cosine_mean: Mean cosine over all persons.
        top1_agreement: Fraction of persons, in [0, 1], for whom all heads give the same label as with the
            model's features.
        images: Images that were compared: "real" (photographs and video), "random" (noise and drawings), or
            both. Called "pictures" in the file.
        reference: The torch model, or the fp32 graph where the checkpoint was not available.
        samples: Number of persons compared.
        subject_cosine: Cosine between the differences of two subjects in one crop, as expected and as found:
            a graph that ignores the subject cannot reach it. None: not measured, or the model has no subject.
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
    subject_cosine: float | None = None


class SwapLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cosines between embeddings below which another person is taken to be in the place of one.

    Attributes:
        always: Limit of any new embedding. Within a person, cosines are almost never lower.
        suspicious: Limit where the head looks different as well, or was not seen for a time.
    """

    always: float
    suspicious: float


class QualityLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The least quality of a view with which a person gets a label; see `types.Quality`.

    The defaults hold for bundles that state none. They were measured with the first nano, except that of
    `frontal`, which was chosen by eye on videos; see docs/detection.md.

    Attributes:
        head_px: Least width of the head, in pixels.
        sharpness: Least sharpness.
        inside: Least fraction of the head inside the frame.
        frontal: Least frontality.
        kept: Fraction of the accuracy on good views that is left at the first three limits.
    """

    head_px: float = 16.0
    sharpness: float = 0.2
    inside: float = 0.7
    frontal: float = 0.1
    kept: float = 0.75


DEFAULT_QUALITY = QualityLimits()


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of bundle.json.

    Attributes:
        schema: Version of this format.
        name: Name of the bundle.
        preset: Name of the model's preset.
        created_by: Program and version that wrote the bundle.
        license: Licence of the weights.
        checkpoint_sha256: Hash of the checkpoint that the bundle was exported from.
        embedding_dim: D.
        clip_frames: T, embeddings per clip.
        clip_seconds: Time that a clip spans, in seconds; the default of `--window`.
        preprocess: How images are cropped and resized.
        graphs: Both encoders.
        heads: Heads by name.
        default_head: Key of `heads`.
        parity: Differences between the graphs and the model.
        affect_head: Key of a head with the activation "identity" whose labels are some of `AFFECT`; None: the
            bundle has none, and persons have no valence, arousal or dominance.
        swap: When embeddings are of different persons. None: not measured, so swaps are not looked for.
        quality: The least quality with which a person gets a label. Bundles without it have the defaults.
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
    swap: SwapLimits | None = None
    quality: QualityLimits = DEFAULT_QUALITY


def write_manifest(manifest: Manifest, folder: Path) -> Path:
    """Write bundle.json into `folder`, indented for readers and diffs, and return its path."""
    path = folder / MANIFEST
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    return path
