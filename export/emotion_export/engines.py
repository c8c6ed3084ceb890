"""Build a bundle's graphs as TensorRT engines, check them and store them in the cache."""

import hashlib
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import onnx
from filelock import FileLock, Timeout
from google.protobuf.message import DecodeError

from emotion_export.fp16 import half_precision
from emotion_export.precision_fallback import (
    Check,
    CheckedEngine,
    Device,
    build_in_precision,
    build_with_fallback,
)
from emotion_export.tensorrt import Builder, BuiltEngine, build_engine, engine_types
from emotion_runtime.backends.base import Backend
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import Bundle
from emotion_runtime.detector_parity import detector_limits, make_detector_check
from emotion_runtime.detectors.graph import Size
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import remove_leftovers
from emotion_runtime.manifest import Graph, GraphName, Variant
from emotion_runtime.names import GRAPHS, EnginePrecision, RequestedPrecision
from emotion_runtime.parity import make_parity_check
from emotion_runtime.tensorrt.cache import (
    SIDECAR_SCHEMA,
    CachedEngine,
    CheckResult,
    EngineKey,
    Sidecar,
    engine_key,
    find_engine,
    store_engine,
)
from emotion_runtime.tensorrt.detector_engines import detector_key
from emotion_runtime.tensorrt.engine import TensorRTBackend
from emotion_runtime.tensorrt.gpu import Gpu, builder_name

_log = logging.getLogger(__name__)

_LOCK = ".lock"
_LOWEST_FIRST: tuple[EnginePrecision, ...] = ("int8", "fp16", "fp32")


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


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """The GPU of this machine; see `precision_fallback.Device`."""

    builder: Builder
    limits: Limits

    def build(self, model: onnx.ModelProto, name: str) -> BuiltEngine:
        """Build one engine."""
        return build_engine(self.builder, model, name, self.limits)

    @contextmanager
    def load(self, engine: bytes) -> Iterator[TensorRTBackend]:
        """Load one engine for the duration of a `with` block."""
        backend = TensorRTBackend(engine, flavor=self.builder.flavor)
        try:
            yield backend
        finally:
            backend.close()

    def inspect(self, built: BuiltEngine) -> BuiltEngine:
        """Return the engine with the types of its own layers."""
        with self.load(built.engine) as backend:
            return replace(built, layer_types=engine_types(backend.layer_information()))


def build_bundle(bundle: Bundle, plan: BuildPlan) -> dict[GraphName, Sidecar]:
    """Build the engines of both graphs, one after the other; matching engines in the folder are kept.

    Returns:
        The sidecar of each engine.

    Raises:
        EmotionError: The bundle does not have the precision, TensorRT refuses a graph, an engine fails the
            parity check, or the folder is not writable. Engines that were stored before are kept.
    """
    keys = {name: _key(bundle, name, plan) for name in GRAPHS}  # errors surface before the first long build
    with _locked(plan.folder):
        return {name: _engine(_Encoder(bundle, name), key, plan) for name, key in keys.items()}


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
    with _locked(plan.folder):
        return _engine(_Detector(detector, size, key), key, plan)


class _Source(Protocol):
    """What an engine is built from."""

    def model(self, precision: EnginePrecision) -> onnx.ModelProto:
        """Return the graph in a precision."""
        ...

    def check(self, limits: Limits) -> Check:
        """Make the parity check of its engines."""
        ...


@dataclass(frozen=True, slots=True)
class _Encoder:
    """A graph of a bundle."""

    bundle: Bundle
    name: GraphName

    def model(self, precision: EnginePrecision) -> onnx.ModelProto:
        return _model(self.bundle, self.name, precision)

    def check(self, limits: Limits) -> Check:
        return make_parity_check(self.bundle, self.name, limits)


@dataclass(frozen=True, slots=True)
class _Detector:
    """A detector for one size of its input."""

    detector: NetworkDetector
    size: Size
    key: EngineKey

    def model(self, precision: EnginePrecision) -> onnx.ModelProto:
        model = onnx.load_from_string(self.detector.graph.at_size(self.size))
        return half_precision(model) if precision == "fp16" else model

    def check(self, limits: Limits) -> Check:
        return make_detector_check(self.detector, self.size, self.key.graph, limits)


def read_model(path: Path, sha256: str | None = None) -> tuple[onnx.ModelProto, str]:
    """Read an ONNX file and return it with its SHA-256.

    Args:
        path: The file.
        sha256: Expected SHA-256, if any.

    Raises:
        EmotionError: The file cannot be read, is not an ONNX file, or has changed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EmotionError(f"{path} cannot be read ({error.strerror}): expected an ONNX file") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise EmotionError(f"{path} changed while engines were built: run this again")
    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise EmotionError(
            f"{path} is not an ONNX file ({error}): expected one of emotion-export onnx"
        ) from error
    return model, found


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


def _key(bundle: Bundle, name: GraphName, plan: BuildPlan) -> EngineKey:
    builder = builder_name(plan.builder.flavor, plan.builder.library)
    return engine_key(
        bundle, name, builder=builder, gpu=plan.gpu, precision=plan.precision, limits=plan.limits
    )


def _engine(source: _Source, key: EngineKey, plan: BuildPlan) -> Sidecar:
    name = key.graph
    found = find_engine(plan.folder, key)
    if isinstance(found, CachedEngine):
        _log.info("%s: %s, already in %s", name, _summary(found.sidecar), plan.folder)
        return found.sidecar
    _log.info("%s: building (%s)", name, found)
    start = time.perf_counter()
    if plan.builder.target is None:
        device = GpuDevice(plan.builder, plan.limits)
        checked = _build_here(source, plan, device)
        checked = _with_true_precision(name, checked)
        checked = replace(checked, built=device.inspect(checked.built))
    else:
        precision: EnginePrecision = "fp16" if plan.precision == "ladder" else plan.precision
        built = build_engine(plan.builder, source.model(precision), name, plan.limits)
        checked = _with_true_precision(name, CheckedEngine(precision, built, [], [], []))
    return _store(plan, key, checked, seconds=time.perf_counter() - start)


def _build_here(source: _Source, plan: BuildPlan, device: Device) -> CheckedEngine:
    """Build on the device that will run the engine, and compare the engine with the fp32 graph there."""
    check = source.check(plan.limits)
    if plan.precision != "ladder":
        return build_in_precision(device, check, plan.precision, source.model(plan.precision))
    return build_with_fallback(device, check, (source.model("fp32"), source.model("fp16")), _open_on_cpu)


def _open_on_cpu(model: onnx.ModelProto) -> Backend:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(model.SerializeToString())
        return OnnxBackend(path)


def _model(bundle: Bundle, name: GraphName, precision: EnginePrecision) -> onnx.ModelProto:
    """Return the graph in a precision; fp16 is made from fp32 if the bundle does not have it.

    int8 has fp16 between its integer products, which the bundle's own int8 graph, made for CPUs, does not.
    """
    graph = bundle.manifest.graphs[name]
    stated: Graph | Variant = graph
    if precision in graph.variants:
        stated = graph.variants[precision]
    path = bundle.folder / stated.file
    model, _ = read_model(path, stated.sha256)
    _check_batch(path, model)
    return (
        half_precision(model) if precision == "int8" or (precision == "fp16" and stated is graph) else model
    )


def _check_batch(path: Path, model: onnx.ModelProto) -> None:
    """Check that the batch size of a graph is dynamic.

    Otherwise the build would take minutes, and the engine would accept only one number of people.
    """
    for value in model.graph.input:
        batch = value.type.tensor_type.shape.dim[0]
        if batch.HasField("dim_value"):
            raise EmotionError(
                f"{path}: input {value.name} has a fixed batch of {batch.dim_value}, expected any number: "
                "export the bundle again with emotion-export onnx"
            )


def network_precision(layer_types: Mapping[str, int]) -> EnginePrecision:
    """Return the precision of a strongly typed network: the lowest one that any of its layers has."""
    return next((name for name in _LOWEST_FIRST if name in layer_types), "fp32")


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
    if _LOWEST_FIRST.index(found) < _LOWEST_FIRST.index(requested):
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
        check=_check_result(plan, checked),
        fp32_layers=checked.fp32_layers,
        layer_types=checked.built.layer_types,
        layer_types_of="network" if plan.builder.target else "engine",
        refused=checked.refused,
        build_seconds=round(seconds, 1),
    )
    path = store_engine(plan.folder, checked.built.engine, sidecar)
    _log.info("%s: %s, %s", key.graph, _summary(sidecar), path)
    return sidecar


def _check_result(plan: BuildPlan, checked: CheckedEngine) -> CheckResult:
    if not checked.parity:
        return CheckResult("not run")
    return CheckResult("passed", checked.parity, gpu=plan.gpu.name, driver=plan.gpu.driver)


def _summary(sidecar: Sidecar) -> str:
    return f"{sidecar.precision}, {sidecar.size / 1e6:.1f} MB, parity {sidecar.check.status}"
