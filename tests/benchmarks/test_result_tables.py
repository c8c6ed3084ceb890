"""The tables of docs/benchmarks.md are made from whatever has been measured."""

import json
from pathlib import Path
from typing import Any

import pytest

import result_tables


def spread(value: float) -> dict[str, float]:
    return {"median": value, "min": value, "max": value}


def pipeline(backend: str, **more: Any) -> dict[str, Any]:
    return {
        "source": "people.gif",
        "backend": backend,
        "persons": 3,
        "fps": spread(21.713),
        "fps_detector_alone": spread(25.46),
        "fraction_of_detector_alone": spread(0.9105),
        "ms_per_frame": {"encode": spread(4.5285)},
        **more,
    }


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(result_tables, "RESULTS", tmp_path)
    return tmp_path


def write(results: Path, machine: str, benchmark: str, rows: list[dict[str, Any]]) -> None:
    folder = results / machine
    folder.mkdir(exist_ok=True)
    result = {"machine": {"cpu": machine, "cores": 2}, "rows": rows}
    (folder / f"{benchmark}.json").write_text(json.dumps(result))


def cells(line: str) -> list[str]:
    """Return the cells of a line of a Markdown table, without their padding."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_value_that_no_machine_measured_has_no_column(results: Path):
    write(results, "a", "pipeline", [pipeline("cpu")])
    machine, empty, header, _, row = result_tables.pipeline_rows()
    assert (machine, empty) == ("Machine: a, 2 cores.", "")
    assert dict(zip(cells(header), cells(row), strict=True)) == {
        "people": "3",
        "fps": "21.7",
        "detector alone": "25.5",
        "fraction of that": "91.0 %",
        "encode, ms per frame": "4.5",
    }


def test_a_value_that_one_machine_did_not_measure_is_a_dash(results: Path):
    write(results, "a", "pipeline", [pipeline("cpu")])
    more = {"share_not_a_network": spread(0.123)}
    write(results, "b", "pipeline", [pipeline("cuda", **more), pipeline("cuda, again")])
    header, _, first, second = result_tables.pipeline_rows()
    assert "encoders on" in header
    assert "video" not in header  # one and the same
    assert cells(first) == ["a, 2 cores", "3", "cpu", "21.7", "25.5", "91.0 %", "4.5", "-"]
    assert cells(second) == ["b, 2 cores", "3", "cuda", "21.7", "25.5", "91.0 %", "4.5", "12.3 %"]


def test_encoders_beside_the_plain_export(results: Path):
    def row(contender: str, persons: int, ms: float, ratio: float) -> dict[str, Any]:
        about = {"model": "nano", "graph": "frame_encoder", "contender": contender, "persons": persons}
        return about | {"ms": spread(ms), "ratio_to_plain": spread(ratio)}

    rows = [
        row("ours on cpu", 1, 2.0, 1.05),
        row("ours on cpu", 4, 3.0, 3.333),
        row("ours on cpu, again", 1, 2.0, 1.0),
        row("plain on cpu", 1, 2.1, 1.0),
        {"model": "nano", "graph": "frame_encoder", "contender": "sgemm", "persons": 1},
        row("ours on cpu", 1, 9.0, 1.0) | {"graph": "temporal_encoder"},
    ]
    write(results, "a", "encoder", rows)
    assert [cells(line) for line in result_tables.encoder_rows()[4:]] == [
        ["nano", "ours on cpu", "2.0 ms (1.05)", "3.0 ms (3.33)"],
        ["nano", "plain on cpu", "2.1 ms (1.00)", "-"],
    ]


def test_gpu_times_are_those_of_the_crops_that_the_runtime_uses(results: Path):
    def row(model: str, crops: str, persons: int, **more: Any) -> dict[str, Any]:
        about = {"model": model, "graph": "frame_encoder", "crops": crops, "persons": persons}
        return about | {"runner": "ONNX Runtime, cuda", "precision": "fp32", "ms": 0.5} | more

    rows = [
        row("nano", "own crops", 1, ms_on_device=0.25),
        row("nano", "own crops", 8),
        row("nano", "one crop", 1, ms=9.0),
        row("vit-b-32", "one crop", 8, ms=1.234),
        row("nano", "", 1) | {"graph": "temporal_encoder"},
    ]
    result = {
        "machine": {"gpu": "NVIDIA X, 580.1, 81559 MiB"},
        "rows": rows,
        "checks": [{"passed": True}, {"passed": False}],
        "ceilings": {"matmul fp32, TFLOP/s": 50.0},
    }
    (results / "x").mkdir()
    (results / "x/gpu.json").write_text(json.dumps(result))
    about, empty, header, _, nano, vit = result_tables.gpu_rows()
    assert empty == ""
    assert about.startswith("Machine: NVIDIA X; its driver and all versions are in `results/x/gpu.json`. ")
    assert "1 of 2 checks against the CPU passed. Measured limits: matmul fp32, TFLOP/s 50." in about
    assert cells(header) == ["frame encoder of", "run by", "precision", "P = 1", "P = 8"]
    assert cells(nano) == ["nano", "ONNX Runtime, cuda", "fp32", "0.50 (0.25)", "0.50"]
    assert cells(vit) == ["vit-b-32", "ONNX Runtime, cuda", "fp32", "-", "1.23"]


def test_without_results_there_is_no_table(results: Path):
    assert results.is_dir()
    assert result_tables.pipeline_rows() == result_tables.encoder_rows() == []
    assert result_tables.gpu_rows() == ["No GPU has been measured yet."]
    assert result_tables.tables("scale", str) == ["No machine has been measured yet."]


def test_a_table_of_a_machine_stands_below_its_limits(results: Path):
    write(results, "a", "scale", [])
    file = results / "a" / "scale.json"
    limits = {"gflops": 120.5, "gbytes_per_s": 9.0}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"limits": limits}))
    assert result_tables.tables("scale", lambda _: "| x |") == [
        "Machine: a, 2 cores; sgemm 120.5 GFLOP/s, copy 9 GB/s.",
        "",
        "| x |",
    ]
