"""The part of TensorRT's Python API that this project calls, so that mypy checks every call.

Whether the module is `tensorrt` or `tensorrt_rtx` is chosen at run time, and mypy takes every attribute of a
module that is a variable for `Any`. Types come from the package tensorrt-stubs, which describes `tensorrt`
10.13; what only `tensorrt_rtx` has stays `Any`.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import tensorrt


class TensorRT(Protocol):
    """A module, `tensorrt` or `tensorrt_rtx`."""

    __version__: str
    Builder: "type[tensorrt.Builder]"
    BuilderFlag: "type[tensorrt.BuilderFlag]"
    # Only tensorrt_rtx has these.
    ComputeCapability: Any
    DynamicShapesKernelSpecializationStrategy: Any
    EngineInvalidityDiagnostics: Any
    EngineValidity: Any
    # Both have these.
    ExecutionContextAllocationStrategy: "type[tensorrt.ExecutionContextAllocationStrategy]"
    ILogger: "type[tensorrt.ILogger]"
    IProgressMonitor: "type[tensorrt.IProgressMonitor]"
    LayerInformationFormat: "type[tensorrt.LayerInformationFormat]"
    MemoryPoolType: "type[tensorrt.MemoryPoolType]"
    NetworkDefinitionCreationFlag: "type[tensorrt.NetworkDefinitionCreationFlag]"
    OnnxParser: "type[tensorrt.OnnxParser]"
    ProfilingVerbosity: "type[tensorrt.ProfilingVerbosity]"
    Runtime: "type[tensorrt.Runtime]"
    TensorIOMode: "type[tensorrt.TensorIOMode]"
    nptype: Callable[["tensorrt.DataType"], type[Any]]


def make_logger(trt: TensorRT) -> Any:
    """Return a logger that keeps errors, which TensorRT's own one prints to standard output.

    Its method `reason` returns those since its last call, in one line.
    """

    class Logger(trt.ILogger):  # type: ignore[name-defined, misc]  # the module is a variable
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self._errors.append(one_line(msg))

        def reason(self) -> str:
            # The first error is not always the reason: some kernels fail and others take their place.
            errors = "; ".join(dict.fromkeys(self._errors))
            self._errors.clear()
            return errors or "TensorRT gives no reason"

    return Logger()


def one_line(message: str) -> str:
    """Return a message in one line, without the complaint about a missing GPU that often follows."""
    return " ".join(re.sub(r"\[\S*catchCudaError.*", "", message, flags=re.DOTALL).split()).rstrip("; ")
