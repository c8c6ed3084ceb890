"""Ways to run a graph, one small class each behind one Protocol."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from numpy.typing import NDArray

from emotion_runtime.backends.onnx import CPU, CUDA, OnnxBackend, available_providers
from emotion_runtime.errors import EmotionError

__all__ = ["Backend", "BackendName", "open_backend"]

BackendName = Literal["auto", "cpu", "cuda", "tensorrt", "tensorrt-rtx"]

_GPU_INSTALL = 'pip uninstall -y onnxruntime && pip install "emotion-runtime[gpu]"'

_log = logging.getLogger(__name__)


class Backend(Protocol):
    """One graph, ready to run."""

    @property
    def description(self) -> str:
        """What runs the graph, and on what, for people."""
        ...

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name. feeds: every input of the graph by name, of the dtype and shape it declares."""
        ...


def open_backend(name: str, graph: Path) -> Backend:
    """Open a graph on a backend.

    name: "cpu", "cuda", or "auto" for CUDA where it really starts and the CPU otherwise. A backend asked for
    by name is had or is an error, never something else in silence.

    Raises:
        EmotionError: the backend is unknown, not in this version, not installed or does not start, or it
            cannot load the graph.

    """
    if name not in get_args(BackendName):
        raise EmotionError(f"backend {name!r} is not known: expected {', '.join(get_args(BackendName))}")
    if name in ("tensorrt", "tensorrt-rtx"):
        raise EmotionError(f"backend {name} is not in this version yet: use --backend cuda, cpu or auto")
    if name == "cpu":
        return OnnxBackend(graph, CPU)
    if CUDA not in available_providers():
        if name == "auto":
            return OnnxBackend(graph, CPU)
        raise EmotionError(
            f"backend cuda: the installed ONNX Runtime has no CUDA in it: {_GPU_INSTALL}, "
            "or use --backend cpu"
        )
    backend = OnnxBackend(graph, CUDA)
    # ONNX Runtime falls back to the CPU without an exception, so what was got is compared.
    if backend.provider == CUDA:
        return backend
    reason = "CUDA did not start (driver, CUDA or cuDNN libraries missing or of another version)"
    if name == "cuda":
        raise EmotionError(f"backend cuda: {reason}: see what nvidia-smi says, or use --backend cpu")
    _log.warning("backend auto: %s; running on the CPU", reason)
    return OnnxBackend(graph, CPU)
