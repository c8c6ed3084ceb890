"""Build a bundle's graphs as TensorRT engines, check them and store them in the cache."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import onnx
from filelock import FileLock, Timeout
from msgspec.structs import replace

from emotion_export.engine_graphs import detector_graph, encoder_graph
from emotion_export.layer_types import LOWEST_FIRST, engine_types
from emotion_export.precision_fallback import Built, build_in_precision, build_with_fallback
from emotion_export.tensorrt import Builder, build_engine
from emotion_runtime.backends.base import Backend
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.bundle import Bundle
from emotion_runtime.detector_parity import Check, detector_limits, make_detector_check
from emotion_runtime.detectors.graph import Size
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import remove_leftovers
from emotion_runtime.names import GRAPHS, EnginePrecision, RequestedPrecision
from emotion_runtime.parity import make_parity_check
from emotion_runtime.tensorrt.cache import (
    SIDECAR_SCHEMA,
    EngineKey,
    Sidecar,
    find_engine,
    store_engine,
)
from emotion_runtime.tensorrt.engine import TensorRTBackend
from emotion_runtime.tensorrt.keys import detector_key, encoder_key

_log = logging.getLogger(__name__)

_LOCK = ".lock"


def build_bundle(
    bundle: Bundle, builder: Builder, folder: Path, precision: RequestedPrecision, limits: Limits
) -> None:
    """Build the engines of both graphs, one after the other; matching engines in the folder are kept.

    Raises:
        EmotionError: The bundle does not have the precision, TensorRT refuses a graph, an engine fails the
            parity check, or the folder is not writable. Engines that were stored before are kept.
    """
    keys = {  # errors surface before the first long build
        name: encoder_key(bundle, name, precision, limits, builder=builder.name, gpu=builder.gpu)
        for name in GRAPHS
    }
    with _locked(folder):
        for name, key in keys.items():
            check = partial(make_parity_check, bundle, name, limits)
            _store_engine(key, builder, folder, limits, partial(encoder_graph, bundle, name), check)


def build_detector(
    detector: NetworkDetector, size: Size, builder: Builder, folder: Path, precision: RequestedPrecision
) -> None:
    """Build the engine of a detector for frames of one size (height, width); see `build_bundle`."""
    limits = detector_limits(detector.graph)
    key = detector_key(detector.graph, size, precision, builder=builder.name, gpu=builder.gpu)
    check = partial(make_detector_check, detector, size, key.graph, limits)
    with _locked(folder):
        _store_engine(key, builder, folder, limits, partial(detector_graph, detector, size), check)


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


def _store_engine(
    key: EngineKey,
    builder: Builder,
    folder: Path,
    limits: Limits,
    graph: Callable[[EnginePrecision], onnx.ModelProto],
    make_check: Callable[[], Check],
) -> None:
    """Build, check and store the engine of a key, if there is none."""
    name = key.graph
    found = find_engine(folder, key)
    if not isinstance(found, str):
        _log.info("%s: %s, already in %s", name, _summary(found[0]), folder)
        return
    _log.info("%s: building (%s)", name, found)
    start = time.perf_counter()
    build = partial(_build_and_load, builder, key, limits)
    if builder.ahead_of_time:
        precision: EnginePrecision = "fp16" if key.precision == "ladder" else key.precision
        engine, layer_types = build_engine(builder, graph(precision), name, limits)
        sidecar = replace(describe(key, engine, layer_types), precision=precision)
    elif key.precision == "ladder":
        engine, sidecar = build_with_fallback(build, make_check(), graph("fp32"), graph("fp16"))
    else:
        engine, sidecar = build_in_precision(build, make_check(), key.precision, graph(key.precision))
    sidecar = replace(
        sidecar,
        precision=_true_precision(sidecar),
        checked_on=builder.gpu.with_driver if sidecar.parity else "",
        build_seconds=round(time.perf_counter() - start, 1),
    )
    path = store_engine(folder, engine, sidecar)
    _log.info("%s: %s, %s", name, _summary(sidecar), path)


@contextmanager
def _build_and_load(
    builder: Builder, key: EngineKey, limits: Limits, model: onnx.ModelProto, name: str
) -> Iterator[tuple[Built, Backend]]:
    """Build on the GPU that will run the engine, and load it for the duration of a `with` block."""
    engine, layer_types = build_engine(builder, model, name, limits)
    with closing(TensorRTBackend(engine, flavor=builder.flavor)) as backend:
        loaded_types = engine_types(backend.layer_information())
        yield (engine, replace(describe(key, engine, layer_types), loaded_types=loaded_types)), backend


def describe(key: EngineKey, engine: bytes, layer_types: dict[str, int]) -> Sidecar:
    """Describe an engine before its check, which adds the precision and the parity report."""
    return Sidecar(
        schema=SIDECAR_SCHEMA,
        key=key,
        sha256=hashlib.sha256(engine).hexdigest(),
        size=len(engine),
        precision="fp32",
        checked_on="",
        parity=[],
        fp32_layers=[],
        layer_types=layer_types,
        loaded_types={},
        refused=[],
        build_seconds=0.0,
    )


def _true_precision(sidecar: Sidecar) -> EnginePrecision:
    """Return the precision that the network of an engine really has.

    A graph without weights, such as a mean over time, is the same in fp16 and is then called fp32. What the
    inspector reports about the built engine is only recorded, because its wording differs between versions
    and some layers have none.

    Raises:
        EmotionError: The network has a lower precision than requested.
    """
    requested: EnginePrecision = "fp16" if sidecar.precision == "mixed" else sidecar.precision
    found: EnginePrecision = next((each for each in LOWEST_FIRST if each in sidecar.layer_types), "fp32")
    if LOWEST_FIRST.index(found) < LOWEST_FIRST.index(requested):
        raise EmotionError(
            f"{sidecar.key.graph}: {requested} was requested, but the graph is in {found} "
            f"(layers: {sidecar.layer_types}). The engine is not kept: export the bundle again with "
            "emotion-export onnx"
        )
    return sidecar.precision if found == requested else found


def _summary(sidecar: Sidecar) -> str:
    checked = "parity passed" if sidecar.checked_on else "parity not checked yet"
    return f"{sidecar.precision}, {sidecar.size / 1e6:.1f} MB, {checked}"
