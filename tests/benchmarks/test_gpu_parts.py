"""What the GPU benchmark measures, where no CPU reaches: stand-ins for CUDA graphs, CUDA and TensorRT."""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from emotion_bench import engine_runs, onnx_speed
from emotion_bench.device import Device, copy_bytes, matmul_flops
from emotion_bench.engine_runs import WAYS, engine_rows, export, split_persons
from emotion_bench.gpu_report import add_fractions
from emotion_bench.models import formula_model
from emotion_bench.step_results import Recorder
from emotion_bench.torch_runs import references, torch_rows
from emotion_bench.work import work_of
from emotion_export.graphs import graph_sources
from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import open_session
from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt.gpu import Gpu
from emotion_train.model import PRESETS, EmotionCLIP

SMALL = replace(PRESETS["nano"], vision_width=48, vision_layers=1, vision_heads=3, temporal_layers=1)
FRAMES, CLIPS = ("frame_encoder", "one crop"), ("temporal_encoder", "")


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

    def capture(self, call: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        result = torch.zeros_like(call())  # a capture computes nothing

        def replay() -> torch.Tensor:
            self._replays += 1
            return result.copy_(call() + self._replay_error)

        return replay


def test_each_number_of_persons_is_captured(model: EmotionCLIP):
    device = Instant()
    rows = list(torch_rows(model, references(model)[FRAMES], [1, 4], device, "fp32"))
    assert [(row["runner"], row["persons"]) for row in rows] == [
        ("PyTorch, eager", 1),
        ("PyTorch, eager", 4),
        ("PyTorch, CUDA graph", 1),
        ("PyTorch, CUDA graph", 4),
    ]
    assert device.timed_replays == 4  # with and without copies


def test_a_wrong_cuda_graph_shows_in_its_cosine(model: EmotionCLIP):
    """Eager and captured are compared with the CPU separately."""
    reference = references(model)[CLIPS]
    right, wrong = (
        {row["runner"]: row["cosine_min"] for row in torch_rows(model, reference, [1], device, "fp32")}
        for device in (Instant(), Instant(replay_error=100))
    )
    assert min(right.values()) > 0.999999
    assert wrong["PyTorch, eager"] > 0.999999
    assert wrong["PyTorch, CUDA graph"] < 0.9


def test_people_with_crops_of_their_own_cost_an_image_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The operations of any number of people follow from those of one and two."""
    monkeypatch.setattr(onnx_speed, "speed_rows", lambda graph, *args: rows_of(graph, args[3]))
    monkeypatch.setattr(onnx_speed, "cpu_rows", lambda *_: ())
    monkeypatch.setattr(onnx_speed, "in_precisions", lambda path, _: {"fp32": path})
    bundle = load_bundle("nano")
    path, spec = bundle.graph_path("frame_encoder"), bundle.manifest.preprocess
    args, recorder = argparse.Namespace(persons=[1, 3], device="cpu"), Recorder(tmp_path / "step.json")

    def rows_of(graph: str, inputs: list[onnx_speed.Input]) -> Iterator[dict[str, Any]]:
        for each in inputs:
            assert each.flops == work_of(paths[graph], each.feeds).flops
            yield {"graph": graph, **each.about()}

    clip = (bundle.manifest.clip_frames, bundle.manifest.embedding_dim)
    paths = {"frame_encoder": path, "temporal_encoder": bundle.graph_path("temporal_encoder")}
    onnx_speed.time_graphs("nano", paths, spec, clip, args, recorder)
    assert recorder.result["failed"] == []
    flops = {
        (row["crops"], row["persons"]): row["flops"]
        for row in recorder.result["rows"]
        if row["graph"] == "frame_encoder"
    }
    assert flops["own crops", 1] == flops["one crop", 1]
    assert flops["own crops", 3] == 3 * flops["own crops", 1] > 2 * flops["one crop", 3]


def test_an_engine_of_many_persons_is_tuned_for_many(model: EmotionCLIP, monkeypatch: pytest.MonkeyPatch):
    tuned = {}

    def build(_builder: Any, _model: Any, _name: str, limits: Limits, usual: Limits) -> Any:
        tuned[limits.persons] = usual
        raise EmotionError("seen enough")

    monkeypatch.setattr(engine_runs, "load_tensorrt", lambda flavor: flavor)
    monkeypatch.setattr(engine_runs, "find_gpu", lambda: Gpu("Test GPU", "8.6"))
    monkeypatch.setattr(engine_runs, "build_engine", build)
    graph = load_bundle("nano").graph_path("temporal_encoder")
    parts = split_persons([1, 2, 16, 32, 64])
    assert parts == [[1, 2, 16], [32, 64]]
    assert split_persons([1]) == [[1]]
    reference = references(model)[CLIPS]
    for part in parts:
        rows = engine_rows(reference, graph, part, Instant(), ("tensorrt", "fp32"))
        with pytest.raises(EmotionError, match="seen enough"):
            next(rows)
    assert tuned == {16: Limits(4, 1), 64: Limits(64, 1)}


def test_a_failure_on_a_device_keeps_all_other_rows(tmp_path: Path):
    recorder = Recorder(tmp_path / "step.json")

    def rows(error: Exception) -> Iterator[dict[str, Any]]:
        yield {"persons": 1}
        raise error

    full = torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")
    recorder.measure("in fp16", rows(full), model="nano")
    recorder.measure("in TensorRT", rows(EmotionError("no engine")), model="nano")
    recorder.measure("a fault of ours", rows(TypeError("x")), model="nano")
    result = json.loads((tmp_path / "step.json").read_text())
    assert result["rows"] == 3 * [{"model": "nano", "persons": 1}]
    assert result["skipped"] == [
        {"what": "in fp16", "reason": "CUDA out of memory. Tried to allocate 20 GiB"},
        {"what": "in TensorRT", "reason": "no engine"},
    ]
    assert result["failed"] == [{"what": "a fault of ours", "reason": "TypeError: x"}]


def test_fractions_are_of_the_measured_limits():
    counted = {"flops": 3_000_000_000, "parameters": 50_000_000}
    row = {"model": "nano", "graph": "frame_encoder", "crops": "one crop", "persons": 8, "precision": "fp16"}
    result: dict[str, Any] = {
        "rows": [row | {"ms_on_device": 1.0}, row | {"precision": "bf16", "ms": 2.0} | counted],
        "ceilings": {"matmul fp16, TFLOP/s": 8.0, "matmul fp16 in PyTorch, TFLOP/s": 10.0}
        | {"copy on the device, GB/s": 2000.0},
    }
    add_fractions(result)
    # 3 GFLOP in a millisecond are 3 of 10 TFLOP/s; 100 MB of weights in it 0.1 of 2 TB/s.
    assert result["rows"][0] == row | counted | {
        "ms_on_device": 1.0,
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
        return {"features": self._session.run(None, dict(feeds))[0]}

    def close(self) -> None:
        self.closed = True


@pytest.mark.slow
def test_both_flavours_are_built_in_both_precisions_and_freed(
    model: EmotionCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def build(
        _builder: Any, model: onnx.ModelProto, _name: str, limits: Any, _usual: Any
    ) -> tuple[bytes, dict[str, int]]:
        assert limits.persons == 2
        return model.SerializeToString(), {}

    monkeypatch.setattr(engine_runs, "load_tensorrt", lambda flavor: flavor)
    monkeypatch.setattr(engine_runs, "find_gpu", lambda: Gpu("Test GPU", "8.6"))
    monkeypatch.setattr(engine_runs, "build_engine", build)
    monkeypatch.setattr(engine_runs, "TensorRTBackend", Engine)
    reference = references(model)[CLIPS]
    monkeypatch.setattr(engine_runs, "graph_sources", lambda model: graph_sources(model)[1:])  # the smaller
    graph = export(model, tmp_path)["temporal_encoder"]
    for way in WAYS:
        rows = list(engine_rows(reference, graph, [1, 2], Instant(), way))
        assert [row["persons"] for row in rows] == [1, 2]
        # Held against the model with up to 8 persons, in parts of 2.
        assert all(row["cosine_min"] > (0.999 if way[1] == "fp16" else 0.999999) for row in rows)
    assert list(WAYS) == [(f, p) for f in ("tensorrt", "tensorrt-rtx") for p in ("fp16", "fp32")]
    assert all(engine.closed for engine in Engine.opened)
    half = [
        any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in engine.model.graph.initializer)
        for engine in Engine.opened
    ]
    assert half == [True, False, True, False]
    assert np.isfinite(rows[0]["ms"])
