"""The parts of the GPU script that no CPU reaches, with stand-ins for CUDA graphs and TensorRT."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from emotion_bench import engine_runs
from emotion_bench.device import PRECISIONS, Device, copy_bytes, matmul_flops
from emotion_bench.engine_runs import engine_rows, export, openers, split_persons
from emotion_bench.models import formula_model
from emotion_bench.torch_runs import Ceilings, Reference, references, torch_rows
from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import open_session
from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError
from emotion_train.model import PRESETS, EmotionCLIP
from gpu import run_all

SMALL = replace(PRESETS["nano"], vision_width=48, vision_layers=1, vision_heads=3, temporal_layers=1)
CEILINGS = Ceilings(dict.fromkeys(PRECISIONS, 1e12), 1e11)


@pytest.fixture(scope="module")
def model() -> EmotionCLIP:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emotion_bench.models.PRESETS", {"small": SMALL})
        return formula_model("small")


class Instant(Device):
    """A CPU that has CUDA graphs, and on which every call takes a second.

    replay_error: what is added to everything that a graph gives.
    """

    def __init__(self, replay_error: float = 0.0) -> None:
        super().__init__("cpu")
        self.timed_replays, self._replays, self._replay_error = 0, 0, replay_error

    @property
    def captures(self) -> bool:
        return True

    def seconds(self, call: Callable[[], object]) -> float:
        before = self._replays
        call()
        self.timed_replays += self._replays - before
        return 1.0

    def capture(self, call: Callable[[], torch.Tensor]) -> tuple[Callable[[], object], torch.Tensor]:
        result = torch.zeros_like(call())  # a capture computes nothing

        def replay() -> None:
            self._replays += 1
            result.copy_(call() + self._replay_error)

        return replay, result


def test_each_number_of_persons_is_captured(model: EmotionCLIP):
    device = Instant()
    reference = references(model, [1, 4])["frame_encoder"]
    rows = list(torch_rows(model, reference, device, CEILINGS, "fp32"))
    assert [(row["runner"], row["persons"]) for row in rows] == [
        ("torch, eager", 1),
        ("torch, eager", 4),
        ("torch, CUDA graph", 1),
        ("torch, CUDA graph", 4),
    ]
    assert device.timed_replays == 2
    # A second a call: rates are the counts themselves.
    assert rows[0]["tflops"] == pytest.approx(reference.flops[1] / 1e12, abs=1e-4)


def test_a_wrong_cuda_graph_shows_in_its_cosine(model: EmotionCLIP):
    """Eager and captured have each been held against the CPU."""
    reference = references(model, [1])["temporal_encoder"]
    right, wrong = (
        {row["runner"]: row["cosine_min"] for row in torch_rows(model, reference, device, CEILINGS, "fp32")}
        for device in (Instant(), Instant(replay_error=100))
    )
    assert min(right.values()) > 0.999999
    assert wrong["torch, eager"] > 0.999999
    assert wrong["torch, CUDA graph"] < 0.9


def test_an_engine_of_many_persons_is_tuned_for_many(monkeypatch: pytest.MonkeyPatch):
    tuned = {}

    def build(_builder: Any, _model: Any, _name: str, limits: Limits, usual: Limits) -> Any:
        tuned[limits.persons] = usual
        raise EmotionError("seen enough")

    monkeypatch.setattr(engine_runs, "load_tensorrt", lambda flavor: flavor)
    monkeypatch.setattr(engine_runs, "build_engine", build)
    graph = load_bundle("nano").graph_path("temporal_encoder")
    parts = split_persons([1, 2, 16, 32, 64])
    assert parts == [[1, 2, 16], [32, 64]]
    assert split_persons([1]) == [[1]]
    for part in parts:
        with (
            pytest.raises(EmotionError, match="seen enough"),
            openers("cuda")["tensorrt", "fp32"](graph, max(part)),
        ):
            pass
    assert tuned == {16: Limits(4, 1), 64: Limits(64, 1)}


def test_a_failure_on_a_device_keeps_all_other_rows(tmp_path: Path):
    result: dict[str, Any] = {"rows": [], "skipped": []}
    run = run_all.Run(result, tmp_path / "gpu.json", minutes=1)

    def rows(error: Exception) -> Iterator[dict[str, Any]]:
        yield {"persons": 1}
        raise error

    full = torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")
    run.measure("nano", "in fp16", rows(full))
    run.measure("nano", "in TensorRT", rows(EmotionError("no engine")))
    assert result["rows"] == 2 * [{"model": "nano", "persons": 1}]
    assert result["skipped"] == [
        {"what": "in fp16", "reason": "CUDA out of memory. Tried to allocate 20 GiB"},
        {"what": "in TensorRT", "reason": "no engine"},
    ]
    with pytest.raises(TypeError):  # a fault of ours is no skipped row
        run.measure("nano", "x", rows(TypeError()))


def test_fractions_are_of_the_measured_limits():
    reference = Reference("frame_encoder", {}, {8: 3_000_000_000}, parameters=50_000_000)
    ceilings = Ceilings({"fp16": 1e13}, bytes=2e12)
    # 3 GFLOP in a millisecond are 3 of 10 TFLOP/s; 100 MB of weights in it 0.1 of 2 TB/s.
    assert reference.fractions(8, 0.001, "fp16", ceilings) == {
        "tflops": 3.0,
        "share_of_matmul": 0.3,
        "share_of_bandwidth": 0.05,
    }


def test_limits_count_operations_and_bytes(monkeypatch: pytest.MonkeyPatch):
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


@pytest.mark.slow
def test_both_flavours_are_built_in_both_precisions_and_freed(
    model: EmotionCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Built:
        def __init__(self, model: onnx.ModelProto) -> None:
            self.engine = model.SerializeToString()

    def build(_builder: Any, model: onnx.ModelProto, _name: str, limits: Any, _usual: Any) -> Built:
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
