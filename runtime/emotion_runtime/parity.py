"""The parity check: what a graph or an engine returns is compared with what the fp32 model returns.

TensorRT's fp16 engines of vision transformers are silently wrong often enough (NVIDIA/TensorRT#2709, #4373,
#4723) that no engine is used before it has passed on the device that will run it, against the fp32 graph in
ONNX Runtime. This needs no torch: a runtime also checks engines that were built on a machine without a GPU.
The export compares its graphs with the torch model by the same code.

Embeddings of two subjects in one crop have most in common, so a model that ignores whom the patch weights
cover still has a high cosine. That is why the *difference* between the embeddings of two subjects in one crop
is compared as well.

Shapes: P people, T frames of a clip, D embedding, N people in all batches of one size, C labels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Backend, Feeds, count_persons
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import Bundle
from emotion_runtime.errors import EngineRejected
from emotion_runtime.heads import read_head
from emotion_runtime.manifest import Head, Parity
from emotion_runtime.names import GRAPHS, EnginePrecision, GraphName, Precision
from emotion_runtime.parity_inputs import clip_feeds, frame_encoder_feeds
from emotion_runtime.parity_metrics import (
    LabelFunction,
    Tolerance,
    measure_outputs,
    subject_pairs,
    top1_agreement,
    within_tolerance,
)

RunGraph = Callable[[Feeds], NDArray[np.float32]]  # from the inputs of a graph, by name, to its only output
ImageKind = Literal["mixed", "real", "random"]  # as in `Parity`
ReferenceKind = Literal["torch", "fp32 graph"]  # as in `Parity`

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
class Comparison:
    """The batches of one size that a graph is checked with, and what is expected.

    Attributes:
        graph: Name of the graph.
        feeds: The batches.
        expected: Outputs of the reference for all batches, one below the other, (N, D).
        labels: Returns the most probable label of each head, (heads, N), for outputs (N, D).
        images: Kind of the images.
        reference: What returned the expected outputs.
    """

    graph: str
    feeds: Sequence[Feeds]
    expected: NDArray[np.float32]
    labels: LabelFunction
    images: ImageKind = "mixed"
    reference: ReferenceKind = "fp32 graph"

    @property
    def persons(self) -> int:
        """Number of people in a batch, P."""
        return count_persons(self.feeds[0])

    @property
    def frames(self) -> int:
        """Number of images in a batch for the frame encoder, T for the temporal encoder."""
        feed = self.feeds[0]
        return len(feed["images"]) if "images" in feed else feed["embeddings"].shape[1]

    def measure(self, ways: Sequence[RunGraph], precision: Precision, max_abs: float) -> Parity:
        """Return a row of the parity report, with the worst value of each metric.

        Args:
            ways: Ways to run the graph. All of them run one batch before the next.
            precision: Precision of the graph.
            max_abs: Largest difference that is accepted.

        Raises:
            EngineRejected: An output has another shape than that of the reference.
        """
        outputs = [[run(feed) for run in ways] for feed in self.feeds]
        runs = [np.concatenate(found) for found in zip(*outputs, strict=True)]
        for found in runs:
            if found.shape != self.expected.shape:
                raise EngineRejected(
                    f"{self.graph}: the output has shape {found.shape}, expected {self.expected.shape}"
                )
        with np.errstate(invalid="ignore"):  # NaN is refused by its distance
            metrics = measure_outputs(self.expected, runs, self.labels, subject_pairs(self.feeds))
        return Parity(
            graph=self.graph,
            persons=self.persons,
            frames=self.frames,
            tolerance=max_abs,
            precision=precision,
            images=self.images,
            reference=self.reference,
            **metrics,
        )


@dataclass(frozen=True, slots=True)
class Reference:
    """The float32 model, whose outputs count as correct.

    Attributes:
        kind: What it is.
        frame_encoder: Runs the frame encoder.
        temporal_encoder: Runs the temporal encoder.
        clip_frames: Number of frames of a clip, T.
        labels: Returns the most probable label of each head, (heads, N), for features (N, D).
    """

    kind: ReferenceKind
    frame_encoder: RunGraph
    temporal_encoder: RunGraph
    clip_frames: int
    labels: LabelFunction

    def labels_of_frames(self, embeddings: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the same for embeddings (N, D), each repeated to a clip as for a new person."""
        clips = np.repeat(embeddings[:, None], self.clip_frames, axis=1)  # (N, T, D)
        return self.labels(self.temporal_encoder({"embeddings": clips}))

    def compare(
        self, groups: Sequence[Sequence[Feeds]], images: ImageKind = "mixed"
    ) -> dict[GraphName, list[Comparison]]:
        """Run both graphs; return what others are compared with, for each size of a batch.

        Args:
            groups: Batches for the frame encoder, those of one size together. Clips for the temporal encoder
                are drawn from their embeddings, for the same numbers of people.
            images: Kind of the images.
        """
        frames = []
        for group in groups:
            expected = np.concatenate([self.frame_encoder(feed) for feed in group])
            labels = self.labels_of_frames
            frames.append(Comparison("frame_encoder", group, expected, labels, images, self.kind))
        embeddings = np.concatenate([each.expected for each in frames])
        rounds = max(len(group) for group in groups)
        clips = []
        for persons in sorted({each.persons for each in frames}):
            group = clip_feeds(embeddings, self.clip_frames, persons, rounds)
            expected = np.concatenate([self.temporal_encoder(feed) for feed in group])
            clips.append(Comparison("temporal_encoder", group, expected, self.labels, images, self.kind))
        return {"frame_encoder": frames, "temporal_encoder": clips}


@dataclass(frozen=True, slots=True)
class ParityCheck:
    """What an engine of a graph is checked with: every size of a batch that is ever run."""

    comparisons: Sequence[Comparison]

    @property
    def graph(self) -> str:
        """Name of the graph."""
        return self.comparisons[0].graph

    @property
    def feeds(self) -> list[Sequence[Feeds]]:
        """Batches of each size, the largest last."""
        return [each.feeds for each in self.comparisons]

    def run(self, engine: Backend, precision: EnginePrecision) -> tuple[list[Parity], str]:
        """Return one report row per batch size, and a one-line failure message (empty if the engine passes).

        Raises:
            EngineRejected: The engine's output has another shape.
        """
        rows = self.measure(engine, precision)
        found = failure(rows, ENGINE_TOLERANCES[precision])
        return rows, f"{precision} {found}" if found else ""

    def measure(self, engine: Backend, precision: EnginePrecision) -> list[Parity]:
        """Return the rows alone: differences are accepted relative to the spread of the expected values."""
        most = ENGINE_TOLERANCES[precision].max_abs
        stored: Precision = "fp16" if precision == "mixed" else precision
        return [
            each.measure([only_output(engine)] * RUNS, stored, most * float(each.expected.std()))
            for each in self.comparisons
        ]


def make_parity_check(bundle: Bundle, graph: GraphName, limits: Limits) -> ParityCheck:
    """Make the check for engines of a bundle's graph by running its fp32 graph in ONNX Runtime on the CPU.

    Raises:
        EmotionError: ONNX Runtime is not installed or cannot load a graph.
    """
    feeds = frame_encoder_feeds(bundle.manifest.preprocess, limits)
    return ParityCheck(bundle_reference(bundle).compare(feeds)[graph])


def bundle_reference(bundle: Bundle) -> Reference:
    """Return the fp32 graphs of a bundle, in ONNX Runtime on the CPU, as the reference."""
    frame_encoder, temporal_encoder = (only_output(OnnxBackend(bundle.graph_path(name))) for name in GRAPHS)
    manifest = bundle.manifest
    labels = label_function(bundle.folder, manifest.heads, manifest.default_head)
    return Reference("fp32 graph", frame_encoder, temporal_encoder, manifest.clip_frames, labels)


def label_function(folder: Path, heads: Mapping[str, Head], default: str) -> LabelFunction:
    """Return a function from features (N, D) to the most probable label of each head, (heads, N).

    Regressions are left out, and so are experimental heads, whose labels lie too close together to be a
    useful check; the default head is always included, because people see its labels.

    Args:
        folder: Folder of the heads' files.
        heads: The heads by name.
        default: Name of the default head.
    """
    counted = [
        read_head(folder, head)
        for name, head in heads.items()
        if head.activation != "identity" and (name == default or not head.experimental)
    ]

    return lambda features: np.stack([head(features).argmax(axis=1) for head in counted])


def only_output(backend: Backend) -> RunGraph:
    """Return a function that runs a backend with one output."""

    def run(feed: Feeds) -> NDArray[np.float32]:
        (values,) = backend.run(feed).values()
        return np.asarray(values, np.float32)

    return run


def failure(rows: Sequence[Parity], tolerance: Tolerance) -> str:
    """Return what is wrong with a graph in one line, or an empty string.

    The distances of every row must be within tolerance. Labels are counted over all rows together, because a
    row may have a single person.
    """
    bad = [row for row in rows if not within_tolerance(row, tolerance)]
    agreement = top1_agreement(rows)
    if not bad and agreement >= tolerance.top1_agreement:
        return ""
    worst = min(bad or rows, key=_lowest_cosine)
    found = [f"cosine {worst.cosine_min:.7f}", f"max {worst.max_abs:.1e}"]
    expected = [f"{tolerance.cosine_min} or more", f"{worst.tolerance:.1e} or less"]
    if tolerance.mean_abs < math.inf:
        found.append(f"mean {worst.mean_abs:.1e}")
        expected.append(f"{tolerance.mean_abs:.0e} or less")
    subjects = [row.subject_cosine for row in rows if row.subject_cosine is not None]
    if subjects:
        found.append(f"cosine of the difference of two subjects {np.min(subjects):.5f}")
        expected.append(f"{tolerance.subject_cosine} or more")
    model = "torch model" if worst.reference == "torch" else worst.reference
    return (
        f"differs from the {model} for {worst.persons} persons and {worst.frames} frames: "
        f"{', '.join(found)}, and {agreement:.1%} of all persons keep their labels; expected "
        f"{', '.join(expected)}, and {tolerance.top1_agreement:.1%} or more"
    )


def _lowest_cosine(row: Parity) -> float:
    """Sort key, worst first; NaN is the worst."""
    found = (row.cosine_min, 1.0 if row.subject_cosine is None else row.subject_cosine)
    return -2.0 if any(map(math.isnan, found)) else min(found)
