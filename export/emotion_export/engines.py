"""Build a bundle's graphs as TensorRT engines, check them and store them in the cache."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx
from filelock import FileLock, Timeout

from emotion_export.engine_graphs import detector_graph, encoder_graph
from emotion_export.layer_types import LOWEST_FIRST, engine_types, network_precision
from emotion_export.precision_fallback import (
    CheckedEngine,
    Device,
    build_in_precision,
    build_with_fallback,
)
from emotion_export.tensorrt import Builder, build_engine
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.bundle import Bundle
from emotion_runtime.detector_parity import detector_limits, make_detector_check
from emotion_runtime.detectors.graph import Size
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import remove_leftovers
from emotion_runtime.manifest import GraphName
from emotion_runtime.names import GRAPHS, EnginePrecision, RequestedPrecision
from emotion_runtime.parity import Check, make_parity_check
from emotion_runtime.tensorrt.cache import CachedEngine, engine_key, find_engine, store_engine
from emotion_runtime.tensorrt.detector_engines import detector_key
from emotion_runtime.tensorrt.engine import TensorRTBackend
from emotion_runtime.tensorrt.gpu import Gpu, builder_name
from emotion_runtime.tensorrt.sidecar import SIDECAR_SCHEMA, CheckResult, EngineKey, Sidecar

_log = logging.getLogger(__name__)

_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """How engines are built, and where they are stored.

    Attributes:
        builder: The TensorRT builder.
        gpu: The GPU; its name is empty when building ahead of time.
        folder: Folder of the engines.
        precision: The requested precision.
        limits: Maximum number of people and images per inference call.
    """

    builder: Builder
    gpu: Gpu
    folder: Path
    precision: RequestedPrecision
    limits: Limits


def build_bundle(bundle: Bundle, plan: BuildPlan) -> dict[GraphName, Sidecar]:
    """Build the engines of both graphs, one after the other; matching engines in the folder are kept.

    Returns:
        The sidecar of each engine.

    Raises:
        EmotionError: The bundle does not have the precision, TensorRT refuses a graph, an engine fails the
            parity check, or the folder is not writable. Engines that were stored before are kept.
    """
    builder = builder_name(plan.builder.flavor, plan.builder.library)
    keys = {  # errors surface before the first long build
        name: engine_key(
            bundle, name, builder=builder, gpu=plan.gpu, precision=plan.precision, limits=plan.limits
        )
        for name in GRAPHS
    }
    built = {}
    with _locked(plan.folder):
        for name, key in keys.items():
            graph = partial(encoder_graph, bundle, name)
            built[name] = _engine(key, plan, graph, partial(make_parity_check, bundle, name, plan.limits))
    return built


def build_detector(detector: NetworkDetector, size: Size, plan: BuildPlan) -> Sidecar:
    """Build the engine of a detector for frames of one size; a matching engine in the folder is kept.

    Args:
        detector: The detector.
        size: (height, width) of its input.
        plan: How to build. A detector has its own limits, and no int8.

    Returns:
        The sidecar.

    Raises:
        EmotionError: As for `build_bundle`.
    """
    graph = detector.graph
    plan = replace(plan, limits=detector_limits(graph))
    builder = builder_name(plan.builder.flavor, plan.builder.library)
    key = detector_key(graph, size, plan.precision, builder=builder, gpu=plan.gpu)
    check = partial(make_detector_check, detector, size, key.graph, plan.limits)
    with _locked(plan.folder):
        return _engine(key, plan, partial(detector_graph, detector, size), check)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, so that two processes do not build the same engines on one GPU at once.

    The operating system releases the lock of a process that was killed.
    """
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.info("waiting: another process builds engines in %s", folder)
        lock.acquire()
    try:
        remove_leftovers(folder, "*.engine")
        yield
    finally:
        lock.release()


def _engine(
    key: EngineKey,
    plan: BuildPlan,
    graph: Callable[[EnginePrecision], onnx.ModelProto],
    make_check: Callable[[], Check],
) -> Sidecar:
    """Return the sidecar of a stored engine, after building, checking and storing it if there is none.

    Args:
        key: What the engine is for.
        plan: How to build it.
        graph: Returns the graph in a precision.
        make_check: Makes the parity check.
    """
    name = key.graph
    found = find_engine(plan.folder, key)
    if isinstance(found, CachedEngine):
        _log.info("%s: %s, already in %s", name, _summary(found.sidecar), plan.folder)
        return found.sidecar
    _log.info("%s: building (%s)", name, found)
    start = time.perf_counter()
    if plan.builder.target is None:
        checked = _with_true_precision(name, _build_here(plan, graph, make_check()))
        with _loaded(plan, checked.built.engine) as backend:
            types = engine_types(backend.layer_information())
        checked = replace(checked, built=replace(checked.built, layer_types=types))
    else:
        precision: EnginePrecision = "fp16" if plan.precision == "ladder" else plan.precision
        built = build_engine(plan.builder, graph(precision), name, plan.limits)
        checked = _with_true_precision(name, CheckedEngine(precision, built, [], [], []))
    return _store(plan, key, checked, seconds=time.perf_counter() - start)


def _build_here(
    plan: BuildPlan, graph: Callable[[EnginePrecision], onnx.ModelProto], check: Check
) -> CheckedEngine:
    """Build on the GPU that will run the engine, and compare the engine with the fp32 graph there."""
    device = Device(
        lambda model, name: build_engine(plan.builder, model, name, plan.limits), partial(_loaded, plan)
    )
    if plan.precision != "ladder":
        return build_in_precision(device, check, plan.precision, graph(plan.precision))
    return build_with_fallback(device, check, (graph("fp32"), graph("fp16")))


def _loaded(plan: BuildPlan, engine: bytes) -> closing[TensorRTBackend]:
    """Load an engine for the duration of a `with` block."""
    return closing(TensorRTBackend(engine, flavor=plan.builder.flavor))


def _with_true_precision(name: str, checked: CheckedEngine) -> CheckedEngine:
    """Return the engine with the precision that its network really has.

    A graph without weights, such as a mean over time, is the same in fp16 and is then called fp32. What the
    inspector reports about the built engine is only recorded, because its wording differs between versions
    and some layers have none.

    Raises:
        EmotionError: The network has a lower precision than requested.
    """
    requested: EnginePrecision = "fp16" if checked.precision == "mixed" else checked.precision
    found = network_precision(checked.built.layer_types)
    if LOWEST_FIRST.index(found) < LOWEST_FIRST.index(requested):
        raise EmotionError(
            f"{name}: {requested} was requested, but the graph is in {found} (layers: "
            f"{checked.built.layer_types}). The engine is not kept: export the bundle again with "
            "emotion-export onnx"
        )
    return checked if found == requested else replace(checked, precision=found)


def _store(plan: BuildPlan, key: EngineKey, checked: CheckedEngine, *, seconds: float) -> Sidecar:
    sidecar = Sidecar(
        schema=SIDECAR_SCHEMA,
        key=key,
        sha256=hashlib.sha256(checked.built.engine).hexdigest(),
        size=len(checked.built.engine),
        precision=checked.precision,
        check=CheckResult("passed", checked.parity, plan.gpu.name, plan.gpu.driver)
        if checked.parity
        else CheckResult("not run"),
        fp32_layers=checked.fp32_layers,
        layer_types=checked.built.layer_types,
        layer_types_of="network" if plan.builder.target else "engine",
        refused=checked.refused,
        build_seconds=round(seconds, 1),
    )
    path = store_engine(plan.folder, checked.built.engine, sidecar)
    _log.info("%s: %s, %s", key.graph, _summary(sidecar), path)
    return sidecar


def _summary(sidecar: Sidecar) -> str:
    return f"{sidecar.precision}, {sidecar.size / 1e6:.1f} MB, parity {sidecar.check.status}"
