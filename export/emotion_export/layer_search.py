"""Find what loses most in a reduced precision, and keep as little as possible of it in fp32.

A graph is divided into stages where its residual stream is normalised. One run of the reduced graph shows the
error at the end of each stage, and with it which stages add most; bisection finds how many of these are
enough. The order is found without trying each layer alone, because on a device each engine takes minutes.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from emotion_export.graph_index import MATRIX_OPS, GraphIndex

_log = logging.getLogger(__name__)

_ROUNDING = 2.0**-10  # relative error of one fp16 operation; smaller errors are not faults


@dataclass(frozen=True, slots=True)
class Stage:
    """The part of a graph between two points of its residual stream.

    Attributes:
        probe: The tensor in which the stage ends.
        nodes: Names of its matrix products.
        before: Indices of the stages that it reads.
    """

    probe: str
    nodes: tuple[str, ...]
    before: tuple[int, ...]


def find_stages(model: onnx.ModelProto) -> list[Stage]:
    """Return the stages of a graph, in order: each ends where a LayerNormalization reads, or in an output."""
    ends = {node.input[0] for node in model.graph.node if node.op_type == "LayerNormalization"}
    ends |= {output.name for output in model.graph.output}
    stages: list[Stage] = []
    ended: dict[str, int] = {}  # index of the stage that ends in a tensor
    since: dict[str, tuple[set[str], set[int]]] = {}  # by tensor: products and stages that lead to it
    claimed: set[str] = set()
    for node in model.graph.node:  # sorted topologically
        products, before = ({node.name} if node.op_type in MATRIX_OPS else set[str]()), set[int]()
        for name in node.input:
            if name in ended:
                before.add(ended[name])
            elif name in since:
                products |= since[name][0]
                before |= since[name][1]
        since |= dict.fromkeys(node.output, (products, before))
        for name in ends.intersection(node.output):
            ended[name] = len(stages)
            stages.append(Stage(name, tuple(sorted(products - claimed)), tuple(sorted(before))))
            claimed |= products
    return stages


def keep_worst_in_fp32(
    stages: Sequence[Stage],
    errors: Callable[[], Sequence[float]],
    passes: Callable[[frozenset[str]], bool],
    *,
    attempts: int | None = None,
) -> frozenset[str] | None:
    """Return the fewest matrix products, as far as this search finds, that must stay in fp32.

    Args:
        stages: The stages of the graph.
        errors: Measures the error of the reduced graph at the end of each stage; see `stage_errors`. Called
            only if the reduced graph fails.
        passes: Whether the graph passes the parity check when the products of these names stay in fp32.
        attempts: Maximum number of checks after the first; None: as many as bisection needs.

    Returns:
        Names of nodes; None if keeping all stages but one is not enough.
    """
    if passes(frozenset()):
        return frozenset()
    order = worst_first(stages, errors())

    def products(count: int) -> frozenset[str]:
        return frozenset(node for index in order[:count] for node in stages[index].nodes)

    fewest, enough = 0, len(order)
    while enough - fewest > 1 and attempts != 0:  # keeping one more stage does not make a graph worse
        attempts = None if attempts is None else attempts - 1
        count = (fewest + enough) // 2
        good = passes(products(count))
        _log.info(
            "with the %d worst of %d stages in fp32: %s tolerance",
            count,
            len(order),
            "within" if good else "not within",
        )
        fewest, enough = (fewest, count) if good else (count, enough)
    return products(enough) if enough < len(order) else None


def worst_first(stages: Sequence[Stage], errors: Sequence[float]) -> list[int]:
    """Return the indices of the stages with matrix products, those that add most error first.

    Stages are sorted by the factor by which each increases its input error, because an error grows in all
    later stages by more than it was at first.

    NaN counts as the worst.
    """
    known = [math.inf if math.isnan(error) else error for error in errors]

    def factor(index: int) -> float:
        given = max((known[i] for i in stages[index].before), default=0.0)
        return 0.0 if math.isinf(given) else known[index] / max(given, _ROUNDING)

    return sorted((i for i, stage in enumerate(stages) if stage.nodes), key=factor, reverse=True)


def with_probes(model: onnx.ModelProto, stages: Sequence[Stage]) -> onnx.ModelProto:
    """Return a graph, in any precision, with the ends of all stages as additional outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    types = GraphIndex(model).types
    ends = [stage.probe for stage in stages]
    new = [name for name in ends if name not in {output.name for output in model.graph.output}]
    result.graph.output.extend(helper.make_tensor_value_info(name, types[name], None) for name in new)
    return result


def stage_errors(
    stages: Sequence[Stage], expected: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]
) -> list[float]:
    """Return the relative RMS error at the end of each stage, from outputs of `with_probes` by name."""

    def error(probe: str) -> float:
        a, b = (each[probe].astype(np.float64) for each in (expected, found))
        return float(np.sqrt(np.mean((a - b) ** 2) / max(np.mean(a**2), np.finfo(np.float64).tiny)))

    return [error(stage.probe) for stage in stages]
