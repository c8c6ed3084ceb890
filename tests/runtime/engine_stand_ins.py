"""A cache of stand-ins for engines: ONNX files that ONNX Runtime runs instead of TensorRT."""

import errno
import hashlib
import importlib.util
import os
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.backends.buckets import limits_for
from emotion_runtime.backends.onnx import open_session
from emotion_runtime.bundle import Bundle
from emotion_runtime.detectors.yolo import Yolo
from emotion_runtime.errors import EngineRejected
from emotion_runtime.names import GraphName
from emotion_runtime.tensorrt import cache as engines
from emotion_runtime.tensorrt.cache import EngineKey, Sidecar
from emotion_runtime.tensorrt.gpu import Gpu
from emotion_runtime.tensorrt.keys import encoder_key

GPU = Gpu("NVIDIA Test", "8.6", "12.6")
UNLOADABLE = b"of another driver"
VERSION = " 10.3.0 Test"
BUILDER = f"tensorrt{VERSION}"
TENSORRT_SPEC = ModuleSpec("tensorrt", None, origin="test")
SECONDS = 60  # timeout: a thread that hangs must fail the test
REJECTED = {
    "unloadable": "the engine cannot be loaded",
    "not the model": "the engine of temporal_encoder fails the parity check on this GPU",
}


class StandIn:
    """A backend that runs an "engine", which is an ONNX file."""

    name = "tensorrt"
    description = "engine"

    def __init__(self, engine: bytes, *, flavor: str, kernels: Path | None = None) -> None:
        assert flavor == "tensorrt"
        assert kernels is None or kernels.suffix == ".kernels"
        if engine == UNLOADABLE:
            raise EngineRejected("the engine cannot be loaded by TensorRT")
        self._session = open_session(engine, name="engine", fix="none")

    def run(self, feeds: Feeds) -> Outputs:
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Cache:
    """An engine cache for a bundle and an imaginary GPU."""

    folder: Path
    bundle: Bundle

    def key(self, graph: GraphName) -> EngineKey:
        limits = limits_for(self.bundle.manifest.preprocess.window)
        return encoder_key(self.bundle, graph, "ladder", limits, builder=BUILDER, gpu=GPU)

    def store(
        self, graph: GraphName, *, content: bytes | None = None, checked_on: str = GPU.with_driver
    ) -> None:
        content = content or self.bundle.graph_path(graph).read_bytes()
        stored = sidecar(self.key(graph), content, checked_on)
        engines.store_engine(self.folder, content, stored)


def sidecar(key: EngineKey, content: bytes, checked_on: str = GPU.with_driver) -> Sidecar:
    return Sidecar(
        schema=engines.SIDECAR_SCHEMA,
        key=key,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        precision="fp32",
        checked_on=checked_on,
        parity=[],
        fp32_layers=[],
        layer_types={},
        loaded_types={},
        refused=[],
        build_seconds=1.0,
    )


def pretend_installed(monkeypatch: pytest.MonkeyPatch, specs: dict[str, ModuleSpec | None]) -> None:
    real = find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: specs[name] if name in specs else real(name)
    )


def clips(persons: int = 3) -> Feeds:
    return {"embeddings": np.random.default_rng(persons).random((persons, 4, 4), np.float32)}


def not_the_model(folder: Path) -> bytes:
    """Return the temporal encoder with reversed weights: the oldest frame counts most, not the newest."""
    model = onnx.load(folder / "temporal_encoder.onnx")
    (ramp,) = [each for each in model.graph.initializer if each.name == "ramp"]
    turned = onnx.numpy_helper.to_array(ramp)[::-1]
    ramp.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(turned), "ramp"))
    return bytes(model.SerializeToString())


def store_rejected(cache: Cache, reason: str) -> None:
    """Store engines, of which the one of the temporal encoder is rejected."""
    cache.store("frame_encoder")
    if reason == "unloadable":
        cache.store("temporal_encoder", content=UNLOADABLE)
    else:
        cache.store("temporal_encoder", content=not_the_model(cache.bundle.folder), checked_on="")


def forbid_writing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder read-only, also for root."""
    real = engines.tempfile.TemporaryFile

    def fail(dir: Path) -> object:  # noqa: A002 - tempfile's name
        if dir == folder:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(dir=dir)

    monkeypatch.setattr(engines.tempfile, "TemporaryFile", fail)


def sorted_rows(path: Path, *, person: float = 0.9, exchanged: bool = False) -> Yolo:
    """Return a detector of 64 x 64 images with sorted boxes: a person, and two things of about one score.

    exchanged: The two have changed places, as by rounding.
    """
    things = [[0, 0, 9, 9, 0.0501, 7], [50, 50, 64, 64, 0.05, 60]]
    rows = [[8, 8, 40, 60, person, 0], *things[:: -1 if exchanged else 1]]
    output = onnx.numpy_helper.from_array(np.array([rows], np.float32), "rows")
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["rows"], ["output"])],
        "g",
        [info("images", onnx.TensorProto.FLOAT, (1, 3, 64, 64))],
        [info("output", onnx.TensorProto.FLOAT, None)],
        [output],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return Yolo(path, threads=1)
