"""The OpenVINO backend, on the CPU."""

import importlib
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from emotion_runtime.backends.base import Feeds, Outputs, Unavailable
from emotion_runtime.backends.onnx import count_threads, default_threads
from emotion_runtime.errors import EmotionError
from emotion_runtime.forks import keep_in_children
from emotion_runtime.telemetry import hide_openvino_telemetry


class OpenVinoBackend:
    """A graph in OpenVINO. See `emotion_runtime.backends.base.Backend`.

    Args:
        graph: The ONNX file, or the content of one.
        threads: Number of threads; 0: `default_threads()`.
        bfloat16: Compute in bfloat16, if the CPU does so by itself.

    Attributes:
        precision: What it computes in, "f32" or "bf16".

    Raises:
        Unavailable: OpenVINO is not installed.
        EmotionError: OpenVINO cannot load the graph.
    """

    name = "openvino"

    def __init__(self, graph: Path | bytes, *, threads: int = 0, bfloat16: bool = False) -> None:
        openvino = _openvino()
        threads = threads or default_threads()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # By default OpenVINO computes in bfloat16 on some CPUs; the bundle's parity was measured in
            # float32.
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "ENABLE_CPU_PINNING": False,  # the detector and the video decoder need the same cores
        }
        core = _core(os.getpid())
        try:
            # From memory, so that a graph with weights in a second file is refused: its hash would not cover
            # them.
            content = graph if isinstance(graph, bytes) else graph.read_bytes()
            compiled = core.compile_model(core.read_model(content), "CPU", settings)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            name = "the graph" if isinstance(graph, bytes) else str(graph)
            raise EmotionError(
                f"{name}: OpenVINO {openvino.__version__} cannot load it ({reason}); use --backend cpu"
            ) from error
        self._request: Any = compiled.create_infer_request()
        keep_in_children(self)
        self._names = [output.any_name for output in compiled.outputs]
        version = openvino.__version__.split("-")[0]
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self.description = f"OpenVINO {version}, CPU, {count_threads(threads)}, {self.precision}"

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs by name."""
        results = self._request.infer(dict(feeds), share_inputs=True)
        return {
            name: np.array(results[name]) for name in self._names
        }  # copies: the request reuses its arrays

    def close(self) -> None:
        """Do nothing: OpenVINO's objects are freed together with this one."""


@cache
def _core(process: int) -> Any:
    """Return the one `openvino.Core` of a process, which is never destroyed.

    Its plugin gives the thread that made it a stack for signal handlers. Of several that are destroyed in
    another order than the reverse one, the last restores a stack that is freed already, and the next signal,
    such as Ctrl-C, ends the process with a segmentation fault (measured with OpenVINO 2026.4).

    Args:
        process: Id of this process; the threads of a core do not survive a fork.
    """
    del process
    return _openvino().Core()


def _openvino() -> Any:
    hide_openvino_telemetry()
    try:
        return importlib.import_module("openvino")  # an extra: everything else must import without it
    except ModuleNotFoundError as error:
        raise Unavailable("openvino", "OpenVINO is not installed", fix="pip install openvino") from error
