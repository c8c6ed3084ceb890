"""TensorRT engines, opened from the cache or built.

UNVERIFIED: no GPU with TensorRT was available. Verify with `emotion-runtime --source demo --backend tensorrt`
(tensorrt-rtx). The decisions made here are tested with stand-ins for engines and GPU.
"""

import logging
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from emotion_runtime import parity
from emotion_runtime.backends.base import Backend, Unavailable
from emotion_runtime.backends.buckets import Bucketed, Limits, limits_for
from emotion_runtime.backends.switching import Comparable, build_in_background
from emotion_runtime.bundle import Bundle
from emotion_runtime.detector_parity import Check, detector_limits, make_detector_check
from emotion_runtime.detectors.graph import Size
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.errors import EmotionError, EngineRejected
from emotion_runtime.names import GRAPHS, RequestedPrecision
from emotion_runtime.tensorrt import build_client, cache, keys
from emotion_runtime.tensorrt import gpu as nvidia
from emotion_runtime.tensorrt.driver import CudaError
from emotion_runtime.tensorrt.engine import TensorRTBackend
from emotion_runtime.tensorrt.gpu import Flavor, Gpu

_log = logging.getLogger(__name__)


def open_or_build(
    flavor: Flavor,
    open_engines: Callable[[], list[Backend]],
    *,
    meanwhile: Callable[[], list[Backend]] | None,
    comparable: Comparable | None = None,
) -> list[Backend]:
    """Open engines that the user requested by name; those that are missing are built first.

    What is live goes on with another backend meanwhile. A file waits: its results must not depend on when a
    build ends.

    Args:
        flavor: The TensorRT flavor.
        open_engines: Opens the engines from the cache.
        meanwhile: Opens the backends that run until the engines are built in a thread; if the build fails,
            their next run raises its error. None: wait for the engines.
        comparable: See `SwitchingBackend`.

    Raises:
        Unavailable: The engines cannot be opened.
        EmotionError: They cannot be built.
    """
    try:
        return open_engines()
    except Unavailable as missing:
        command = build_client.builder_command(missing.build) if missing.build else None
        if command is None:
            raise
        if missing.broken:
            _log.warning("backend %s: %s: building it again", flavor, missing.reason)

    def build() -> list[Backend]:
        build_client.run_builder(command)
        return open_engines()

    if meanwhile is None:
        _log.info("building %s engines, which takes minutes; the first frame waits for them", flavor)
        return build()
    serving = meanwhile()
    until = serving[0].description
    _log.info("building %s engines, which takes minutes; until then: %s", flavor, until)
    return build_in_background(serving, build, name=f"{flavor} engines", comparable=comparable)


def open_encoder_engines(bundle: Bundle, flavor: Flavor, precision: RequestedPrecision) -> list[Backend]:
    """Open the engines of both encoders from the cache, both or none.

    Raises:
        Unavailable: TensorRT or a GPU is not available, or the GPU's memory is full. With `build`: only an
            engine is missing; `broken` if the cached one cannot be loaded or fails the parity check.
    """
    gpu, builder = _find_machine(flavor)
    limits = limits_for(bundle.manifest.preprocess.window)
    build = build_client.bundle_arguments(bundle, flavor, precision)
    opened: list[Backend] = []
    with ExitStack() as stack:
        for graph in GRAPHS:
            key = keys.encoder_key(bundle, graph, precision, limits, builder=builder, gpu=gpu)
            check = partial(parity.make_parity_check, bundle, graph)
            opened.append(_open_cached(key, limits, check, flavor, gpu, build))
            stack.callback(opened[-1].close)
        stack.pop_all()
    return opened


def open_detector_engine(
    detector: NetworkDetector, size: Size, flavor: Flavor, precision: RequestedPrecision
) -> list[Backend]:
    """Open the one engine of a detector for frames of a size (height, width); see `open_encoder_engines`."""
    gpu, builder = _find_machine(flavor)
    key = keys.detector_key(detector.graph, size, precision, builder=builder, gpu=gpu)
    check = partial(make_detector_check, detector, size, key.graph)
    build = build_client.detector_arguments(detector.graph.source, size, flavor, precision)
    return [_open_cached(key, detector_limits(detector.graph), check, flavor, gpu, build)]


def _find_machine(flavor: Flavor) -> tuple[Gpu, str]:
    """Return the GPU that engines of a flavor are opened on, and the name of their builder."""
    try:
        if not nvidia.is_installed(flavor):
            nvidia.load_tensorrt(flavor)  # raises the error that says how to install it
        gpu = nvidia.find_gpu()  # before TensorRT's libraries, which take a second to load
        builder = nvidia.builder_name(flavor, nvidia.load_tensorrt(flavor))
    except EmotionError as error:
        # A driver that does not start is worth a warning; no driver is not.
        raise Unavailable(flavor, str(error), broken=isinstance(error, CudaError)) from error
    return gpu, builder


def _open_cached(
    key: cache.EngineKey,
    limits: Limits,
    make_check: Callable[[Limits], Check],
    flavor: Flavor,
    gpu: Gpu,
    build: Sequence[str],
) -> Backend:
    """Open the best engine for a key that loads and passes the parity check; discard those that do not.

    `limits` are the largest batch of the usual engine, `build` the arguments that build it.
    """
    rejected: list[EngineRejected] = []
    folders = dict.fromkeys([cache.cache_folder(), cache.default_folder()])  # the second may be read-only
    for folder in folders:
        for sidecar, engine in cache.compatible_engines(folder, key):
            largest = replace(limits, persons=sidecar.key.persons, images=sidecar.key.images)
            try:
                backend = _load(folder, sidecar, engine, flavor, gpu, partial(make_check, largest))
            except EngineRejected as error:
                cache.discard(folder, sidecar.key)
                rejected.append(error)
                continue
            except EmotionError as error:
                raise Unavailable(flavor, str(error), broken=True) from error
            for each in rejected:
                _log.warning("%s: using another engine", each)
            return Bucketed(backend, largest)
    if rejected:
        reason = str(rejected[0])
    else:
        found = cache.find_engine(cache.default_folder(), key)
        reason = f"no engine of {key.graph} ({found if isinstance(found, str) else 'built at this moment'})"
    command = shlex.join(["emotion-export", "trt", *build])
    raise Unavailable(flavor, reason, fix=command, broken=bool(rejected), build=build)


def _load(
    folder: Path,
    sidecar: cache.Sidecar,
    engine: bytes,
    flavor: Flavor,
    gpu: Gpu,
    make_check: Callable[[], Check],
) -> Backend:
    """Load a cached engine. Without a passed parity check on this GPU and driver, check it first."""
    name = sidecar.key.graph
    backend = TensorRTBackend(engine, flavor=flavor, kernels=folder / f"{sidecar.key.stem}.kernels")
    if sidecar.checked_on == gpu.with_driver:
        return backend
    with ExitStack() as stack:
        stack.callback(backend.close)
        rows, failure = make_check().run(backend, sidecar.precision)
        if failure:
            raise EngineRejected(f"the engine of {name} fails the parity check on this GPU ({failure})")
        if folder == cache.cache_folder():  # in a read-only folder it is checked at every start
            checked = msgspec.structs.replace(sidecar, checked_on=gpu.with_driver, parity=rows)
            try:
                cache.store_sidecar(folder, checked)
            except EmotionError as error:  # a full disk: the next start checks again
                _log.warning("the engine passed the parity check, but the result cannot be saved: %s", error)
        stack.pop_all()
    return backend
