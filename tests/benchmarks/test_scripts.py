"""The benchmarks run here, too, and write what they promise. How fast is never asked."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import bench_pipeline
from emotion_bench import models
from emotion_bench.step_results import Recorder
from emotion_train.model import PRESETS
from gpu import run_all, steps

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


# In a process of its own: after torch's exporter and OpenVINO have run in one process, forking it ends in a
# segmentation fault, and other tests fork. A smaller model takes a quarter of the time to export.
ENCODER_BENCHMARK = """
import sys
from dataclasses import replace

import bench_encoder
import emotion_bench.models
from emotion_train.model import PRESETS

small = dict(vision_width=48, vision_layers=1, vision_heads=3, temporal_layers=1)
emotion_bench.models.PRESETS = {"nano": replace(PRESETS["nano"], **small)}
sys.exit(bench_encoder.main(sys.argv[1:]))
"""


@pytest.mark.nightly
def test_the_encoder_benchmark(tmp_path: Path):
    options = ["--quick", "--persons", "1", "3", "--rounds", "1", "--backends", "openvino", "cuda"]
    paths = [str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    screen = subprocess.run(
        [sys.executable, "-c", ENCODER_BENCHMARK, *options, "--out", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert screen.returncode == 0, screen.stderr
    result = read(tmp_path / "encoder.json")
    assert result["machine"]["cores"] >= 1
    both = {"ours on cpu", "ours on cpu, again", "plain on cpu", "ours on openvino", "plain on openvino"}
    for persons in (1, 3):
        rows = {row["contender"]: row for row in result["rows"] if row["persons"] == persons}
        assert set(rows) == both
        for row in rows.values():
            assert row["max_abs_difference"] < 1e-4
            assert row["ms"]["min"] > 0
        assert rows["plain on cpu"]["ratio_to_plain"] == {"median": 1.0, "min": 1.0, "max": 1.0}
        # One round: the fraction of sgemm times the time is that of the operations, whatever the time was.
        plain, ours = (
            rows[name]["share_of_sgemm"]["median"] * rows[name]["ms"]["median"]
            for name in ("plain on cpu", "ours on cpu")
        )
        if persons == 3:
            assert plain > 2 * ours  # three pictures' patches instead of one's
    assert "left out: backend cuda: the installed ONNX Runtime was built without CUDA" in screen.stderr
    assert screen.stdout.startswith("| frame encoder of")


def test_the_pipeline_benchmark(tmp_path: Path):
    options = ["--source", "demo", "--quick", "--frames", "8"]
    assert bench_pipeline.main([*options, "--out", str(tmp_path)]) == 0
    first, again = read(tmp_path / "pipeline.json")["rows"]
    assert (first["backend"], again["backend"]) == ("cpu", "cpu, again")
    assert first["persons"] == 2
    assert set(first["ms_per_frame"]) == {"read", "detect", "heads", "track", "crop", "encode", "temporal"}
    stages = sum(stage["median"] for stage in first["ms_per_frame"].values())
    assert 0 < stages * first["fps"]["median"] <= 1010
    assert 0 < first["share_not_a_network"]["median"] < 1


def test_a_missing_video_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert bench_pipeline.main(["--source", "nobody.mp4", "--quick", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench_pipeline: error: ")
    assert "nobody.mp4" in line


@pytest.fixture(scope="module")
def gpu_result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The GPU script as it is started on a GPU, on the CPU, without PyTorch, which takes long to start."""
    out = tmp_path_factory.mktemp("gpu")
    command = [
        "bash",
        str(ROOT / "benchmarks/gpu/run_all.sh"),
        *("--device", "cpu", "--quick", "--persons", "2"),
        *("--steps", "ceilings", "parity", "pipeline", "speed"),
        *("--out", str(out)),
    ]
    environment = os.environ | {"PYTHON": os.sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=480)
    assert done.returncode == 0, done.stderr
    assert (out / "gpu.md").read_text() == done.stdout
    assert done.stdout.endswith("PASS: 5 of 5 checks passed\n")
    return read(out / "gpu.json")


def test_the_gpu_script_measures_everything_a_cpu_supports(gpu_result: dict[str, Any]):
    assert gpu_result["skipped"] == gpu_result["failed"] == []
    assert {f"matmul {precision}, TFLOP/s" for precision in ("fp32", "fp16")} <= set(gpu_result["ceilings"])
    assert min(gpu_result["ceilings"].values()) > 0
    keys = {(r["runner"], r["graph"], r["crops"], r["precision"], r["persons"]) for r in gpu_result["rows"]}
    work = (("frame_encoder", "own crops"), ("frame_encoder", "one crop"), ("temporal_encoder", ""))
    ways = [
        (name, precision)
        for name in ("ONNX Runtime, cpu", "ONNX Runtime, cpu, as in the runtime")
        for precision in ("fp32", "fp16")
    ]
    ways.append(("ONNX Runtime, CPU provider", "fp32"))
    assert keys == {(runner, *each, precision, 2) for runner, precision in ways for each in work}
    assert len(keys) == len(gpu_result["rows"])


LEAST_COSINES = {"fp32": 0.999999, "fp16": 0.999, "bf16": 0.99}


def test_the_gpu_script_compares_every_precision_with_float32(gpu_result: dict[str, Any]):
    for row in gpu_result["rows"]:
        assert row["ms"] > 0
        if row["runner"] != "ONNX Runtime, CPU provider":
            assert LEAST_COSINES[row["precision"]] <= row["cosine_min"] <= 1.000001, row
            assert min(row["flops"], row["parameters"]) > 0


def test_the_step_in_pytorch_has_every_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = {"vision_width": 48, "vision_layers": 1, "vision_heads": 3, "temporal_layers": 1}
    monkeypatch.setattr(models, "PRESETS", {"nano": replace(PRESETS["nano"], **small)})
    recorder = Recorder(tmp_path / "step.json")
    steps.STEPS["torch-nano"](run_all.parse_args(["--device", "cpu", "--quick", "--persons", "2"]), recorder)
    result = recorder.result
    assert result["skipped"] == result["failed"] == []
    work = [("frame_encoder", "own crops"), ("frame_encoder", "one crop"), ("temporal_encoder", "")]
    assert [(row["runner"], row["precision"], row["graph"], row["crops"]) for row in result["rows"]] == [
        ("PyTorch, eager", precision, *each) for precision in LEAST_COSINES for each in work
    ]
    for row in result["rows"]:
        assert LEAST_COSINES[row["precision"]] <= row["cosine_min"] <= 1.000001, row
        assert min(row["ms"], row["ms_on_device"]) > 0


def test_the_gpu_script_checks_parity_and_the_whole_runtime(gpu_result: dict[str, Any]):
    assert all(check["passed"] for check in gpu_result["checks"])
    assert [check["check"].split(",")[0].split(" ")[0] for check in gpu_result["checks"]] == [
        *4 * ["parity"],
        "events",
    ]
    assert [row["backend"] for row in gpu_result["pipeline"]] == ["cpu", "cpu"]
    assert all(row["fps"] > 0 and row["persons_per_frame"] == 2 for row in gpu_result["pipeline"])


def test_without_cuda_the_gpu_script_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert run_all.main(["--check", "--out", str(tmp_path)]) == 2
    assert "run_all: error: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
