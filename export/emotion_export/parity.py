"""The parity check of exported graphs: what is compared, the tolerances, and the report.

The reference runs once; every precision is then compared with the same outputs. Shapes: P people, T frames of
a clip, D embedding.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np

from emotion_export.samples import SIZES
from emotion_runtime.backends.base import Feeds
from emotion_runtime.encoder import Batch
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Parity
from emotion_runtime.names import GraphName, Precision
from emotion_runtime.parity import Comparison, ImageKind, Reference, RunGraph, failure
from emotion_runtime.parity_inputs import clip_feeds
from emotion_runtime.parity_metrics import Tolerance

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
    made = [
        reference.compare_with("frame_encoder", [frame_feed(batch) for batch in group], images)
        for group in batches.values()
    ]
    embeddings = np.concatenate([each.expected for each in made])
    rounds = max(len(group) for group in batches.values())
    for persons in sorted({persons for _, persons in SIZES}):
        feeds = clip_feeds(embeddings, reference.clip_frames, persons, rounds)
        made.append(reference.compare_with("temporal_encoder", feeds, images))
    return made


def frame_feed(batch: Batch) -> Feeds:
    """Return the inputs of the frame encoder by name."""
    return {
        "images": batch.images,
        "frame_index": batch.frame_index,
        "patch_weights": batch.patch_weights,
    }


def measure(
    compared: Sequence[Comparison], graph: GraphName, ways: Sequence[RunGraph], precision: Precision
) -> list[Parity]:
    """Return the rows of the parity report for one graph, each with the worst of all ways to run it."""
    most = TOLERANCES[precision].max_abs
    return [each.measure(ways, precision, most) for each in compared if each.graph == graph]


def passes(rows: Sequence[Parity]) -> bool:
    """Return whether the rows of one graph in one precision are within tolerance."""
    return not failure(rows, TOLERANCES[rows[0].precision])


def require_parity(rows: Sequence[Parity]) -> None:
    """Refuse graphs that differ from the reference.

    Raises:
        EmotionError: The rows of a graph in a precision exceed the tolerance of that precision.
    """
    for graph, precision in dict.fromkeys((row.graph, row.precision) for row in rows):
        own = [row for row in rows if (row.graph, row.precision) == (graph, precision)]
        found = failure(own, TOLERANCES[precision])
        if found:
            fix = (
                "check that the weights are finite, and use the package versions of pyproject.toml"
                if precision == "fp32"
                else f"leave {precision} out, or pass --videos similar to the intended use"
            )
            raise EmotionError(f"{graph}.onnx in {precision} {found}. Nothing was written: {fix}")


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
