"""What runs a detector's network: any backend that runs the encoders."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from emotion_runtime.backends.base import Backend, Unavailable
from emotion_runtime.backends.buckets import Bucketed, Limits
from emotion_runtime.backends.cuda import open_cuda
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.backends.openvino import OpenVinoBackend
from emotion_runtime.detectors.graph import DetectorGraph, Size
from emotion_runtime.detectors.network import CpuNetwork, Network, NetworkDetector, SizedNetwork
from emotion_runtime.errors import EngineRejected
from emotion_runtime.names import Precision

if TYPE_CHECKING:
    from emotion_runtime.detector_parity import DetectorCheck, DetectorPrecision
    from emotion_runtime.tensorrt.gpu import Flavor

# Modules for TensorRT engines are imported where they are needed, as in `open_backend`.

# Frames of one run on CUDA. Both sizes are run before the first result: cuDNN takes one to two seconds for a
# new size, a gap in the middle of a stream. On an H200 one frame takes 1.0 ms, four together take 2.1 ms.
_MOST_ON_CUDA = 2

_log = logging.getLogger(__name__)


def run_network(  # noqa: PLR0913 - all but the first two are keywords
    detector: NetworkDetector,
    backend: str,
    *,
    threads: int = 0,
    by_name: bool,
    precision: Precision | None,
    live: bool = False,
    level: int = logging.INFO,
) -> Network:
    """Run a detector's network with a backend from now on, and return what runs it.

    Backends other than ONNX Runtime on the CPU are opened for each size of frames when its first frame comes,
    which waits for a missing TensorRT engine to be built.

    Args:
        detector: The detector, whose network is replaced.
        backend: Name of the backend.
        threads: Number of threads on the CPU; 0: `default_threads()`.
        by_name: The user requested this backend: it is used, or its error is raised. Otherwise ONNX Runtime
            replaces it, with one line in the log, and no engine is built.
        precision: Numeric precision that was requested.
        live: Do not wait for engines that are built: ONNX Runtime finds people meanwhile.
        level: Of the line in the log that says what OpenVINO runs.
    """
    graph = detector.graph
    if backend == "openvino":
        # bfloat16: half the time, and overlaps of 0.97 or more with the boxes of fp32
        # (`benchmarks/results/detector/`).
        tried = (False,) if precision == "fp32" else (True, False)
        in_openvino = partial(_in_openvino, detector, tried, threads=threads, by_name=by_name, level=level)
        detector.network = SizedNetwork(graph, in_openvino, batches=False)
    elif backend == "cuda":
        detector.network = SizedNetwork(graph, partial(_on_cuda, detector, by_name=by_name), batches=True)
    elif backend.startswith("tensorrt"):
        flavor = cast("Flavor", backend)
        open_at = partial(_on_tensorrt, detector, flavor, precision, by_name=by_name, live=live)
        detector.network = SizedNetwork(graph, open_at, batches=True)
    elif threads:
        detector.network = CpuNetwork(graph, fix="", threads=threads)
    return detector.network


def _in_openvino(
    detector: NetworkDetector,
    bfloat16: Sequence[bool],
    size: Size,
    *,
    threads: int,
    by_name: bool,
    level: int,
) -> Backend:
    """Open the graph for a size, in the first precision that passes the parity check.

    Args:
        detector: The detector.
        bfloat16: Whether to compute in bfloat16, in the order in which it is tried.
        size: (height, width) of the frames.
        threads: As for `run_network`.
        by_name: As for `run_network`.
        level: As for `run_network`.
    """
    graph = detector.graph
    frames = f"{graph.title} for frames of {size[1]}x{size[0]}"
    check = _make_check(detector, size, most=1)
    for half in bfloat16:
        opened = OpenVinoBackend(graph.at_size(size), threads=threads, bfloat16=half)
        failure = _failure(check, opened, "bf16" if opened.precision == "bf16" else "fp32")
        if not failure:
            _log.log(level, "%s: %s", frames, opened.description)
            return opened
        rejected = f"{opened.description} fails the parity check ({failure})"
        if half:
            _log.warning("%s: %s: trying fp32", frames, rejected)
    reason = Unavailable("openvino", f"{frames}: {rejected}", broken=True)
    if by_name:
        raise reason
    return _on_cpu(graph, size, reason)


def _make_check(detector: NetworkDetector, size: Size, *, most: int) -> "DetectorCheck":
    """Make the parity check for batches of up to `most` frames; each frame is also run on the CPU."""
    from emotion_runtime.detector_parity import make_detector_check  # noqa: PLC0415 - slow, and only here

    return make_detector_check(detector, size, detector.graph.stem, Limits(most, most))


def _failure(check: "DetectorCheck", opened: Backend, precision: "DetectorPrecision") -> str:
    """Return why a backend fails the parity check; an empty text if it passes."""
    try:
        return check.run(opened, precision)[1]
    except EngineRejected as error:
        return str(error)


def _on_cuda(detector: NetworkDetector, size: Size, *, by_name: bool) -> Backend:
    graph = detector.graph
    try:
        opened = _in_cuda(graph, size)
    except Unavailable as error:
        reason = error
    else:
        failure = _failure(_make_check(detector, size, most=_most_on_cuda(graph)), opened, "fp32")
        if not failure:
            return opened
        opened.close()
        frames = f"{graph.title} for frames of {size[1]}x{size[0]}"
        rejected = f"{opened.description} fails the parity check ({failure})"
        reason = Unavailable("cuda", f"{frames}: {rejected}", broken=True)
    if by_name:
        raise reason
    return _on_cpu(graph, size, reason)


def _in_cuda(graph: DetectorGraph, size: Size) -> Backend:
    most = _most_on_cuda(graph)
    return Bucketed(open_cuda(graph.at_size(size)), Limits(most, most))


def _most_on_cuda(graph: DetectorGraph) -> int:
    return 1 if graph.one_by_one else _MOST_ON_CUDA


def _on_cpu(graph: DetectorGraph, size: Size, error: Unavailable) -> Backend:
    serving = OnnxBackend(graph.at_size(size))
    _log.warning("%s for frames of %dx%d: %s; %s", graph.title, size[1], size[0], serving.description, error)
    return serving


def _on_tensorrt(
    detector: NetworkDetector,
    flavor: "Flavor",
    precision: Precision | None,
    size: Size,
    *,
    by_name: bool,
    live: bool,
) -> Backend:
    """Open the engine for a size. If it must be built first, wait, or run ONNX Runtime until it is."""
    from emotion_runtime.tensorrt import build_client, keys, open_engines  # noqa: PLC0415 - see above

    graph, wanted = detector.graph, keys.detector_precision(precision)
    open_engine = partial(open_engines.open_detector_engine, detector, size, flavor, wanted)
    if not by_name:
        try:
            return open_engine()
        except Unavailable as error:  # the engine is missing, or the encoders have filled the GPU's memory
            return _on_cpu(graph, size, error)
    (engine,) = open_engines.open_or_build(
        flavor,
        lambda: [open_engine()],
        build_client.detector_arguments(graph.source, size, flavor, wanted),
        meanwhile=(lambda: [_until_built(graph, size)]) if live else None,
        comparable=detector.comparable,
    )
    return engine


def _until_built(graph: DetectorGraph, size: Size) -> Backend:
    try:
        return _in_cuda(graph, size)
    except Unavailable:
        return OnnxBackend(graph.at_size(size))
