"""The parity check of exported graphs: the tolerances and the report."""

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Parity
from emotion_runtime.names import Precision
from emotion_runtime.parity import Comparison, RunGraph, failure
from emotion_runtime.parity_metrics import Tolerance

_log = logging.getLogger(__name__)

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


def measure(compared: Sequence[Comparison], ways: Sequence[RunGraph], precision: Precision) -> list[Parity]:
    """Return the rows of the parity report for one graph, each with the worst of all ways to run it."""
    return [each.measure(ways, precision, TOLERANCES[precision].max_abs) for each in compared]


def passes(rows: Sequence[Parity]) -> bool:
    """Return whether the rows of one graph in one precision are within tolerance."""
    return not failure(rows, TOLERANCES[rows[0].precision])


def require_parity(rows: Sequence[Parity]) -> None:
    """Log the report of one graph in one precision, and refuse a graph that exceeds the tolerance.

    Raises:
        EmotionError: It does.
    """
    graph, precision = rows[0].graph, rows[0].precision
    model = "torch model" if rows[0].reference == "torch" else rows[0].reference
    _log.info("%s in %s compared with the %s:\n%s", graph, precision, model, parity_table(rows))
    if found := failure(rows, TOLERANCES[precision]):
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
