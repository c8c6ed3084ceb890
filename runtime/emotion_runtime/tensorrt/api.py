"""The part of TensorRT's Python API that this project calls, so that mypy checks every call.

Whether the module is `tensorrt` or `tensorrt_rtx` is chosen at run time, and mypy takes every attribute of a
module that is a variable for `Any`. Types come from the package tensorrt-stubs, which describes `tensorrt`
10.13; what only `tensorrt_rtx` has stays `Any`.
"""

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
    Logger: "type[tensorrt.Logger]"
    MemoryPoolType: "type[tensorrt.MemoryPoolType]"
    NetworkDefinitionCreationFlag: "type[tensorrt.NetworkDefinitionCreationFlag]"
    OnnxParser: "type[tensorrt.OnnxParser]"
    ProfilingVerbosity: "type[tensorrt.ProfilingVerbosity]"
    Runtime: "type[tensorrt.Runtime]"
    TensorIOMode: "type[tensorrt.TensorIOMode]"
    nptype: Callable[["tensorrt.DataType"], type[Any]]
