"""What only TensorRT for RTX does at run time: judge an engine before it is loaded, and compile kernels.

UNVERIFIED: see `engine`.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_runtime.errors import EmotionError, EngineRejected
from emotion_runtime.files import write_atomically
from emotion_runtime.tensorrt.api import TensorRT
from emotion_runtime.tensorrt.gpu import BUILD_AGAIN

if TYPE_CHECKING:
    import tensorrt

_log = logging.getLogger(__name__)

# Arguments of the type Any: the stubs describe `tensorrt`, and lack what only `tensorrt_rtx` has.


def check_validity(trt: TensorRT, runtime: Any, engine: bytes, description: str) -> None:
    """Ask whether a serialised engine fits this machine; warn if a new one would be faster.

    Raises:
        EngineRejected: It does not fit.
    """
    validity, found = runtime.get_engine_validity(engine)
    kinds = trt.EngineInvalidityDiagnostics.__members__
    reasons = [name.lower().replace("_", " ") for name, kind in kinds.items() if int(found) & int(kind)]
    reason = ", ".join(reasons) or "no reason given"
    if validity == trt.EngineValidity.INVALID:
        raise EngineRejected(f"the engine is not valid for {description} ({reason}): {BUILD_AGAIN}")
    if validity == trt.EngineValidity.SUBOPTIMAL:
        _log.warning("%s: the engine is slower than one that is built here (%s)", description, reason)


def runtime_settings(
    trt: TensorRT, engine: "tensorrt.ICudaEngine", kernels: Path | None
) -> "tensorrt.IRuntimeConfig":
    """Return how kernels are compiled, with those that an earlier start left in a file, if any."""
    typed = engine.create_runtime_config()
    settings: Any = typed
    settings.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    # By default it compiles in the background, and a graph would capture the general kernels for good.
    settings.dynamic_shapes_kernel_specialization_strategy = (
        trt.DynamicShapesKernelSpecializationStrategy.EAGER
    )
    compiled = settings.create_runtime_cache()
    if kernels is not None and kernels.is_file():
        compiled.deserialize(kernels.read_bytes())  # False, and still empty, for another GPU or driver
    settings.set_runtime_cache(compiled)
    return typed


def keep_kernels(settings: Any, kernels: Path) -> None:
    """Write the compiled kernels for the next start; a failure only makes that start slower."""
    try:
        write_atomically(kernels, bytes(settings.get_runtime_cache().serialize()))
    except EmotionError as error:
        _log.warning("compiled kernels were not saved, so the next start compiles them again: %s", error)
