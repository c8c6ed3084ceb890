"""The parity check: what a graph or an engine returns is compared with what the fp32 model returns.

TensorRT's fp16 engines of vision transformers are silently wrong often enough (NVIDIA/TensorRT#2709, #4373,
#4723) that no engine is used before it has passed on the device that will run it, against the fp32 graph in
ONNX Runtime. This needs no torch: a runtime also checks engines that were built on a machine without a GPU.
The export compares its graphs with the torch model by the same metrics.

Embeddings of two subjects in one crop have most in common, so a model that ignores whom the patch weights
cover still has a high cosine. That is why the *difference* between the embeddings of two subjects in one crop
is compared as well.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Backend, Feeds, Outputs, count_persons
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import Bundle
from emotion_runtime.errors import EngineRejected
from emotion_runtime.heads import load_head
from emotion_runtime.manifest import Parity
from emotion_runtime.names import GRAPHS, EnginePrecision, GraphName
from emotion_runtime.parity_inputs import frame_encoder_feeds, temporal_encoder_feeds
from emotion_runtime.parity_metrics import (
    LabelFunction,
    Tolerance,
    measure_outputs,
    subject_pairs,
    top1_agreement,
    within_tolerance,
)

# fp32 without TF32 differs only by the order of sums, 1e-6 to 1e-5. fp16 has 11 bits: ViT-B/32 with LayerNorm
# and softmax in fp32 measured a cosine of 0.999999 and 4e-3; reported broken engines had 0.65 or less. int8
# has 8 bits, and only the direction of its output matters to the heads: nano measured 0.99995, and 0.9986 for
# the difference of two subjects; with convolutions in int8 and fp16 between, 0.9989 and 0.974. The labels of
# 5 % of the persons may change even in fp32, because one of them may lie between two labels.
ENGINE_TOLERANCES: Final[Mapping[EnginePrecision, Tolerance]] = MappingProxyType(
    {
        "fp32": Tolerance(1e-3, cosine_min=0.99999, subject_cosine=0.9999, top1_agreement=0.95),
        "mixed": Tolerance(0.02, cosine_min=0.9999, subject_cosine=0.99, top1_agreement=0.95),
        "fp16": Tolerance(0.02, cosine_min=0.9999, subject_cosine=0.99, top1_agreement=0.95),
        "int8": Tolerance(1.0, cosine_min=0.995, subject_cosine=0.8, top1_agreement=0.9),
    }
)

# The first run of a batch size launches single kernels, the second one is captured as a CUDA graph, and later
# ones replay it. All three are compared.
RUNS: Final = 3


@dataclass(frozen=True, slots=True)
class ParityCheck:
    """The batches that an engine of a graph is checked with, and the expected outputs.

    Attributes:
        graph: Name of the graph.
        feeds: Batches of each size.
        expected: Outputs (P, D) of the fp32 graph for all batches of a size, one below the other.
        labels: Returns the most probable label of each head.
    """

    graph: str
    feeds: Sequence[Sequence[Feeds]]
    expected: Sequence[NDArray[np.float32]]
    labels: LabelFunction

    def run(self, engine: Backend, precision: EnginePrecision) -> tuple[list[Parity], str]:
        """Return one report row per batch size, and a one-line failure message (empty if the engine passes).

        Raises:
            EngineRejected: The engine's output has another shape.
        """
        rows = compare(self, precision, engine)
        return rows, failure_message(rows, precision)


def make_parity_check(bundle: Bundle, graph: GraphName, limits: Limits) -> ParityCheck:
    """Make the check for engines of a bundle's graph by running its fp32 graph in ONNX Runtime on the CPU.

    Raises:
        EmotionError: ONNX Runtime is not installed or cannot load a graph.
    """
    encoder, temporal = (OnnxBackend(bundle.graph_path(name)) for name in GRAPHS)
    of_features = label_function(bundle)

    def of_embeddings(embeddings: NDArray[np.float32]) -> NDArray[np.intp]:
        """Repeat each embedding to a clip, as for a person who has just appeared."""
        clips = np.repeat(embeddings[:, None], bundle.manifest.clip_frames, axis=1)  # (P, T, D)
        return of_features(temporal.run({"embeddings": clips})["features"])

    def outputs(backend: Backend, groups: Sequence[Sequence[Feeds]]) -> list[NDArray[np.float32]]:
        return [np.concatenate([_only(backend.run(feed)) for feed in group]) for group in groups]

    feeds = frame_encoder_feeds(bundle.manifest.preprocess, limits)
    expected = outputs(encoder, feeds)
    if graph == "frame_encoder":
        return ParityCheck(graph, feeds, expected, of_embeddings)
    feeds = temporal_encoder_feeds(bundle.manifest, np.concatenate(expected), limits)
    return ParityCheck(graph, feeds, outputs(temporal, feeds), of_features)


def label_function(bundle: Bundle) -> LabelFunction:
    """Return a function from features (P, D) to the labels of a bundle's heads.

    Regressions are left out, and so are experimental heads, whose labels lie too close together to be a
    useful check; the default head is always included, because people see its labels.
    """
    manifest = bundle.manifest
    heads = [
        load_head(bundle, name)
        for name, head in manifest.heads.items()
        if head.activation != "identity" and (name == manifest.default_head or not head.experimental)
    ]

    def labels(features: NDArray[np.float32]) -> NDArray[np.intp]:
        with np.errstate(invalid="ignore"):  # the distances of `compare` reject NaN
            return np.stack([head(features).argmax(axis=1) for head in heads])

    return labels


def compare(check: ParityCheck, precision: EnginePrecision, engine: Backend) -> list[Parity]:
    """Run an engine several times on every batch, and compare all outputs with the expected ones.

    Returns:
        One row per batch size.

    Raises:
        EngineRejected: The engine's output has another shape.
    """
    rows = []
    for group, expected in zip(check.feeds, check.expected, strict=True):
        # All runs of a batch, one after the other: only then the second one is captured.
        outputs = [[_only(engine.run(feed)) for _ in range(RUNS)] for feed in group]
        runs = [np.concatenate(found) for found in zip(*outputs, strict=True)]
        if runs[0].shape != expected.shape:
            raise EngineRejected(
                f"{check.graph}: the engine's output has shape {runs[0].shape}, expected {expected.shape}"
            )
        rows.append(
            Parity(
                graph=check.graph,
                persons=count_persons(group[0]),
                frames=_frames(group[0]),
                tolerance=ENGINE_TOLERANCES[precision].max_abs * float(expected.std()),
                precision="fp16" if precision == "mixed" else precision,
                reference="fp32 graph",
                **measure_outputs(expected, runs, check.labels, subject_pairs(group)),
            )
        )
    return rows


def failure_message(rows: Sequence[Parity], precision: EnginePrecision) -> str:
    """Return what is wrong with an engine in one line, or an empty string.

    The distances of every row must be within tolerance. Labels are counted over all rows together, because a
    row may have a single person.
    """
    tolerance = ENGINE_TOLERANCES[precision]
    bad = [row for row in rows if not within_tolerance(row, tolerance)]
    agreement = top1_agreement(rows)
    if not bad and agreement >= tolerance.top1_agreement:
        return ""
    worst = min(bad or rows, key=_lowest_cosine)
    subjects = [row.subject_cosine for row in rows if row.subject_cosine is not None]
    ignored = "" if not subjects else f", of the difference of two subjects {np.min(subjects):.5f}"
    expected = "" if not subjects else f", {tolerance.subject_cosine}"
    return (
        f"{precision} differs from the fp32 graph for {worst.persons} persons: cosine "
        f"{worst.cosine_min:.5f}{ignored}, max {worst.max_abs:.1e}; {agreement:.0%} of all persons keep "
        f"their labels; expected {tolerance.cosine_min}{expected} or more, {worst.tolerance:.1e} or less, "
        f"{tolerance.top1_agreement:.0%} or more"
    )


def _lowest_cosine(row: Parity) -> float:
    """Sort key, worst first; NaN is the worst."""
    found = (row.cosine_min, 1.0 if row.subject_cosine is None else row.subject_cosine)
    return -2.0 if any(map(math.isnan, found)) else min(found)


def _only(outputs: Outputs) -> NDArray[np.float32]:
    (values,) = outputs.values()
    return np.asarray(values)


def _frames(feed: Feeds) -> int:
    """Return F of the frame encoder, T of the temporal encoder."""
    return len(feed["images"]) if "images" in feed else feed["embeddings"].shape[1]
