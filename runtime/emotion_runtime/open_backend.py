"""The choice of what runs a graph or the encoders of a bundle."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np

from emotion_runtime.backends.base import Backend, Feeds, Unavailable
from emotion_runtime.backends.buckets import Bucketed, limits_for
from emotion_runtime.backends.cuda import MOST_PERSONS, open_cuda
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.backends.openvino import OpenVinoBackend
from emotion_runtime.errors import EmotionError
from emotion_runtime.names import GRAPHS, Precision

if TYPE_CHECKING:
    from emotion_runtime.bundle import Bundle
    from emotion_runtime.manifest import Manifest
    from emotion_runtime.tensorrt.gpu import Flavor

# Modules for TensorRT engines are imported where they are needed: they read bundles, which most users of this
# package do not.

BackendName = Literal["auto", "cpu", "cuda", "tensorrt", "tensorrt-rtx", "openvino"]

_log = logging.getLogger(__name__)


def open_encoders(
    name: str,
    bundle: "Bundle",
    precision: "Precision | None" = None,
    *,
    build: bool = True,
    live: bool = False,
) -> list[Backend]:
    """Open the frame encoder and the temporal encoder of a bundle, both on one backend.

    A backend requested by name either opens or raises; there is no fallback. "auto" chooses the first that
    works on a minimal batch: TensorRT with cached engines, CUDA, the CPU. The choice is logged in one line,
    and depends on no stop-watch; `fastest_backend` chooses by time.

    Missing TensorRT engines are built first, so that all results come from one backend.

    Args:
        name: A `BackendName`.
        bundle: The model.
        precision: Numeric precision; None: fp32, or with TensorRT the fastest that passes the parity check.
        build: Build missing TensorRT engines. If False, a missing engine is an error.
        live: Do not wait for engines that are built: ONNX Runtime serves meanwhile, and the log says so. If
            the build fails, the next run of the encoders raises its error.

    Raises:
        EmotionError: The backend is unknown, not installed or does not start (`Unavailable`), the bundle has
            no graph of that precision, or a graph cannot be loaded.
    """
    if name not in get_args(BackendName):
        raise EmotionError(f"backend {name!r}: expected one of {', '.join(get_args(BackendName))}")
    if name == "auto":
        return open_first(["tensorrt", "tensorrt-rtx", "cuda", "cpu"], bundle, precision, requested="auto")
    if not (name.startswith("tensorrt") and build):
        return _open(name, bundle, precision)
    from emotion_runtime.tensorrt.open_engines import open_or_build  # noqa: PLC0415 - see above

    serving = f"{name}, until its engines are built"
    return open_or_build(
        cast("Flavor", name),
        partial(_open, name, bundle, precision),
        meanwhile=partial(open_first, ["cuda", "cpu"], bundle, None, requested=serving) if live else None,
    )


def open_first(
    candidates: Sequence[str],
    bundle: "Bundle",
    precision: "Precision | None",
    *,
    requested: str,
    threads: int = 0,
) -> list[Backend]:
    """Open both encoders on the first available backend; no TensorRT engines are built.

    Args:
        candidates: Names of backends; the last one is always available.
        bundle: The model.
        precision: See `open_encoders`.
        requested: What was requested, for the log.
        threads: Number of threads on the CPU; 0: `default_threads()`.

    Raises:
        EmotionError: See `open_encoders`.
    """
    skipped: list[Unavailable] = []
    for candidate in candidates:
        try:
            chosen = open_and_try(candidate, bundle, precision, threads=threads)
        except Unavailable as reason:
            skipped.append(reason)
            continue
        for each in skipped:
            _log.debug("backend %s is not used: %s", each.name, each.brief)
        reasons = "".join(f"; {each.brief}" for each in skipped if each.broken or each.build)
        level = logging.WARNING if any(each.broken for each in skipped) else logging.INFO
        _log.log(level, "backend %s: %s%s", requested, chosen[0].description, reasons)
        return chosen
    raise AssertionError(f"none of {candidates} is available")


def open_and_try(
    name: str, bundle: "Bundle", precision: "Precision | None", *, threads: int = 0
) -> list[Backend]:
    """Open both encoders and run them once: a GPU backend can open and still fail on its first run.

    Missing TensorRT engines are not built. For `threads` see `open_first`.

    Raises:
        Unavailable: The backend is not available, or does not run.
        EmotionError: See `open_encoders`.
    """
    opened = _open(name, bundle, precision, threads)
    if name == "cpu":
        return opened
    try:
        for backend, feeds in zip(opened, minimal_feeds(bundle.manifest), strict=True):
            backend.run(feeds)
    except (EmotionError, RuntimeError) as error:  # TensorRT's bindings raise RuntimeError
        for backend in opened:
            backend.close()
        reason = f"{opened[0].description} opens but does not run ({' '.join(str(error).split())})"
        raise Unavailable(name, reason, fix="see emotion-runtime --doctor", broken=True) from error
    return opened


def minimal_feeds(manifest: "Manifest") -> list[Feeds]:
    """Return the smallest inputs of both encoders.

    They are one person who covers a black image, and a clip of zeros, (1, T, D).
    """
    spec = manifest.preprocess
    frame: Feeds = {
        "images": np.zeros((1, spec.size, spec.size, 3), np.uint8),
        "frame_index": np.zeros(1, np.int64),
        "patch_weights": np.ones((1, spec.patches), np.float32),
    }
    return [frame, {"embeddings": np.zeros((1, manifest.clip_frames, manifest.embedding_dim), np.float32)}]


def _open(name: str, bundle: "Bundle", precision: "Precision | None", threads: int = 0) -> list[Backend]:
    if name.startswith("tensorrt"):
        from emotion_runtime.tensorrt.open_engines import open_encoder_engines  # noqa: PLC0415 - see above

        return open_encoder_engines(bundle, cast("Flavor", name), precision or "ladder")
    graphs = [bundle.graph_path(graph, precision or "fp32") for graph in GRAPHS]
    if name == "cuda":
        limits = limits_for(bundle.manifest.preprocess.window, MOST_PERSONS)
        return [Bucketed(open_cuda(graph), limits) for graph in graphs]
    backend = OpenVinoBackend if name == "openvino" else OnnxBackend
    return [backend(graph, threads=threads) for graph in graphs]
