"""A bundle's graphs as TensorRT engines in the cache: found, or built, held against the model and stored."""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from filelock import FileLock, Timeout
from google.protobuf.message import DecodeError

from emotion_export.fp16 import half_precision
from emotion_export.precision_fallback import CheckedEngine, Device, build_in_precision, build_with_fallback
from emotion_export.tensorrt import Builder, BuiltEngine, build_engine, engine_types
from emotion_runtime.backends.base import Backend
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.backends.tensorrt import TensorRTBackend
from emotion_runtime.bundle import Bundle
from emotion_runtime.engines import (
    SIDECAR_SCHEMA,
    CachedEngine,
    CheckResult,
    EngineKey,
    EnginePrecision,
    RequestedPrecision,
    Sidecar,
    engine_key,
    find_engine,
    store_engine,
)
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import remove_leftovers
from emotion_runtime.manifest import Graph, GraphName, Variant
from emotion_runtime.names import GRAPHS
from emotion_runtime.nvidia import Gpu, builder_name
from emotion_runtime.parity_check import make_parity_check

_LOCK = ".lock"
_FEWEST_BITS_FIRST: tuple[EnginePrecision, ...] = ("int8", "fp16", "fp32")


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """How engines are built, and where they go. gpu: with an empty name when built ahead of time."""

    builder: Builder
    gpu: Gpu
    folder: Path
    precision: RequestedPrecision
    limits: Limits


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """The GPU of this machine. See `precision_fallback.Device`."""

    builder: Builder
    limits: Limits

    def build(self, model: onnx.ModelProto, name: str) -> BuiltEngine:
        """Build one engine."""
        return build_engine(self.builder, model, name, self.limits)

    @contextmanager
    def load(self, engine: bytes) -> Iterator[TensorRTBackend]:
        """Load one engine for the time of a `with`."""
        backend = TensorRTBackend(engine, flavor=self.builder.flavor)
        try:
            yield backend
        finally:
            backend.close()

    def inspect(self, built: BuiltEngine) -> BuiltEngine:
        """The same engine, with the types that its own layers have."""
        with self.load(built.engine) as backend:
            return replace(built, layer_types=engine_types(backend.layer_information()))


def build_bundle(
    bundle: Bundle, plan: BuildPlan, *, report: Callable[[str], None] = lambda _: None
) -> dict[GraphName, Sidecar]:
    """Engines of both graphs, one after the other; what is in the folder already, and fits, is kept.

    report: is told, line by line, what is being done.

    Raises:
        EmotionError: the bundle has not got the precision, TensorRT refuses a graph, an engine is not the
            model, or the folder cannot be written to. What was stored before stays.

    """
    keys = {name: _key(bundle, name, plan) for name in GRAPHS}  # all refusals before the first long build
    with _locked(plan.folder, report):
        return {name: _engine(bundle, name, key, plan, report) for name, key in keys.items()}


def build_file(path: Path, plan: BuildPlan, *, report: Callable[[str], None] = lambda _: None) -> Sidecar:
    """The engine of any one ONNX file, such as a detector, in the precision of the file and without a gate.

    Raises:
        EmotionError: as `build_bundle`.

    """
    model, sha256 = read_model(path)
    key = EngineKey(
        path.stem,
        {"fp32": sha256},
        builder_name(plan.builder.flavor, plan.builder.library),
        plan.gpu.name,
        plan.gpu.compute_capability,
        "fp32",
        plan.limits.persons,
        plan.limits.images,
    )
    with _locked(plan.folder, report):
        found = find_engine(plan.folder, key)
        if isinstance(found, CachedEngine):
            report(f"{path.stem}: {_summary(found.sidecar)}, already in {plan.folder}")
            return found.sidecar
        start = time.perf_counter()
        built = build_engine(plan.builder, model, path.stem, plan.limits)
        precision = network_precision(built.layer_types)
        if plan.builder.target is None:
            built = GpuDevice(plan.builder, plan.limits).inspect(built)
        checked = CheckedEngine(precision, built, [], [], [])
        return _store(plan, key, checked, seconds=time.perf_counter() - start, report=report)


def read_model(path: Path, sha256: str | None = None) -> tuple[onnx.ModelProto, str]:
    """An ONNX file and its SHA-256. sha256: what it has to be.

    Raises:
        EmotionError: it cannot be read, is no ONNX, or not the file it should be.

    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EmotionError(f"{path} cannot be read ({error.strerror}): expected an ONNX file") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise EmotionError(f"{path} was changed while engines were built: run this again")
    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise EmotionError(f"{path} is no ONNX file ({error}): expected one of export/to_onnx.py") from error
    return model, found


@contextmanager
def _locked(folder: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Build in a folder while no other process does: else both would build the same, on one GPU at once.

    The system lets go of the lock of a process that was killed.
    """
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"waiting: another process builds engines in {folder}")
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


def _engine(
    bundle: Bundle, name: GraphName, key: EngineKey, plan: BuildPlan, report: Callable[[str], None]
) -> Sidecar:
    found = find_engine(plan.folder, key)
    if isinstance(found, CachedEngine):
        report(f"{name}: {_summary(found.sidecar)}, already in {plan.folder}")
        return found.sidecar
    report(f"{name}: building ({found.reason})")
    start = time.perf_counter()
    if plan.builder.target is None:
        device = GpuDevice(plan.builder, plan.limits)
        checked = _build_here(bundle, name, plan, device, report)
        checked = _with_true_precision(name, checked)
        checked = replace(checked, built=device.inspect(checked.built))
    else:
        precision: EnginePrecision = "fp16" if plan.precision == "ladder" else plan.precision
        built = build_engine(plan.builder, _model(bundle, name, precision), name, plan.limits)
        checked = _with_true_precision(name, CheckedEngine(precision, built, [], [], []))
    return _store(plan, key, checked, seconds=time.perf_counter() - start, report=report)


def _build_here(
    bundle: Bundle, name: GraphName, plan: BuildPlan, device: Device, report: Callable[[str], None]
) -> CheckedEngine:
    """Build on the device that will run the engine, and hold it against the fp32 graph there."""
    check = make_parity_check(bundle, name, plan.limits)
    if plan.precision != "ladder":
        return build_in_precision(device, check, plan.precision, _model(bundle, name, plan.precision))
    models = _model(bundle, name, "fp32"), _model(bundle, name, "fp16")
    return build_with_fallback(device, check, models, _on_the_cpu, report)


def _on_the_cpu(model: onnx.ModelProto) -> Backend:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(model.SerializeToString())
        return OnnxBackend(path)


def _model(bundle: Bundle, name: GraphName, precision: EnginePrecision) -> onnx.ModelProto:
    """The graph in a precision; fp16 is made of fp32 for a bundle that has none."""
    graph = bundle.manifest.graphs[name]
    stated: Graph | Variant = graph
    if precision in graph.variants:
        stated = graph.variants[precision]
    path = bundle.folder / stated.file
    model, _ = read_model(path, stated.sha256)
    _check_batch(path, model)
    return half_precision(model) if precision == "fp16" and stated is graph else model


def _check_batch(path: Path, model: onnx.ModelProto) -> None:
    """An engine of a fixed batch would be built for minutes, and then take no other number of persons."""
    for value in model.graph.input:
        batch = value.type.tensor_type.shape.dim[0]
        if batch.HasField("dim_value"):
            raise EmotionError(
                f"{path}: input {value.name} has a fixed batch of {batch.dim_value}, expected any number: "
                "export the bundle again with export/to_onnx.py"
            )


def network_precision(layer_types: Mapping[str, int]) -> EnginePrecision:
    """What a strongly typed network is called by: the fewest bits that any of its layers gives."""
    return next((name for name in _FEWEST_BITS_FIRST if name in layer_types), "fp32")


def _with_true_precision(name: str, checked: CheckedEngine) -> CheckedEngine:
    """The engine by its true name: that of the network's types, which TensorRT keeps to.

    A graph without a weight, such as a mean over time, is the same in fp16: then it is called fp32. What the
    inspector says of the built engine is only recorded: its words differ from version to version, and some
    layers have none.

    Raises:
        EmotionError: the network has fewer bits than its name.

    """
    asked: EnginePrecision = "fp16" if checked.precision == "mixed" else checked.precision
    found = network_precision(checked.built.layer_types)
    if _FEWEST_BITS_FIRST.index(found) < _FEWEST_BITS_FIRST.index(asked):
        raise EmotionError(
            f"{name}: asked for in {asked}, but the graph is one in {found} (layers: "
            f"{checked.built.layer_types}). The engine is not kept: export the bundle again with "
            "export/to_onnx.py"
        )
    return checked if found == asked else replace(checked, precision=found)


def _store(
    plan: BuildPlan, key: EngineKey, checked: CheckedEngine, *, seconds: float, report: Callable[[str], None]
) -> Sidecar:
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
    report(f"{key.graph}: {_summary(sidecar)}, {path}")
    return sidecar


def _check_result(plan: BuildPlan, checked: CheckedEngine) -> CheckResult:
    if not checked.parity:
        return CheckResult("not run")
    return CheckResult("passed", checked.parity, gpu=plan.gpu.name, driver=plan.gpu.driver)


def _summary(sidecar: Sidecar) -> str:
    return f"{sidecar.precision}, {sidecar.size / 1e6:.1f} MB, parity {sidecar.check.status}"
