"""What runs a detector's network: any backend that runs the encoders."""

import logging
from collections.abc import Callable
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
    from emotion_runtime.detector_parity import DetectorPrecision
    from emotion_runtime.tensorrt.gpu import Flavor

# Modules for TensorRT engines are imported where they are needed, as in `open_backend`.

# Frames of one run on CUDA. Both sizes are run before the first result: cuDNN takes one to two seconds for a
# new size, a gap in the middle of a stream. On an H200 one frame takes 1.0 ms, four together take 2.1 ms.
_MOST_ON_CUDA = 2

_log = logging.getLogger(__name__)


def run_network(
    detector: NetworkDetector,
    backend: str,
    *,
    threads: int = 0,
    by_name: bool,
    precision: Precision | None,
    live: bool = False,
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
    """
    graph = detector.graph
    open_at: Callable[[Size], Backend] | None = None
    if backend == "openvino":
        open_at = partial(_in_openvino, detector, threads, precision)
    elif backend == "cuda":
        open_at = partial(_in_cuda, detector)
    elif backend.startswith("tensorrt"):
        flavor = cast("Flavor", backend)
        open_at = partial(_in_tensorrt, detector, flavor, precision, build=by_name, live=live)
    if open_at is not None:
        open_at = open_at if by_name else partial(_open_or_use_cpu, graph, open_at)
        detector.network = SizedNetwork(graph, open_at, batches=backend != "openvino")
    elif threads:
        detector.network = CpuNetwork(graph, fix="", threads=threads)
    return detector.network


def _open_or_use_cpu(graph: DetectorGraph, open_at: Callable[[Size], Backend], size: Size) -> Backend:
    try:
        return open_at(size)
    except Unavailable as error:  # also if the encoders have filled the GPU's memory
        serving = OnnxBackend(graph.at_size(size))
        frames = f"{graph.title} for frames of {size[1]}x{size[0]}"
        _log.warning("%s: %s; %s", frames, serving.description, error)
        return serving


def _in_openvino(detector: NetworkDetector, threads: int, precision: Precision | None, size: Size) -> Backend:
    """Open the graph in bfloat16, or in fp32 if that was requested or bfloat16 fails the parity check."""
    # bfloat16: half the time, and overlaps of 0.97 or more with the boxes of fp32
    # (`benchmarks/results/detector/`).
    if precision != "fp32":
        opened = OpenVinoBackend(detector.graph.at_size(size), threads=threads, bfloat16=True)
        try:
            return _checked(detector, size, opened, "bf16" if opened.precision == "bf16" else "fp32")
        except Unavailable as error:
            _log.warning("%s: trying fp32", error.reason)
    opened = OpenVinoBackend(detector.graph.at_size(size), threads=threads, bfloat16=False)
    return _checked(detector, size, opened, "fp32")


def _in_cuda(detector: NetworkDetector, size: Size) -> Backend:
    most = 1 if detector.graph.one_by_one else _MOST_ON_CUDA
    opened = Bucketed(open_cuda(detector.graph.at_size(size)), Limits(most, most))
    return _checked(detector, size, opened, "fp32", most=most)


def _checked(
    detector: NetworkDetector, size: Size, opened: Backend, precision: "DetectorPrecision", *, most: int = 1
) -> Backend:
    """Return a backend if it passes the parity check in batches of up to `most` frames, else close it.

    Raises:
        Unavailable: It does not pass.
    """
    from emotion_runtime.detector_parity import make_detector_check  # noqa: PLC0415 - slow, and only here

    graph = detector.graph
    check = make_detector_check(detector, size, graph.stem, Limits(most, most))
    try:
        _, failure = check.run(opened, precision)
    except EngineRejected as error:
        failure = str(error)
    if failure:
        opened.close()
        reason = f"{graph.title}: {opened.description} fails the parity check ({failure})"
        raise Unavailable(opened.name, reason, broken=True)
    return opened


def _in_tensorrt(
    detector: NetworkDetector,
    flavor: "Flavor",
    precision: Precision | None,
    size: Size,
    *,
    build: bool,
    live: bool,
) -> Backend:
    """Open the engine for a size. If it must be built first, wait, or run ONNX Runtime until it is."""
    from emotion_runtime.tensorrt import keys, open_engines  # noqa: PLC0415 - see above

    wanted = keys.detector_precision(precision)
    open_engine = partial(open_engines.open_detector_engine, detector, size, flavor, wanted)
    if not build:
        return open_engine()[0]

    def on_cpu() -> list[Backend]:
        return [OnnxBackend(detector.graph.at_size(size))]

    return open_engines.open_or_build(
        flavor, open_engine, meanwhile=on_cpu if live else None, comparable=detector.comparable
    )[0]
