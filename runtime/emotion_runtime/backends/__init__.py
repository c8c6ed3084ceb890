"""Ways to run a graph, one small class each behind one Protocol, and the choice among them."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from emotion_runtime.backends.base import Backend, Unavailable
from emotion_runtime.backends.buckets import Bucketed
from emotion_runtime.backends.cuda import open_cuda
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.backends.openvino import OpenVinoBackend
from emotion_runtime.errors import EmotionError

__all__ = ["Backend", "BackendName", "Unavailable", "open_backend", "open_backends"]

BackendName = Literal["auto", "cpu", "cuda", "tensorrt", "tensorrt-rtx", "openvino"]

_log = logging.getLogger(__name__)


def open_backend(name: str, graph: Path) -> Backend:
    """Open one graph; see `open_backends`."""
    return open_backends(name, [graph])[0]


def open_backends(name: str, graphs: Sequence[Path]) -> list[Backend]:
    """Open the graphs of a model, all on the same backend.

    name: "cpu", "cuda", "openvino"; "auto" for CUDA where it really starts and the CPU otherwise, which is
    logged with the reason. A backend asked for by name is had or is an error, never something else in
    silence. OpenVINO is taken by name only: whether it is faster depends on the CPU (measure with
    benchmarks/bench_encoder.py), and a choice by stop-watch would give other results from run to run.

    Raises:
        EmotionError: the backend is unknown, not in this version, not installed or does not start
            (`Unavailable`), or it cannot load a graph.

    """
    if name not in get_args(BackendName):
        raise EmotionError(f"backend {name!r} is not known: expected {', '.join(get_args(BackendName))}")
    if name in ("tensorrt", "tensorrt-rtx"):
        raise EmotionError(f"backend {name} is not in this version yet: use --backend cuda, cpu or auto")
    if name != "auto":
        return [_OPENERS[name](graph) for graph in graphs]
    passed_over: list[Unavailable] = []
    for candidate in ("cuda", "cpu"):
        try:
            chosen = [_OPENERS[candidate](graph) for graph in graphs]
        except Unavailable as reason:
            passed_over.append(reason)
            continue
        reasons = "".join(f"; {each.reason}" for each in passed_over)
        level = logging.WARNING if any(each.broken for each in passed_over) else logging.INFO
        _log.log(level, "backend auto: %s%s", chosen[0].description, reasons)
        return chosen
    raise AssertionError("the CPU is never unavailable")


def _open_bound(graph: Path) -> Backend:
    return Bucketed(open_cuda(graph))


_OPENERS: dict[str, Callable[[Path], Backend]] = {
    "cpu": OnnxBackend,
    "cuda": _open_bound,
    "openvino": OpenVinoBackend,
}
