"""Benchmarks of live runs: made cameras, what bounds a time, and the scripts. How fast is never asked."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import bench_crowd
import bench_scale
import bench_stream
import bench_targets
from emotion_bench.live_load import network_cores
from emotion_bench.made_cameras import cameras, crowd
from emotion_bench.processes import peak_memory
from emotion_bench.work import Limits, Work, work_of
from emotion_runtime import fastest_backend
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@pytest.mark.parametrize("people", [1, 5])
def test_everybody_in_a_made_frame_is_found(people: int):
    clip = crowd(people, frames=4)
    assert {image.shape for image in clip} == {(480, 640, 3)}
    assert len({image.tobytes() for image in clip}) == 4  # a frozen source would have no frames
    assert len(load_detector("face", threads=1, score=0.5)(clip[2]).scores) == people


def test_cameras_deliver_frames_at_their_rate_and_not_at_once():
    clip = [np.full((48, 64, 3), 40 + i, np.uint8) for i in range(4)]
    sources = cameras(2, clip, rate=20)
    frames = [next(iter(source)) for source in sources]
    assert [frame.source for frame in frames] == ["camera 1", "camera 2"]
    assert all(frame.captured is not None and frame.image.shape == (48, 64, 3) for frame in frames)
    for source in sources:
        source.close()


def test_the_work_of_a_graph_is_that_of_its_products():
    value = helper.make_tensor_value_info
    weight = helper.make_tensor("w", TensorProto.FLOAT, [8, 3, 3, 3], np.zeros(216))
    last = helper.make_tensor("m", TensorProto.FLOAT, [6, 5], np.zeros(30))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("MatMul", ["r", "m"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [1, 3, 6, 8])],
        [value("z", TensorProto.FLOAT, [1, 8, 4, 5])],
        [weight, last],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = work_of(model.SerializeToString(), {"x": np.zeros((1, 3, 6, 8), np.float32)})
    assert found.flops == 2 * (8 * 4 * 6) * (3 * 3 * 3) + 2 * (8 * 4 * 5) * 6
    assert found.bytes == 4 * (216 + 30 + 3 * 6 * 8 + 8 * 4 * 5)


def test_the_limit_is_the_larger_of_two_times():
    limits = Limits(flops=1e9, bytes=1e8)
    assert limits.ms(Work(2_000_000, 100_000)) == pytest.approx(2.0)
    assert limits.ms(Work(100_000, 200_000) + Work(0, 100_000)) == pytest.approx(3.0)


@pytest.fixture
def made_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that need no measurement, which the test of the stream has."""
    for script in (bench_crowd, bench_scale, bench_targets):
        monkeypatch.setattr(script, "measure_limits", lambda _: Limits(1e11, 1e10))


def test_on_a_gpu_there_is_no_limit_of_processor_time():
    load = {
        "backend": "ONNX Runtime 1.31.1, CUDAExecutionProvider",
        "cores": 0.2,
        "dropped": 0.0,
        "fps": 12.0,
    }
    load |= {"detect_every_s": 0.2, "encode_every_s": 0.2, "p50_ms": 5, "p95_ms": 9}
    work, limits = Work(10**9, 10**6), Limits(1e11, 1e10)
    assert network_cores((work, work), 2, 1, load, limits) is None
    assert network_cores((work, work), 2, 1, {**load, "backend": "CPUExecutionProvider"}, limits)
    row = {**load, "cameras": 1, "again": False, "limit_cores": None}
    assert "| 1       | 0.20  |              |               | 12.0" in bench_scale.table({"rows": [row]})


@pytest.mark.slow
def test_the_stream_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert bench_stream.main(["--quick", "--out", str(tmp_path)]) == 0
    result = read(tmp_path / "stream.json")
    assert [row["contender"] for row in result["rows"]] == ["ring", "ring, again", "all frames"]
    one, _, all_frames = result["rows"]
    assert all_frames["gflop"] > 6 * one["gflop"]
    assert min(row["fraction_of_limit"] for row in result["rows"]) > 0
    assert capsys.readouterr().out == bench_stream.table(result) + "\n"


@pytest.mark.slow
@pytest.mark.usefixtures("made_limits")
def test_the_crowd_benchmark(tmp_path: Path):
    assert bench_crowd.main(["--quick", "--people", "1", "3", "--out", str(tmp_path)]) == 0
    rows = {(row["people"], row["contender"]): row for row in read(tmp_path / "crowd.json")["rows"]}
    assert len(rows) == 6
    assert rows[3, "crop per person"]["gflop"] == pytest.approx(
        3 * rows[1, "crop per person"]["gflop"], rel=0.01
    )
    assert rows[3, "shared crop"]["gflop"] < 2 * rows[1, "shared crop"]["gflop"]


@pytest.mark.slow
@pytest.mark.usefixtures("made_limits")
def test_the_scale_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fastest_backend, "fastest_backend", lambda *_: None)
    options = ["--quick", "--cameras", "1", "--seconds", "0.5", "--out", str(tmp_path)]
    assert bench_scale.main(options) == 0
    first, again = read(tmp_path / "scale.json")["rows"]
    assert (first["cameras"], first["again"], again["again"]) == (1, False, True)
    assert "ONNX Runtime" in first["backend"]
    assert min(first[name] for name in ("cores", "fps", "p95_ms", "people")) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("made_limits")
def test_the_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(bench_targets, "first_events", lambda _, runs: [0.5] * runs)
    monkeypatch.setattr(bench_targets, "peak_memory", lambda _: 400.0)
    monkeypatch.setattr(fastest_backend, "fastest_backend", lambda *_: None)
    assert bench_targets.main(["--quick", "--out", str(tmp_path)]) == 0
    rows = read(tmp_path / "targets.json")["rows"]
    assert [row["target"] for row in rows] == [0.16, 0.28, None, 300, 3, 2, 0.6, None]
    assert rows[-2] | {"measured": 0} == {
        "what": "start to first event",
        "unit": "s",
        "measured": 0,
        "target": 0.6,
        "met": True,
        "note": "of the demo, which is a file",
    }
    for row in rows[:3]:
        assert row["load"]["cores"] > 0
        if row["load"]["dropped"] > bench_targets.MOST_DROPPED:
            assert row["met"] is None
    assert "| start to first event" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells the peak of a process")
def test_peak_memory_is_that_of_the_program_and_not_of_this_process():
    large = np.ones(1_000_000_000, np.uint8)
    memory = peak_memory(["--source", "demo", "--no-show", "--jsonl", os.devnull, "--max-frames", "1"])
    assert memory is not None
    assert 50 < memory < large.nbytes / 1e6
    with pytest.raises(EmotionError, match=r"nothing\.mp4"):
        peak_memory(["--source", "nothing.mp4", "--no-show"])
