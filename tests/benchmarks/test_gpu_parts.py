"""The parts of the GPU script that no CPU reaches, with stand-ins for CUDA graphs and TensorRT."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from emotion_bench import engine_runs
from emotion_bench.device import PRECISIONS, Device, copy_bytes, matmul_flops
from emotion_bench.engine_runs import engine_rows, export, openers
from emotion_bench.models import formula_model
from emotion_bench.torch_runs import Ceilings, Reference, references, torch_rows
from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.backends.onnx import open_session
from emotion_train.model import PRESETS, EmotionCLIP

SMALL = replace(PRESETS["nano"], vision_width=48, vision_layers=1, vision_heads=3, temporal_layers=1)
CEILINGS = Ceilings(dict.fromkeys(PRECISIONS, 1e12), 1e11)


@pytest.fixture(scope="module")
def model() -> EmotionCLIP:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emotion_bench.models.PRESETS", {"small": SMALL})
        return formula_model("small")


class Instant(Device):
    """A CPU that has CUDA graphs, and on which every call takes a second."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.replayed = 0

    @property
    def captures(self) -> bool:
        return True

    def seconds(self, call: Callable[[], object]) -> float:
        call()
        return 1.0

    def capture(self, call: Callable[[], torch.Tensor]) -> tuple[Callable[[], object], torch.Tensor]:
        def replay() -> None:
            self.replayed += 1

        return replay, call()


def test_each_number_of_persons_is_captured(model: EmotionCLIP):
    device = Instant()
    reference = references(model, [1, 4])["frame_encoder"]
    rows = list(torch_rows(model, reference, device, CEILINGS, "fp32"))
    assert [(row["runner"], row["persons"]) for row in rows] == [
        ("torch, eager", 1),
        ("torch, CUDA graph", 1),
        ("torch, eager", 4),
        ("torch, CUDA graph", 4),
    ]
    assert device.replayed == 2
    # A second a call: rates are the counts themselves.
    assert rows[0]["tflops"] == pytest.approx(reference.flops[1] / 1e12, abs=1e-4)


def test_shares_are_of_the_measured_ceilings():
    reference = Reference("frame_encoder", {}, {8: 3_000_000_000}, parameters=50_000_000)
    ceilings = Ceilings({"fp16": 1e13}, bytes=2e12)
    # 3 GFLOP in a millisecond are 3 of 10 TFLOP/s; 100 MB of weights in it 0.1 of 2 TB/s.
    assert reference.shares(8, 0.001, "fp16", ceilings) == {
        "tflops": 3.0,
        "share_of_matmul": 0.3,
        "share_of_bandwidth": 0.05,
    }


def test_ceilings_count_operations_and_bytes(monkeypatch: pytest.MonkeyPatch):
    device = Device("cpu")
    monkeypatch.setattr(device, "seconds", lambda call: call() is None or 0.5)
    assert matmul_flops(device, "fp32", 32) == 2 * 32**3 / 0.5
    assert copy_bytes(device, 1000) == 2 * 1000 / 0.5  # read and written


class Engine:
    """An "engine" that is an ONNX file."""

    description = "engine"
    opened: list["Engine"] = []  # noqa: RUF012 - of the test below alone

    def __init__(self, engine: bytes, *, flavor: str) -> None:
        self.flavor, self.model, self.closed = flavor, onnx.load_from_string(engine), False
        self._session = open_session(engine, name="engine", fix="none")
        self.opened.append(self)

    def run(self, feeds: Feeds) -> Outputs:
        assert not self.closed
        return {"embeddings": self._session.run(None, dict(feeds))[0]}

    def close(self) -> None:
        self.closed = True


def test_both_flavours_are_built_in_both_precisions_and_freed(
    model: EmotionCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Built:
        def __init__(self, model: onnx.ModelProto) -> None:
            self.engine = model.SerializeToString()

    def build(_builder: Any, model: onnx.ModelProto, _name: str, limits: Any) -> Built:
        assert limits.persons == 2
        return Built(model)

    monkeypatch.setattr(engine_runs, "load_tensorrt", lambda flavor: flavor)
    monkeypatch.setattr(engine_runs, "build_engine", build)
    monkeypatch.setattr(engine_runs, "TensorRTBackend", Engine)
    reference = references(model, [1, 2])["frame_encoder"]
    graph = export(model, tmp_path)["frame_encoder"]
    ways = {way: opener for way, opener in openers("cuda").items() if "tensorrt" in way[0]}
    for way, opener in ways.items():
        with opener(graph, 2) as backend:
            rows = list(engine_rows(model, reference, Instant(), CEILINGS, way, backend))
        assert [row["persons"] for row in rows] == [1, 2]
        # Held against the model with up to 8 persons, in parts of 2.
        assert all(row["cosine_min"] > (0.999 if way[1] == "fp16" else 0.999999) for row in rows)
    assert list(ways) == [(f, p) for f in ("tensorrt", "tensorrt-rtx") for p in ("fp16", "fp32")]
    assert all(engine.closed for engine in Engine.opened)
    half = [
        any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in engine.model.graph.initializer)
        for engine in Engine.opened
    ]
    assert half == [True, False, True, False]
    assert np.isfinite(rows[0]["ms"])
