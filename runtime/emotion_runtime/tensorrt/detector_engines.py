"""TensorRT engines of a detector, one for each size of its input, opened from the cache.

UNVERIFIED: no GPU was available. Verify with `emotion-runtime --source demo --backend tensorrt`
(tensorrt-rtx). The decisions made here are tested with stand-ins for engines and GPU.
"""

from functools import partial

from emotion_runtime import __version__
from emotion_runtime.backends.base import Backend
from emotion_runtime.detector_parity import detector_limits, make_detector_check
from emotion_runtime.detectors.graph import DetectorGraph, Size
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.names import Precision, RequestedPrecision
from emotion_runtime.tensorrt import build_client
from emotion_runtime.tensorrt.gpu import Flavor, Gpu
from emotion_runtime.tensorrt.open_engines import WantedEngine, find_machine, open_cached
from emotion_runtime.tensorrt.sidecar import EngineKey


def detector_precision(precision: Precision | None) -> RequestedPrecision:
    """Return the precision of a detector's engines for the one that was requested for the encoders.

    There is no int8 detector: on the CPU, int8 loses boxes (`benchmarks/results/detector/`).
    """
    return "fp32" if precision == "fp32" else "ladder"


def detector_key(
    graph: DetectorGraph, size: Size, precision: RequestedPrecision, *, builder: str, gpu: Gpu
) -> EngineKey:
    """Return the key of a detector's engine.

    Args:
        graph: The detector.
        size: (height, width) of its input.
        precision: The requested precision.
        builder: See `gpu.builder_name`.
        gpu: The GPU; with an empty name for an engine built ahead of time.
    """
    limits = detector_limits(graph)
    sources = {"fp32": graph.sha256}
    if precision != "fp32":
        sources["fp16"] = f"derived by emotion-runtime {__version__}"
    return EngineKey(
        f"{graph.stem}_{size[1]}x{size[0]}",
        sources,
        builder,
        gpu.name,
        gpu.compute_capability,
        precision,
        limits.persons,
        limits.images,
    )


def open_detector_engine(
    detector: NetworkDetector, flavor: Flavor, precision: RequestedPrecision, size: Size
) -> Backend:
    """Open the engine of a detector for frames of one size (height, width) from the cache.

    Raises:
        Unavailable: TensorRT or a GPU is not available, or the GPU's memory is full. `MissingEngine`: only
            the engine is missing, or the cached one cannot be loaded or fails the parity check.
    """
    graph = detector.graph
    gpu, builder = find_machine(flavor)
    key = detector_key(graph, size, precision, builder=builder, gpu=gpu)
    check = partial(make_detector_check, detector, size, key.graph)
    build = build_client.detector_arguments(graph.source, size, flavor, precision)
    return open_cached([WantedEngine(key, detector_limits(graph), check)], flavor, gpu, build)[0]
