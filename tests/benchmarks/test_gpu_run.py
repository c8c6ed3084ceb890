"""The run of the GPU benchmark: what its checks notice, its summary, and steps that fail."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_bench.gpu_report import summary, tables
from emotion_bench.onnx_parity import ParityData, parity_checks, parity_data, parity_rows
from emotion_bench.pipeline_parity import check_of, compare_events
from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.backends.buckets import limits_for
from emotion_runtime.backends.cuda import MOST_PERSONS, BoundBackend
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import load_bundle
from emotion_runtime.types import EmotionEvent, Person
from gpu import run_all, steps


class Wrong:
    """A backend on the CPU that changes its inputs or its outputs; `change` gets the number of the run."""

    description = "wrong"

    def __init__(self, graph: str, change: Callable[[dict[str, Any], int], dict[str, Any]]) -> None:
        self._backend = OnnxBackend(load_bundle("nano").graph_path(graph))  # type: ignore[arg-type] # a str
        self._change, self._runs = change, 0

    def run(self, feeds: Feeds) -> Outputs:
        self._runs += 1
        return self._backend.run(self._change(dict(feeds), (self._runs - 1) % 3))

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def data() -> ParityData:
    return parity_data(load_bundle("nano"), [1, 3, 5])


def neighbours_weights(feeds: dict[str, Any], _run: int) -> dict[str, Any]:
    return feeds | {"patch_weights": np.roll(feeds["patch_weights"], 1, axis=0)}


def no_weights(feeds: dict[str, Any], _run: int) -> dict[str, Any]:
    return feeds | {"patch_weights": np.ones_like(feeds["patch_weights"])}


def wrong_third_run(feeds: dict[str, Any], run: int) -> dict[str, Any]:
    return neighbours_weights(feeds, run) if run == 2 else feeds


def not_finite(feeds: dict[str, Any], run: int) -> dict[str, Any]:
    return feeds | {"patch_weights": feeds["patch_weights"] * np.float32(np.nan if run == 1 else 1)}


@pytest.mark.parametrize("change", [None, neighbours_weights, no_weights, wrong_third_run, not_finite])
def test_parity_notices_an_encoder_that_mistakes_the_subject(data: ParityData, change: Any):
    backend = Wrong("frame_encoder", change or (lambda feeds, _run: feeds))
    about = {"precision": "fp16", "graphs": "CUDA graphs on"}
    rows = [about | row for row in parity_rows(backend, data["frame_encoder"], "fp16")]
    sizes = [(row["persons"], row["frames"]) for row in rows]
    assert sizes == [(1, 1), (3, 1), (3, 3), (5, 1), (5, 5), (32, 16)]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    (check,) = parity_checks(rows)
    assert check["passed"] == (change is None), check
    subjects = rows[-1]["subject_cosine"]
    assert subjects == pytest.approx(1) if change is None else subjects < 0.9


def test_parity_is_checked_in_the_sizes_that_the_runtime_runs(
    data: ParityData, monkeypatch: pytest.MonkeyPatch
):
    sizes: set[tuple[int, int]] = set()

    class Recorded(BoundBackend):
        def run(self, feeds: Feeds) -> Outputs:
            sizes.add((len(feeds["images"]), len(feeds["patch_weights"])))
            return super().run(feeds)

    monkeypatch.setattr(
        steps, "bound", lambda session, device, **options: Recorded(session, device=device, **options)
    )
    bundle = load_bundle("nano")
    path = bundle.graph_path("frame_encoder")
    assert list(steps.parity_on("cpu", path, data["frame_encoder"], "fp32", capture=False))
    # Five people with crops of their own are one run of eight, not two of four images.
    assert sizes == {(1, 1), (4, 4), (8, 8), (32, 32)}
    assert sizes <= {*limits_for(bundle.manifest.preprocess.window, MOST_PERSONS).sizes()}


def event(
    probability: float, *, top: str | None = "happiness", person: int = 1, right: float = 9
) -> EmotionEvent:
    raw = {"happiness": probability, "anger": 1 - probability}
    box = (0, 0, right, 9)
    people = (Person(id=person, box=box, score=1.0, state="steady", top=top, emotions=raw, raw=raw),)
    return EmotionEvent(source="demo", frame=0, t=0.0, persons=people)


@pytest.mark.parametrize(
    ("other", "passed"),
    [
        (event(0.7004), True),
        (event(0.71), False),
        (event(0.7, top="anger"), False),
        (event(0.7, person=2), False),
        (event(0.7, right=9.0001), True),  # the detector on the device adds in another order
        (event(0.7, right=9.2), False),
    ],
)
def test_events_are_equal_when_people_labels_and_probabilities_are(other: EmotionEvent, passed: bool):
    check = check_of("videos/demo.mp4", "cuda", compare_events([event(0.7)], [other]))
    assert check["passed"] is passed
    assert check["check"] == "events of demo.mp4, cuda against cpu"


def test_a_run_without_people_proves_nothing():
    empty = EmotionEvent(source="demo", frame=0, t=0.0, persons=())
    assert not check_of("demo", "cuda", compare_events([empty], [empty]))["passed"]


def result_of(**parts: Any) -> dict[str, Any]:
    return {name: [] for name in run_all.KEPT} | {
        "machine": {"gpu": "X"},
        "ceilings": {},
        "steps": {"parity": 1.0, "pipeline": 1.0},
        **parts,
    }


def test_the_summary_says_what_passed_and_what_was_not_checked():
    good = {"check": "parity, x", "passed": True, "found": "cosine 1", "expected": "1"}
    events = good | {"check": "events of demo"}
    text, passed = summary(result_of(checks=[good, events]))
    assert passed
    assert text.splitlines() == [
        "PASS  parity, x: cosine 1",
        "PASS  events of demo: cosine 1",
        "PASS: 2 of 2 checks passed",
    ]
    assert summary(result_of(checks=[good], steps={"parity": 1.0}))[1]
    text, passed = summary(result_of(checks=[good]))
    assert (passed, text.splitlines()[1]) == (False, "FAIL  no check of events was made")
    assert not summary(result_of(checks=[good, events | {"passed": False}]))[1]
    broken = result_of(checks=[good, events], failed=[{"what": "speed", "reason": "stopped after 9 s"}])
    assert "FAIL  speed: stopped after 9 s" in summary(broken)[0]
    assert not summary(broken)[1]
    skipped = result_of(checks=[good, events], skipped=[{"what": "TensorRT", "reason": "not installed"}])
    assert summary(skipped)[1]
    assert "Skipped: TensorRT (not installed)." in tables(skipped)


def step_arguments(**options: Any) -> argparse.Namespace:
    args = run_all.parse_args(["--device", "cpu", "--quick"])
    return argparse.Namespace(**{**vars(args), **options})


def test_a_step_that_hangs_or_dies_keeps_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    script = tmp_path / "steps.py"
    monkeypatch.setattr(run_all, "STEPS_FILE", script)
    begin = (
        "import json, sys, time; from pathlib import Path\n"
        "path = Path(sys.argv[sys.argv.index('--into') + 1])\n"
        "path.write_text(json.dumps({'rows': [1]}))\n"
    )
    script.write_text(begin + "print('no kernel image'); sys.exit(3)")
    found = run_all.run_step("speed", step_arguments(), left=60)
    assert found["rows"] == [1]
    assert found["failed"] == [{"what": "speed", "reason": "ended with status 3: no kernel image"}]
    script.write_text(begin + "print('waiting', flush=True); time.sleep(60)")
    found = run_all.run_step("speed", step_arguments(), left=1.5)
    assert found["rows"] == [1]
    assert found["failed"] == [{"what": "speed", "reason": "stopped after 2 s: waiting"}]
    assert run_all.run_step("speed", step_arguments(), left=0.5) == {
        "skipped": [{"what": "speed", "reason": "no time left"}]
    }


def test_without_pytorch_its_steps_are_skipped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_all, "find_spec", lambda _name: None)
    for step in ("torch-nano", "vit-onnx"):
        assert run_all.run_step(step, step_arguments(), left=60) == {
            "skipped": [{"what": step, "reason": "PyTorch is not installed"}]
        }


@pytest.mark.parametrize(("python", "reason"), [("/none", "No such file"), ("{}/bare", "No module named")])
def test_a_python_that_was_chosen_is_not_replaced_by_another(tmp_path: Path, python: str, reason: str):
    bare = tmp_path / "bare"  # without any package
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    environment = os.environ | {"PYTHON": python.format(tmp_path)}
    script = Path(run_all.__file__).with_name("run_all.sh")
    done = subprocess.run(
        ["bash", script, "--check"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("run_all: error: no Python with onnxruntime and msgspec (")
    assert reason in line
