"""The precision fallback: find the lowest precision in which an engine still equals the model.

fp16 is tried first, then fp16 with the worst layers in fp32, then fp32. Every engine is built, run and
compared with the fp32 graph, because errors of fp16 depend on the kernels of a GPU and cannot be predicted.
If an engine cannot be built or loaded, the next precision is tried.
"""

import logging
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager

import onnx
from msgspec.structs import replace

from emotion_export.fp16 import half_precision
from emotion_export.layer_search import find_stages, keep_worst_in_fp32, stage_errors, with_probes
from emotion_runtime.backends.base import Backend
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.detector_parity import Check
from emotion_runtime.errors import EmotionError
from emotion_runtime.names import EnginePrecision
from emotion_runtime.tensorrt.cache import Sidecar

_log = logging.getLogger(__name__)

_MIXED_BUILDS = 2  # of the search for the layers that stay in fp32; each takes minutes on a small device

Built = tuple[bytes, Sidecar]  # a serialised engine, and what is known about it

# Builds an engine from a graph and its name in messages, and loads it for the duration of a `with` block.
BuildAndLoad = Callable[[onnx.ModelProto, str], AbstractContextManager[tuple[Built, Backend]]]


def build_in_precision(
    build: BuildAndLoad, check: Check, precision: EnginePrecision, model: onnx.ModelProto
) -> Built:
    """Build and check an engine in the one precision that the user requested.

    Raises:
        EmotionError: The engine cannot be built or loaded, or fails the parity check.
    """
    built, failure = _build_and_check(build, check, precision, model)
    if failure:
        raise EmotionError(
            f"{check.graph}: on this device {failure}. The engine is not kept: use --precision ladder, which "
            "falls back to the first precision that passes"
        )
    return built


def build_with_fallback(
    build: BuildAndLoad, check: Check, full: onnx.ModelProto, half: onnx.ModelProto
) -> Built:
    """Return the first engine that passes the parity check.

    Args:
        build: Builds and loads engines on the device.
        check: The parity check of the graph.
        full: The graph in fp32.
        half: The graph in fp16.

    Raises:
        EmotionError: Not even fp32 passes.
    """
    refused: list[str] = []
    passed: list[Built] = []  # the latest keeps the fewest layers in fp32

    def refuse(line: str) -> None:
        refused.append(line)
        _log.info("%s: %s", check.graph, line)

    def attempt(precision: EnginePrecision, model: onnx.ModelProto, kept: Collection[str] = ()) -> bool:
        try:
            (engine, sidecar), failure = _build_and_check(build, check, precision, model)
        except EmotionError as error:
            failure = f"{precision} is not available ({error})"
        if failure:
            refuse(failure + (f" ({len(kept)} matrix products kept in fp32)" if kept else ""))
        else:
            passed[:] = [(engine, replace(sidecar, fp32_layers=sorted(kept), refused=refused))]
        return not failure

    def passes(kept: frozenset[str]) -> bool:
        return attempt("mixed", half_precision(full, keep=kept), kept) if kept else attempt("fp16", half)

    stages = find_stages(full)

    def errors() -> list[float]:
        """Compare fp16 on the device with fp32 in ONNX Runtime on the CPU, on the largest batch."""
        feed = check.feeds[-1][0]
        expected = OnnxBackend(with_probes(full, stages).SerializeToString()).run(feed)
        name = f"{check.graph} in fp16, to find its worst layers"
        with build(with_probes(half, stages), name) as (_, backend):
            return stage_errors(stages, expected, backend.run(feed))

    try:
        keep_worst_in_fp32(stages, errors, passes, attempts=_MIXED_BUILDS)
    except EmotionError as error:
        refuse(f"mixed is skipped: the errors of fp16 cannot be measured ({error})")
    if passed or attempt("fp32", full):
        return passed[0]
    raise EmotionError(
        f"{check.graph}: no engine of this TensorRT passes the parity check on this device "
        f"({'; '.join(refused)}). None is kept: use another version of TensorRT, or --backend cuda"
    )


def _build_and_check(
    build: BuildAndLoad, check: Check, precision: EnginePrecision, model: onnx.ModelProto
) -> tuple[Built, str]:
    """Return an engine with its parity report, and why it fails the check; an empty text if it passes."""
    with build(model, f"{check.graph} in {precision}") as ((engine, sidecar), backend):
        rows, failure = check.run(backend, precision)
    return (engine, replace(sidecar, precision=precision, parity=rows)), failure
