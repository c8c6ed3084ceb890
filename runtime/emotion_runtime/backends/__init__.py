"""Ways to run a graph, one small class each behind one Protocol, and the choice among them."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from emotion_runtime.backends.base import Backend, Feeds, Unavailable, close
from emotion_runtime.backends.buckets import Bucketed
from emotion_runtime.backends.cuda import open_cuda
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.backends.openvino import OpenVinoBackend
from emotion_runtime.errors import EmotionError

if TYPE_CHECKING:
    from emotion_runtime.bundle import Bundle
    from emotion_runtime.manifest import Manifest, Precision
    from emotion_runtime.nvidia import Flavor

# What opens engines is imported where engines are meant: it reads bundles, which few users of this room do.

__all__ = ["Backend", "BackendName", "Unavailable", "close", "one_person", "open_backend", "open_encoders"]

BackendName = Literal["auto", "cpu", "cuda", "tensorrt", "tensorrt-rtx", "openvino"]

_log = logging.getLogger(__name__)


def open_backend(name: str, graph: Path) -> Backend:
    """Open an ONNX file on "cpu", "cuda" or "openvino".

    Raises:
        EmotionError: the backend is unknown, not installed or does not start (`Unavailable`), or it cannot
            load the graph.

    """
    _check_name(name)
    if name not in _OF_GRAPHS:
        raise EmotionError(f"backend {name}: is for whole bundles, expected one of {', '.join(_OF_GRAPHS)}")
    return _OF_GRAPHS[name](graph)


def open_encoders(
    name: str, bundle: "Bundle", precision: "Precision | None" = None, *, build: bool = True
) -> list[Backend]:
    """Frame encoder and temporal encoder of a bundle, both on one backend.

    name: "auto" for the best that works, which is proven by running one person: TensorRT with engines that
    lie in the cache, CUDA, the CPU; what was taken and why is logged in one line. A backend asked for by name
    is had or is an error. While TensorRT engines that are not there are built, ONNX Runtime serves, and the
    log says so; when their build fails, the next run of the encoders raises its error.
    OpenVINO is taken by name only: alone it was up to a fifth faster than ONNX Runtime on an AMD CPU, next to
    the detector's threads it was not (`benchmarks/bench_pipeline.py --backends cpu openvino`).
    precision: None: fp32, and for TensorRT the fastest that equals the model. build: False: an engine that is
    not there is an error.

    Raises:
        EmotionError: the backend is unknown, not installed or does not start (`Unavailable`), the bundle has
            no graph of that precision, or a graph cannot be loaded.

    """
    _check_name(name)
    if name == "auto":
        return _best(["tensorrt", "tensorrt-rtx", "cuda", "cpu"], bundle, precision, asked="auto")
    if name in _FLAVORS and build:
        return _engines(_FLAVORS[name], bundle, precision)
    return _open(name, bundle, precision)


def _best(
    candidates: Sequence[str], bundle: "Bundle", precision: "Precision | None", *, asked: str
) -> list[Backend]:
    """The first candidate that is to be had; the last always is. asked: for the log."""
    passed_over: list[Unavailable] = []
    for candidate in candidates:
        try:
            chosen = _open_proven(candidate, bundle, precision)
        except Unavailable as reason:
            passed_over.append(reason)
            continue
        for each in passed_over:
            _log.debug("backend %s is not used: %s", each.name, each.brief)
        reasons = "".join(f"; {each.brief}" for each in passed_over if each.notable)
        level = logging.WARNING if any(each.broken for each in passed_over) else logging.INFO
        _log.log(level, "backend %s: %s%s", asked, chosen[0].description, reasons)
        return chosen
    raise AssertionError(f"none of {candidates} is to be had")


def _open_proven(name: str, bundle: "Bundle", precision: "Precision | None") -> list[Backend]:
    """What opens need not work; on a GPU it is only believed once it has run."""
    opened = _open(name, bundle, precision)
    if name == "cpu":
        return opened
    try:
        for backend, feeds in zip(opened, one_person(bundle.manifest), strict=True):
            backend.run(feeds)
    except (EmotionError, RuntimeError) as error:  # RuntimeError: of TensorRT's bindings
        for backend in opened:
            close(backend)
        reason = f"{opened[0].description} opens and does not run ({' '.join(str(error).split())})"
        raise Unavailable(name, reason, fix="see emotion-runtime --doctor", broken=True) from error
    return opened


def one_person(manifest: "Manifest") -> list[Feeds]:
    """The least batches: one person who fills a black picture, and a clip of nothing, (1, T, D)."""
    spec = manifest.preprocess
    picture: Feeds = {
        "images": np.zeros((1, spec.size, spec.size, 3), np.uint8),
        "frame_index": np.zeros(1, np.int64),
        "patch_weights": np.ones((1, spec.patches), np.float32),
    }
    return [picture, {"embeddings": np.zeros((1, manifest.clip_frames, manifest.embedding_dim), np.float32)}]


def _open(name: str, bundle: "Bundle", precision: "Precision | None") -> list[Backend]:
    if name in _OF_GRAPHS:
        graphs = [
            bundle.graph_path(graph, precision or "fp32") for graph in ("frame_encoder", "temporal_encoder")
        ]
        return [_OF_GRAPHS[name](graph) for graph in graphs]
    from emotion_runtime.backends.native import open_engines  # noqa: PLC0415 - see above

    return open_engines(bundle, _FLAVORS[name], precision or "ladder")


def _engines(flavor: "Flavor", bundle: "Bundle", precision: "Precision | None") -> list[Backend]:
    """TensorRT engines; where they have to be built first, ONNX Runtime serves until they are."""
    from emotion_runtime.backends import native  # noqa: PLC0415 - see above

    try:
        return _open(flavor, bundle, precision)
    except native.MissingEngine as missing:
        command = native.builder_command(bundle, flavor, precision or "ladder")
        if command is None:
            raise
        if missing.broken:
            _log.warning("backend %s: %s: building it anew", flavor, missing.reason)
    serving = _best(["cuda", "cpu"], bundle, None, asked=f"{flavor}, until its engines are built")
    return native.build_engines_in_background(
        command, lambda: _open(flavor, bundle, precision), serving, flavor=flavor
    )


def _check_name(name: str) -> None:
    if name not in get_args(BackendName):
        raise EmotionError(f"backend {name!r} is not known: expected {', '.join(get_args(BackendName))}")


def _open_bound(graph: Path) -> Backend:
    return Bucketed(open_cuda(graph))


_FLAVORS: "dict[str, Flavor]" = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx"}
_OF_GRAPHS: dict[str, Callable[[Path], Backend]] = {
    "cpu": OnnxBackend,
    "cuda": _open_bound,
    "openvino": OpenVinoBackend,
}
