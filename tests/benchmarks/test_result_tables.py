"""The tables of docs/benchmarks.md are made from whatever has been measured."""

import json
from pathlib import Path
from typing import Any

import pytest

import bench_pipeline
import result_tables
from emotion_train.tables import percent

ROOT = Path(__file__).resolve().parents[2]


def spread(value: float) -> dict[str, float]:
    return {"median": value, "min": value, "max": value}


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


def test_every_machine_has_a_table_with_the_limits_that_were_measured(results: Path):
    row = {
        "source": "intel_people-who-talk.gif",
        "backend": "cpu",
        "persons": 3,
        "fps": spread(21.713),
        "ms_per_frame": {name: spread(4.5285) for name in ("read", "detect", "encode", "temporal", "track")},
        "share_not_a_network": spread(0.123),
    }
    write(results, "a", "pipeline", [row])
    write(results, "b", "pipeline", [row | {"backend": "cuda"}, row | {"backend": "cuda, again"}])
    page = result_tables.tables("pipeline", bench_pipeline.table)
    first, _, header, _, line, _, second, *rest = page.splitlines()
    assert (first, second, len(rest)) == ("Machine: a, 2 cores.", "Machine: b, 2 cores.", 5)
    assert dict(zip(cells(header), cells(line), strict=True)) == {
        "video": "people who talk",
        "people": "3",
        "encoders on": "cpu",
        "fps": "21.7",
        **{f"{name}, ms": "4.5" for name in ("read", "detect", "encode", "temporal")},
        "time outside networks": "12.3 %",
    }
    limits = {"gflops": 100.5, "gbytes_per_s": 20.0}
    made = {"machine": {"cpu": "a", "cores": 2}, "limits": limits, "rows": []}
    (results / "a/made.json").write_text(json.dumps(made))
    assert (
        result_tables.tables("made", lambda _: "")
        == "Machine: a, 2 cores; sgemm 100.5 GFLOP/s, copy 20 GB/s.\n\n"
    )


def test_encoders_beside_the_plain_export(results: Path):
    def row(contender: str, persons: int, ms: float, ratio: float) -> dict[str, Any]:
        about = {"model": "nano", "contender": contender, "persons": persons}
        return about | {"ms": spread(ms), "ratio_to_plain": spread(ratio), "share_of_sgemm": spread(0.4)}

    rows = [
        row("ours on cpu", 1, 2.0, 1.05),
        row("ours on cpu", 4, 3.0, 3.333),
        row("ours on cpu, again", 1, 2.0, 1.0),
        row("plain on cpu", 1, 2.1, 1.0),
    ]
    write(results, "a", "encoder", rows)
    table = result_tables.tables("encoder", result_tables.encoder_table).splitlines()
    assert [cells(line) for line in table[4:]] == [
        ["nano", "ours on cpu", "2.0 ms (1.05; 40 %)", "3.0 ms (3.33; 40 %)"],
        ["nano", "ours on cpu, again", "2.0 ms (1.00; 40 %)", "-"],
        ["nano", "plain on cpu", "2.1 ms (1.00; 40 %)", "-"],
    ]


def test_gpu_times_are_those_of_the_crops_that_the_runtime_uses(results: Path):
    def row(model: str, crops: str, persons: int, **more: Any) -> dict[str, Any]:
        about = {"model": model, "graph": "frame_encoder", "crops": crops, "persons": persons}
        return about | {"runner": "ONNX Runtime, cuda", "precision": "fp32", "ms": 0.5} | more

    rows = [
        row("nano", "own crops", 1, ms_on_device=0.25),
        row("nano", "own crops", 16),
        row("nano", "own crops", 8),
        row("nano", "one crop", 1, ms=9.0),
        row("vit-b-32", "one crop", 16, ms=1.234),
        row("nano", "", 1) | {"graph": "temporal_encoder"},
    ]
    result = {
        "machine": {"gpu": "NVIDIA X, 580.1, 81559 MiB", "backend": "ONNX Runtime 1", "torch": "2"},
        "rows": rows,
        "pipeline": [
            {"source": "demo", "backend": "cuda", "persons_per_frame": 2.0, "fps": 81.0}
            | {"ms_per_frame": {"detect": 2.93}}
        ],
        "checks": [{"passed": True}, {"passed": False}],
        "ceilings": {"matmul fp32, TFLOP/s": 50.0},
    }
    (results / "x").mkdir()
    (results / "x/gpu.json").write_text(json.dumps(result))
    about, empty, header, _, nano, vit, _, _, _, pipeline, _, demo = result_tables.gpu_part().splitlines()
    assert empty == ""
    assert about.startswith("Machine: NVIDIA X, 580.1, 81559 MiB; ONNX Runtime 1; PyTorch 2; all versions")
    assert cells(pipeline)[:4] == ["source", "models on", "people", "fps"]
    assert cells(demo) == ["demo", "cuda", "2.0", "81.0", "0.00", "2.93", "0.00", "0.00"]
    assert "1 of 2 checks against the CPU passed. Measured limits: matmul fp32, TFLOP/s 50." in about
    assert cells(header)[:5] == ["model", "precision", "runner", "P = 1", "P = 16"]
    assert cells(nano)[:5] == ["nano", "fp32", "ONNX Runtime", "0.500 (0.250)", "0.500"]
    assert cells(vit)[:5] == ["vit-b-32", "fp32", "ONNX Runtime", "", "1.234"]


def test_without_results_the_page_says_so(results: Path):
    assert results.is_dir()
    assert result_tables.tables("pipeline", str) == "No machine has been measured yet."
    assert result_tables.gpu_part() == "No GPU has been measured yet."


def test_sentences_state_the_results_of_the_shipped_model():
    nano = ROOT / "benchmarks" / "results" / "nano"
    accuracy, conditions = (
        json.loads((nano / f"{name}.json").read_text()) for name in ("accuracy", "conditions")
    )
    scenes, seen = accuracy["sets"]["scenes"], conditions["conditions"]
    new = percent(accuracy["sets"]["scenes_new_faces"]["accuracy"]["value"])
    right, calm, fear, sadness = (
        percent(scenes[name]["value"])
        for name in ("accuracy", "calm_taken_for_negative", "recall_fear", "recall_sadness")
    )
    lower, mask = (f"{seen[name]['points_lost']:.0f}" for name in ("lower half covered", "mask"))
    tilted = [percent(seen[f"tilt {degrees} degrees"]["flipped"]["value"]) for degrees in (30, 45)]
    half = f"{conditions['half_covered_points_lost']:.0f}"
    train = json.loads((ROOT / "benchmarks" / "results" / "h200" / "train.json").read_text())
    clips = f"[{train['presets']['vit-b-32']['clips_per_s']:.0f} clips per second]"
    stated = {
        "README.md": (
            f"{right} of the cases",
            f"{new} without the tenth",
            f"{calm} of the neutral and happy",
            clips,
        ),
        "docs/training.md": (clips,),
        "docs/faq.md": (f"{right} of the cases",),
        "docs/meaning.md": (
            f"{right} of the cases ({new} without",
            f"| {calm} of clearly calm",
            f"half of it: {half} points less; the mouth: {lower}; a mask: {mask}",
            f"at 30 degrees {tilted[0]} of the right labels become wrong, at 45 degrees {tilted[1]}",
        ),
        "docs/dpia.md": (
            f"| {right}; {new} |",
            f"| {calm} |",
            f"{fear}; {sadness}",
            f"{half} points; {lower} points",
        ),
    }
    for page, parts in stated.items():
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        for part in parts:
            assert part in text, page
