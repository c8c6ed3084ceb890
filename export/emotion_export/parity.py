"""The parity check of exported graphs: what is compared, by which metrics, and the tolerances.

The reference runs once; every precision is then compared with the same outputs. Shapes: P people, T frames of
a clip, D embedding, N people in all batches of one size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from emotion_export.samples import SIZES
from emotion_runtime.encoder import Batch
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Parity
from emotion_runtime.names import GraphName, Precision
from emotion_runtime.parity_metrics import (
    Tolerance,
    measure_outputs,
    subject_pairs,
    top1_agreement,
    within_tolerance,
)

Feed = Mapping[str, NDArray[Any]]
RunGraph = Callable[[Feed], NDArray[np.float32]]  # from the inputs of a graph, by name, to its only output
ImageKind = Literal["real", "random"]


# The one table of graphs: the export refuses by it, the tests assert it. Engines: see `parity`.
TOLERANCES: Final[Mapping[Precision, Tolerance]] = MappingProxyType(
    {
        # Measured: 1e-6 to 1e-5, from the order of summation. A wrong operator, a constant in place of an
        # input or an ignored subject gives 1e-2 and more.
        "fp32": Tolerance(
            1e-4, mean_abs=1e-5, cosine_min=0.999999, subject_cosine=0.9999, top1_agreement=0.999
        ),
        # Measured: max 8e-3, cosine 0.9999997; products have 11 bits. If a softmax, LayerNorm or residual
        # stream loses its precision, as in engines that were silently wrong, the cosine is below 0.999.
        "fp16": Tolerance(5e-2, mean_abs=5e-3, cosine_min=0.9999, subject_cosine=0.99, top1_agreement=0.95),
        # Measured: max 7e-2 and cosine 0.99996 for nano, 0.3 and 0.9987 for ViT-B/32; weights have 7 bits,
        # activations 8. Integer kernels that saturate gave a cosine of 0.79 to 0.987.
        # With the subject wrong, `subject_cosine` is 0 or less, or none; measured: 0.9986 for nano, and 0.90
        # for ViT-B/32 with weights that nobody trained, whose embeddings hardly depend on the subject.
        "int8": Tolerance(1.0, mean_abs=1e-1, cosine_min=0.995, subject_cosine=0.8, top1_agreement=0.9),
    }
)


@dataclass(frozen=True, slots=True)
class Reference:
    """The float32 model, whose outputs count as correct.

    Attributes:
        kind: As in `Parity.reference`.
        frame_encoder: Runs the frame encoder.
        temporal_encoder: Runs the temporal encoder.
        clip_frames: Number of frames of a clip, T.
        heads: Weight (C, D) and bias (C,) of each head.
    """

    kind: Literal["torch", "fp32 graph"]
    frame_encoder: RunGraph
    temporal_encoder: RunGraph
    clip_frames: int
    heads: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]

    def labels(self, features: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the most likely label of each head, (heads, N), for features (N, D)."""
        normalised = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        return np.stack([(normalised @ weight.T + bias).argmax(axis=1) for weight, bias in self.heads])

    def labels_of_frames(self, embeddings: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the same for embeddings (N, D), each repeated to a clip as for a new person."""
        clips = np.repeat(embeddings[:, None], self.clip_frames, axis=1)  # (N, T, D)
        return self.labels(self.temporal_encoder({"embeddings": clips}))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Inputs of one graph at one batch size, and the outputs of the reference for them.

    Attributes:
        graph: Name of the graph.
        persons: Number of people in a batch, P.
        frames: Number of images of a batch for the frame encoder, T for the temporal encoder.
        images: Kind of the images.
        feeds: The batches.
        expected: Outputs of the reference, (N, D).
        reference: The reference.
    """

    graph: GraphName
    persons: int
    frames: int
    images: ImageKind
    feeds: Sequence[Feed]
    expected: NDArray[np.float32]
    reference: Reference

    def labels(self, outputs: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the labels (heads, N) for outputs (N, D) of this graph."""
        if self.graph == "temporal_encoder":
            return self.reference.labels(outputs)
        return self.reference.labels_of_frames(outputs)


def comparisons(
    reference: Reference, images: ImageKind, batches: Mapping[tuple[int, int], Sequence[Batch]]
) -> list[Comparison]:
    """Run the reference on both graphs at all sizes.

    Args:
        reference: The reference; it runs only here.
        images: Kind of the images.
        batches: Batches by (images, people), from `samples.batches`. Clips for the temporal encoder are drawn
            from their embeddings.
    """
    made: list[Comparison] = []
    for (frames, persons), group in batches.items():
        feeds = [frame_feed(batch) for batch in group]
        expected = np.concatenate([reference.frame_encoder(feed) for feed in feeds])
        made.append(Comparison("frame_encoder", persons, frames, images, feeds, expected, reference))
    embeddings = np.concatenate([comparison.expected for comparison in made])
    for persons in sorted({persons for _, persons in SIZES}):
        rounds = max(len(group) for group in batches.values())
        feeds = clip_feeds(embeddings, reference.clip_frames, persons, rounds)
        expected = np.concatenate([reference.temporal_encoder(feed) for feed in feeds])
        made.append(
            Comparison("temporal_encoder", persons, reference.clip_frames, images, feeds, expected, reference)
        )
    return made


def frame_feed(batch: Batch) -> Feed:
    """Return the inputs of the frame encoder by name."""
    return {
        "images": batch.images,
        "frame_index": batch.frame_index,
        "patch_weights": batch.patch_weights,
    }


def clip_feeds(embeddings: NDArray[np.float32], frames: int, persons: int, rounds: int) -> list[Feed]:
    """Return `rounds` batches (persons, T, D) for the temporal encoder, drawn from embeddings (N, D)."""
    rng = np.random.default_rng([2, persons])
    return [
        {"embeddings": embeddings[rng.integers(0, len(embeddings), (persons, frames))]} for _ in range(rounds)
    ]


def measure(
    compared: Sequence[Comparison], graph: GraphName, ways: Sequence[RunGraph], precision: Precision
) -> list[Parity]:
    """Return the rows of the parity report for one graph, each with the worst of all ways to run it."""
    rows = []
    for comparison in compared:
        if comparison.graph == graph:
            runs = [np.concatenate([run(feed) for feed in comparison.feeds]) for run in ways]
            rows.append(compare(comparison, runs, precision))
    return rows


def compare(comparison: Comparison, runs: Sequence[NDArray[np.float32]], precision: Precision) -> Parity:
    """Return one row of the parity report, with the worst value of each metric.

    Args:
        comparison: Inputs and the outputs of the reference.
        runs: Outputs (N, D) of each way to run the graph.
        precision: Precision of the graph.

    Raises:
        EmotionError: The outputs of the graph have another shape than those of the reference.
    """
    expected = comparison.expected
    for found in runs:
        if expected.shape != found.shape:
            raise EmotionError(
                f"{comparison.graph}: the graph returns {found.shape}, expected {expected.shape}: export it "
                "again"
            )
    with np.errstate(invalid="ignore"):  # NaN is refused by its distance
        metrics = measure_outputs(expected, runs, comparison.labels, subject_pairs(comparison.feeds))
    return Parity(
        graph=comparison.graph,
        persons=comparison.persons,
        frames=comparison.frames,
        tolerance=TOLERANCES[precision].max_abs,
        precision=precision,
        images=comparison.images,
        reference=comparison.reference.kind,
        **metrics,
    )


def passes(rows: Sequence[Parity]) -> bool:
    """Return whether rows of one graph in one precision pass.

    Distances must be within tolerance in every row, labels in total.
    """
    tolerated = {TOLERANCES[row.precision].top1_agreement for row in rows}
    return not _beyond_tolerance(rows) and top1_agreement(rows) >= max(tolerated, default=0)


def _beyond_tolerance(rows: Sequence[Parity]) -> list[Parity]:
    return [row for row in rows if not within_tolerance(row, TOLERANCES[row.precision])]


def require_parity(rows: Sequence[Parity]) -> None:
    """Refuse graphs that differ from the reference.

    Raises:
        EmotionError: The rows of a graph in a precision exceed the tolerance of that precision.
    """
    for graph, precision in dict.fromkeys((row.graph, row.precision) for row in rows):
        own = [row for row in rows if (row.graph, row.precision) == (graph, precision)]
        if passes(own):
            continue

        worst = max(_beyond_tolerance(own) or own, key=lambda row: row.max_abs)
        tolerance = TOLERANCES[worst.precision]
        raise EmotionError(
            f"{graph}.onnx in {precision} differs from the {_names(worst)} with {worst.persons} people, "
            f"{worst.frames} frames: max {worst.max_abs:.1e}, mean {worst.mean_abs:.1e}, cosine "
            f"{worst.cosine_min:.7f}, of the difference of two subjects {_subjects(own)}, same labels "
            f"{top1_agreement(own):.1%}; expected {tolerance.max_abs:.0e}, {tolerance.mean_abs:.0e}, "
            f"{tolerance.cosine_min}, {tolerance.subject_cosine}, "
            f"{tolerance.top1_agreement:.1%} or better. Nothing was written: {_fix(precision)}"
        )


def parity_table(rows: Sequence[Parity]) -> str:
    """Return the report as a table that reads well in terminals and as Markdown; P people, F frames."""
    titles = "graph            | bits | images   | P | F | max abs | mean abs | min cos     | mean cos    "
    lines = [f"| {titles}| same labels   | tolerated |"]
    lines.append("|".join("-" * len(cell) for cell in lines[0].split("|")))
    for row in rows:
        mean = "" if row.cosine_mean is None else f"{row.cosine_mean:.9f}"
        labels = "" if row.top1_agreement is None else f"{row.top1_agreement:.1%} of {row.samples}"
        lines.append(
            f"| {row.graph:16} | {row.precision:4} | {row.images:8} | {row.persons} | {row.frames} "
            f"| {row.max_abs:7.1e} | {row.mean_abs:8.1e} | {row.cosine_min:.9f} | {mean:11} "
            f"| {labels:13} | {row.tolerance:9.0e} |"
        )
    return "\n".join(lines)


def _subjects(rows: Sequence[Parity]) -> str:
    found = [row.subject_cosine for row in rows if row.subject_cosine is not None]
    return f"{np.min(found):.5f}" if found else "not measured"


def _names(row: Parity) -> str:
    return "torch model" if row.reference == "torch" else row.reference


def _fix(precision: str) -> str:
    if precision == "fp32":
        return "check that the weights are finite, and export with the package versions of pyproject.toml"
    return f"leave {precision} out, or calibrate and compare on --videos similar to the intended use"
