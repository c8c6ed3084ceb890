"""The precision fallback: find the lowest precision in which an engine still equals the model.

fp16 is tried first, then fp16 with the worst layers in fp32, then fp32. Every engine is built, run and
compared with the fp32 graph, because errors of fp16 depend on the kernels of a GPU and cannot be predicted.
If an engine cannot be built or loaded, the next precision is tried.
"""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from emotion_export.fp16 import half_precision
from emotion_export.layer_search import fewest_kept
from emotion_export.layers import MATRIX_OPS, GraphIndex
from emotion_export.tensorrt import BuiltEngine
from emotion_runtime.backends.base import Backend
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Parity
from emotion_runtime.names import EnginePrecision
from emotion_runtime.parity import Check

_log = logging.getLogger(__name__)

_MIXED_BUILDS = 2  # of the search for the layers that stay in fp32; each takes minutes on a small device
_ROUNDING = 2.0**-10  # relative error of one fp16 operation; smaller errors are not faults


@dataclass(frozen=True, slots=True)
class Device:
    """A device that builds and runs engines.

    Attributes:
        build: Builds an engine from a graph and its name in messages.
        load: Loads an engine for the duration of a `with` block.
    """

    build: Callable[[onnx.ModelProto, str], BuiltEngine]
    load: Callable[[bytes], AbstractContextManager[Backend]]


@dataclass(frozen=True, slots=True)
class CheckedEngine:
    """An engine with the result of its parity check.

    Attributes:
        precision: What the engine computes in.
        built: The engine.
        parity: Rows of the parity report; empty if the check has not been run.
        fp32_layers: Nodes that "mixed" kept in fp32.
        refused: One line for each engine that failed before.
    """

    precision: EnginePrecision
    built: BuiltEngine
    parity: list[Parity]
    fp32_layers: list[str]
    refused: list[str]


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


def build_in_precision(
    device: Device, check: Check, precision: EnginePrecision, model: onnx.ModelProto
) -> CheckedEngine:
    """Build and check an engine in the one precision that the user requested.

    Raises:
        EmotionError: The engine cannot be built or loaded, or fails the parity check.
    """
    built, rows, fault = _build_and_check(device, check, precision, model)
    if fault:
        raise EmotionError(
            f"{check.graph}: on this device {fault}. The engine is not kept: use --precision ladder, which "
            "falls back to the first precision that passes"
        )
    return CheckedEngine(precision, built, rows, [], [])


def build_with_fallback(
    device: Device, check: Check, models: tuple[onnx.ModelProto, onnx.ModelProto]
) -> CheckedEngine:
    """Return the first engine that passes the parity check.

    Args:
        device: Builds and runs the engines.
        check: The parity check of the graph.
        models: The graph in fp32 and in fp16.

    Raises:
        EmotionError: Not even fp32 passes.
    """
    full, half = models
    refused: list[str] = []

    def refuse(line: str) -> None:
        refused.append(line)
        _log.info("%s: %s", check.graph, line)

    def attempt(
        precision: EnginePrecision, model: onnx.ModelProto, kept: Sequence[str] = ()
    ) -> CheckedEngine | None:
        try:
            built, rows, fault = _build_and_check(device, check, precision, model)
        except EmotionError as error:
            fault = f"{precision} is not available ({error})"
        if not fault:
            return CheckedEngine(precision, built, rows, sorted(kept), refused)
        refuse(fault + (f" ({len(kept)} matrix products kept in fp32)" if kept else ""))
        return None

    if checked := attempt("fp16", half):
        return checked
    stages, order = find_stages(full), list[int]()
    try:
        order = worst_first(stages, _errors(device, check, models))
    except EmotionError as error:
        refuse(f"mixed is skipped: the errors of fp16 cannot be measured ({error})")
    passed: dict[frozenset[int], CheckedEngine | None] = {}

    def passes(kept: frozenset[int]) -> bool:
        nodes = [node for index in kept for node in stages[index].nodes]
        passed[kept] = attempt("mixed", half_precision(full, keep=nodes), nodes)
        return passed[kept] is not None

    fewest = fewest_kept(order, passes, attempts=_MIXED_BUILDS)
    if checked := passed.get(fewest or frozenset()):
        return checked
    if checked := attempt("fp32", full):
        return checked
    raise EmotionError(
        f"{check.graph}: no engine of this TensorRT passes the parity check on this device "
        f"({'; '.join(refused)}). None is kept: use another version of TensorRT, or --backend cuda"
    )


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


def worst_first(stages: Sequence[Stage], errors: Sequence[float]) -> list[int]:
    """Return the indices of the stages with matrix products, those that add most error first.

    Stages are sorted by the factor by which each increases its input error, because an error grows in all
    later stages by more than it was at first.

    Args:
        stages: The stages, in order.
        errors: Relative error at the end of each stage; NaN counts as the worst.
    """
    known = [math.inf if math.isnan(error) else error for error in errors]

    def factor(index: int) -> float:
        given = max((known[i] for i in stages[index].before), default=0.0)
        return 0.0 if math.isinf(given) else known[index] / max(given, _ROUNDING)

    return sorted((i for i, stage in enumerate(stages) if stage.nodes), key=factor, reverse=True)


def _build_and_check(
    device: Device, check: Check, precision: EnginePrecision, model: onnx.ModelProto
) -> tuple[BuiltEngine, list[Parity], str]:
    built = device.build(model, f"{check.graph} in {precision}")
    with device.load(built.engine) as backend:
        rows, fault = check.run(backend, precision)
    return built, rows, fault


def _errors(device: Device, check: Check, models: tuple[onnx.ModelProto, onnx.ModelProto]) -> list[float]:
    """Return the relative RMS error of the fp16 engine at the end of each stage, on the largest batch.

    The fp32 graph in ONNX Runtime on the CPU counts as correct.
    """
    probes = [stage.probe for stage in find_stages(models[0])]
    right, wrong = (_with_outputs(model, probes) for model in models)
    feeds = [feed for group in check.feeds for feed in group]
    feed = max(feeds, key=lambda feed: sum(value.nbytes for value in feed.values()))
    expected = OnnxBackend(right.SerializeToString()).run(feed)
    built = device.build(wrong, f"{check.graph} in fp16, to find its worst layers")
    with device.load(built.engine) as backend:
        found = backend.run(feed)
    return [_relative_error(expected[probe], found[probe]) for probe in probes]


def _with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """Return the graph with additional tensors as outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    types = GraphIndex(model).types
    there = {output.name for output in model.graph.output}
    result.graph.output.extend(
        helper.make_tensor_value_info(name, types[name], None) for name in tensors if name not in there
    )
    return result


def _relative_error(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    a, b = expected.astype(np.float64), found.astype(np.float64)
    return float(np.sqrt(np.mean((a - b) ** 2) / max(np.mean(a**2), np.finfo(np.float64).tiny)))
