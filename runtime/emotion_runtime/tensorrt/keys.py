"""The keys of the engines of a bundle and of a detector: what each is built from and for."""

from emotion_runtime import __version__
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.bundle import Bundle
from emotion_runtime.detector_parity import detector_limits
from emotion_runtime.detectors.graph import DetectorGraph, Size
from emotion_runtime.names import GraphName, Precision, RequestedPrecision
from emotion_runtime.tensorrt.cache import EngineKey
from emotion_runtime.tensorrt.gpu import Gpu

_DERIVED = f"derived by emotion-runtime {__version__}"


def encoder_key(
    bundle: Bundle,
    graph: GraphName,
    precision: RequestedPrecision,
    limits: Limits,
    *,
    builder: str,
    gpu: Gpu,
) -> EngineKey:
    """Return the key of a bundle's graph.

    For the builder's name see `gpu.builder_name`; the GPU of an engine built ahead of time has no name.

    Raises:
        EmotionError: The bundle does not have the graph in the requested precision.
    """
    stated = bundle.manifest.graphs[graph]
    sources = {"fp32": stated.sha256}  # every engine is compared with the fp32 graph
    wanted: Precision = "fp16" if precision == "ladder" else precision
    if precision == "ladder" and wanted not in stated.variants:
        sources[wanted] = _DERIVED
    elif wanted != "fp32":
        bundle.graph_path(graph, wanted)  # raises the error that lists what the bundle has
        sources[wanted] = stated.variants[wanted].sha256
    if wanted == "int8":  # what lies between the integer products is converted by the program
        sources["fp16"] = _DERIVED
    return EngineKey(
        graph, sources, builder, gpu.name, gpu.compute_capability, precision, limits.persons, limits.images
    )


def detector_key(
    graph: DetectorGraph, size: Size, precision: RequestedPrecision, *, builder: str, gpu: Gpu
) -> EngineKey:
    """Return the key of a detector's graph for one size (height, width) of its input; see `encoder_key`."""
    sources = {"fp32": graph.sha256} if precision == "fp32" else {"fp32": graph.sha256, "fp16": _DERIVED}
    name = f"{graph.stem}_{size[1]}x{size[0]}"
    limits = detector_limits(graph)
    return EngineKey(
        name, sources, builder, gpu.name, gpu.compute_capability, precision, limits.persons, limits.images
    )


def detector_precision(precision: RequestedPrecision | None) -> RequestedPrecision:
    """Return the precision of a detector's engines for the one that was requested for the encoders.

    There is no int8 detector: on the CPU, int8 loses boxes (`benchmarks/results/detector/`).
    """
    return "fp32" if precision == "fp32" else "ladder"
