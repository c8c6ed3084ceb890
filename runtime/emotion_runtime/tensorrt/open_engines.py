"""TensorRT engines, opened from the cache.

UNVERIFIED: no GPU was available. Verify with `emotion-runtime --source demo --backend tensorrt`
(tensorrt-rtx). The decisions made here are tested with stand-ins for engines and GPU.
"""

import logging
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain

import msgspec

from emotion_runtime import parity
from emotion_runtime.backends.base import Backend, Unavailable
from emotion_runtime.backends.buckets import Bucketed, Limits, limits_for
from emotion_runtime.bundle import Bundle
from emotion_runtime.errors import EmotionError, EngineRejected
from emotion_runtime.names import GRAPHS, GraphName, RequestedPrecision
from emotion_runtime.tensorrt import build_client, cache
from emotion_runtime.tensorrt import gpu as nvidia
from emotion_runtime.tensorrt.cache import CachedEngine
from emotion_runtime.tensorrt.driver import CudaError
from emotion_runtime.tensorrt.engine import TensorRTBackend
from emotion_runtime.tensorrt.gpu import Flavor, Gpu
from emotion_runtime.tensorrt.sidecar import CheckResult, EngineKey

_log = logging.getLogger(__name__)


class MissingEngine(Unavailable):
    """TensorRT and a GPU are present, but the cache has no engine that may be loaded.

    `fix` is the command that builds it. It is `broken` if there was an engine that failed to load or failed
    the parity check.
    """

    notable = True  # one command makes later runs faster

    @property
    def brief(self) -> str:
        """The reason, with the command that builds the engine."""
        return f"{self.reason}: {self.fix}"


@dataclass(frozen=True, slots=True)
class WantedEngine:
    """An engine to open.

    Attributes:
        key: What it is for.
        limits: The largest batch of the usual engine.
        make_check: Makes the parity check for an engine with other limits.
    """

    key: EngineKey
    limits: Limits
    make_check: Callable[[Limits], parity.Check]


def find_machine(flavor: Flavor) -> tuple[Gpu, str]:
    """Return the GPU that engines of a flavor are opened on, and the name of their builder.

    Raises:
        Unavailable: TensorRT or a GPU is not available.
    """
    try:
        if not nvidia.is_installed(flavor):
            nvidia.load_tensorrt(flavor)  # raises the error that says how to install it
        gpu = nvidia.find_gpu()  # before TensorRT's libraries, which take a second to load
        builder = nvidia.builder_name(flavor, nvidia.load_tensorrt(flavor))
    except EmotionError as error:
        # A driver that does not start is worth a warning; no driver is not.
        raise Unavailable(flavor, str(error), broken=isinstance(error, CudaError)) from error
    return gpu, builder


def open_engines(bundle: Bundle, flavor: Flavor, precision: RequestedPrecision) -> list[Backend]:
    """Open the engines of both encoders from the cache.

    Raises:
        Unavailable: TensorRT or a GPU is not available, or the GPU's memory is full. `MissingEngine`: only an
            engine is missing, or the cached one cannot be loaded or fails the parity check.
    """
    gpu, builder = find_machine(flavor)
    limits = limits_for(bundle.manifest.preprocess.window)

    def wanted(graph: GraphName) -> WantedEngine:
        key = cache.engine_key(bundle, graph, builder=builder, gpu=gpu, precision=precision, limits=limits)
        return WantedEngine(key, limits, lambda largest: parity.make_parity_check(bundle, graph, largest))

    build = build_client.build_arguments(bundle, flavor, precision)
    return open_cached([wanted(graph) for graph in GRAPHS], flavor, gpu, build)


def open_cached(
    wanted: Sequence[WantedEngine], flavor: Flavor, gpu: Gpu, build: Sequence[str]
) -> list[Backend]:
    """Open engines from the cache, all or none.

    Args:
        wanted: The engines.
        flavor: The TensorRT flavor.
        gpu: The GPU that they run on.
        build: Arguments of `emotion-export trt` that build them.

    Raises:
        Unavailable: The GPU's memory is full. `MissingEngine`: an engine is missing, or the cached one cannot
            be loaded or fails the parity check.
    """
    command = shlex.join(["emotion-export", "trt", *build])
    opened: list[Backend] = []
    with ExitStack() as stack:
        for each in wanted:
            try:
                backend = _open(each, flavor, gpu)
            except EngineRejected as error:
                raise MissingEngine(flavor, str(error), fix=command, broken=True) from error
            except EmotionError as error:
                raise Unavailable(flavor, str(error), fix=command, broken=True) from error
            if isinstance(backend, str):
                raise MissingEngine(flavor, backend, fix=command)
            stack.callback(backend.close)
            opened.append(backend)
        stack.pop_all()
    return opened


def _open(wanted: WantedEngine, flavor: Flavor, gpu: Gpu) -> Backend | str:
    """Open the best engine for a key that loads and passes the parity check; discard those that do not.

    Returns:
        The engine; if there is none, why not in a few words.

    Raises:
        EngineRejected: There are engines, but none of them may run.
    """
    key = wanted.key
    rejected: list[EngineRejected] = []
    folders = dict.fromkeys([cache.cache_folder(), cache.default_folder()])  # the second may be read-only
    for found in chain.from_iterable(cache.compatible_engines(folder, key) for folder in folders):
        try:
            backend = _load(wanted, found, flavor, gpu)
        except EngineRejected as error:
            cache.discard(found)
            rejected.append(error)
            continue
        for each in rejected:
            _log.warning("%s: using another engine", each)
        return backend
    if rejected:
        raise rejected[0]
    stored = cache.find_engine(cache.default_folder(), key)
    reason = stored if isinstance(stored, str) else "it was removed meanwhile"
    return f"no engine of {key.graph} ({reason})"


def _load(wanted: WantedEngine, found: CachedEngine, flavor: Flavor, gpu: Gpu) -> Backend:
    """Load a cached engine. Without a passed parity check on this GPU and driver, check it first."""
    key = found.sidecar.key
    limits = replace(wanted.limits, persons=key.persons, images=key.images)
    kernels = found.folder / f"{key.stem}.kernels" if flavor == "tensorrt-rtx" else None
    backend = TensorRTBackend(found.engine, flavor=flavor, kernels=kernels)
    if found.sidecar.check.is_valid_on(gpu):
        return Bucketed(backend, limits)
    with ExitStack() as stack:
        stack.callback(backend.close)
        rows, failure = wanted.make_check(limits).run(backend, found.sidecar.precision)
        if failure:
            raise EngineRejected(f"the engine of {key.graph} fails the parity check on this GPU ({failure})")
        if found.folder == cache.cache_folder():  # in a read-only folder it is checked at every start
            _save_result(found, CheckResult("passed", rows, gpu.name, gpu.driver))
        stack.pop_all()
    return Bucketed(backend, limits)


def _save_result(found: CachedEngine, result: CheckResult) -> None:
    """Write a check result beside its engine; if the disk is full, the next start checks again."""
    try:
        cache.store_sidecar(found.folder, msgspec.structs.replace(found.sidecar, check=result))
    except EmotionError as error:
        _log.warning("the engine passed the parity check, but the result cannot be saved: %s", error)
