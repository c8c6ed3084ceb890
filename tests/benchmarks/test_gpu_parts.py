"""The parts of the GPU benchmark that no CPU reaches, with stand-ins for CUDA graphs, CUDA and TensorRT."""

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
from emotion_bench.gpu_report import add_fractions, summary, tables
from emotion_bench.models import formula_model
from emotion_bench.onnx_parity import ParityData, parity_checks, parity_data, parity_rows
from emotion_bench.pipeline_parity import check_of, compare_events
from emotion_bench.step_results import Recorder
from emotion_bench.torch_runs import references, torch_rows
from emotion_bench.work import work_of
from emotion_export.graphs import graph_sources
from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.backends.onnx import OnnxBackend, open_session
from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt.gpu import Gpu
from emotion_runtime.types import EmotionEvent, Person
from emotion_train.model import PRESETS, EmotionCLIP
from gpu import run_all

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


class Wrong:
    """A backend on the CPU that changes its inputs or its outputs; `change` gets the number of the run."""

    description = "wrong"

    def __init__(self, graph: str, change: Callable[[dict[str, Any], int], dict[str, Any]]) -> None:
        self._backend = OnnxBackend(load_bundle("nano").graph_path(graph))  # type: ignore[arg-type]
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


def event(probability: float, *, top: str | None = "happiness", person: int = 1) -> EmotionEvent:
    raw = {"happiness": probability, "anger": 1 - probability}
    people = (Person(id=person, box=(0, 0, 9, 9), score=1.0, state="steady", top=top, emotions=raw, raw=raw),)
    return EmotionEvent(source="demo", frame=0, t=0.0, persons=people)


@pytest.mark.parametrize(
    ("other", "passed"),
    [
        (event(0.7004), True),
        (event(0.71), False),
        (event(0.7, top="anger"), False),
        (event(0.7, person=2), False),
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
    class Built:
        def __init__(self, model: onnx.ModelProto) -> None:
            self.engine = model.SerializeToString()

    def build(_builder: Any, model: onnx.ModelProto, _name: str, limits: Any, _usual: Any) -> Built:
        assert limits.persons == 2
        return Built(model)

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
