"""A bundle whose graphs are written by hand, so that every prediction can be computed without them.

Frame encoder: (mean R, mean G, mean B) / 255 of the person's window, and the mean of the patch weights.
Temporal encoder: sum over the clip of RAMP[i] * embedding[i], oldest first.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from command_runs import FRAMES, write_video
from engine_stand_ins import GPU, TENSORRT_SPEC, VERSION, Cache, StandIn, pretend_installed
from fake_cameras import nobody
from found_boxes import SIZE
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, save
from pipeline_bench import Bench
from safetensors.numpy import save_file

from emotion_runtime import EmotionRuntime, detector_parity, fastest_backend
from emotion_runtime.bundle import load_bundle, sha256_of
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.manifest import Graph, Head, Manifest, Tensor, write_manifest
from emotion_runtime.messages import LOGGERS
from emotion_runtime.preprocess import PreprocessSpec
from emotion_runtime.tensorrt import cache as engines
from emotion_runtime.tensorrt import gpu as nvidia
from emotion_runtime.tensorrt import open_engines

SPEC = PreprocessSpec(size=32, patch=8, window="subject", short_side=36, subject_scale=1.5)
LABELS = ("anger", "joy", "neutral")
DIM = 4
RAMP = np.array([0.1, 0.2, 0.3, 0.4], np.float32)  # T = 4
CLIP_SECONDS = 0.8  # so a person is encoded every 0.2 s
WEIGHT = np.array([[9, -3, 1, 0], [-2, 8, 1, 0], [0, 1, 5, 2]], np.float32)
BIAS = np.array([0.3, -0.2, 0.1], np.float32)
TEMPERATURE = 2.0


@pytest.fixture(scope="session", autouse=True)
def hangup_reaches_programs() -> None:
    """Let programs that tests start obey SIGHUP, also where the tests run under `nohup`, which ignores it."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # a handler, unlike SIG_IGN, is not inherited


@pytest.fixture(autouse=True)
def log_settings_as_they_are() -> Iterator[None]:
    """Restore the loggers after each test, because a command line sets their levels and handlers."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(autouse=True)
def no_choice_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no stop-watch choose the backend of live runs in this process; see `test_fastest_backend`."""
    monkeypatch.setattr(fastest_backend, "fastest_backend", lambda *_: None)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the bundle and return its folder; tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    folder.mkdir()
    save(_frame_encoder(), folder / "frame_encoder.onnx")
    save(_temporal_encoder(), folder / "temporal_encoder.onnx")
    save_file({"weight": WEIGHT, "bias": BIAS}, folder / "probe.safetensors")
    save_file({"weight": -WEIGHT, "bias": 0 * BIAS}, folder / "opposite.safetensors")
    write_manifest(_manifest(folder), folder)
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 3 seconds of 128 x 96 that fade from black to red."""
    return write_video(tmp_path_factory.mktemp("video") / "red.avi", FRAMES)


@pytest.fixture(scope="module")
def model(tiny_bundle: Path, fixed_detector: Path) -> list[str]:
    return ["--bundle", str(tiny_bundle), "--detector", str(fixed_detector), "--backend", "cpu"]


@pytest.fixture
def runtime(tiny_bundle: Path) -> EmotionRuntime:
    """Return a runtime on the CPU that finds nobody."""
    return EmotionRuntime(tiny_bundle, nobody, "cpu")


@pytest.fixture(scope="session")
def prediction() -> Callable[..., NDArray[np.float64]]:
    """Return a function from embeddings (DIM,), oldest first, to the probabilities of the probe head."""

    def compute(*embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
        # A ring that is not full repeats the newest one.
        clip = list(embeddings)[-len(RAMP) :] + [embeddings[-1]] * (len(RAMP) - len(embeddings))
        feature = sum(ramp * np.asarray(e, np.float64) for ramp, e in zip(RAMP, clip, strict=True))
        feature = feature / np.sqrt((feature**2).sum())
        powers = np.exp((WEIGHT.astype(np.float64) @ feature + BIAS) / TEMPERATURE)
        return powers / powers.sum()

    return compute


@pytest.fixture
def bench(tiny_bundle: Path) -> Bench:
    return Bench(tiny_bundle)


@pytest.fixture(scope="session")
def fixed_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an end-to-end detector that finds one head in every 128 x 96 frame, at (16, 24, 48, 64)."""
    # The frame is letterboxed to 64 x 64: half the size, 8 rows of padding above.
    found = np.array([[[8, 20, 24, 40, 0.9, 0], [0, 0, 0, 0, 0, 0]]], np.float32)
    path = tmp_path_factory.mktemp("detector") / "fixed.onnx"
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["found", "nothing"], ["output"]),
    ]
    model = _model(
        nodes,
        [("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        ("output", [1, 2, 6]),
        {"found": found, "zero": np.zeros((), np.float32)},
    )
    helper.set_model_props(model, {"names": "{0: 'head'}"})
    save(model, path)
    return path


@pytest.fixture(scope="module")
def face() -> CenterFace:
    return CenterFace(threads=1)


@pytest.fixture
def small_face(monkeypatch: pytest.MonkeyPatch) -> CenterFace:
    """Return a detector for frames of `SIZE`, of which parity checks run two together at most."""
    monkeypatch.setattr(detector_parity, "MOST_FRAMES", 2)
    return CenterFace(threads=1, long_side=SIZE[1])


@pytest.fixture(scope="module")
def small_frames() -> list[NDArray[np.uint8]]:
    return detector_parity.demo_frames(SIZE, 3)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that installs a program in front of all others in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def install(name: str, body: str) -> None:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    return install


Input = tuple[str, int, list[int | str]]


def _model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[Input],
    output: tuple[str, list[int | str]],
    constants: Mapping[str, NDArray],
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _frame_encoder() -> ModelProto:
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["color"], axes=[1, 2], keepdims=0),  # (F, 3)
        helper.make_node("Div", ["color", "white"], ["unit"]),
        helper.make_node("Gather", ["unit", "frame_index"], ["person"], axis=0),  # (P, 3)
        helper.make_node("ReduceMean", ["patch_weights"], ["covered"], axes=[1], keepdims=1),  # (P, 1)
        helper.make_node("Concat", ["person", "covered"], ["embeddings"], axis=1),  # (P, 4)
    ]
    inputs = [
        ("images", TensorProto.UINT8, ["F", SPEC.size, SPEC.size, 3]),
        ("frame_index", TensorProto.INT64, ["P"]),
        ("patch_weights", TensorProto.FLOAT, ["P", SPEC.patches]),
    ]
    return _model(nodes, inputs, ("embeddings", ["P", DIM]), {"white": np.float32(255)})


def _temporal_encoder() -> ModelProto:
    nodes = [
        helper.make_node("Mul", ["embeddings", "ramp"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "time"], ["features"], keepdims=0),
    ]
    inputs = [("embeddings", TensorProto.FLOAT, ["P", len(RAMP), DIM])]
    constants = {"ramp": RAMP[:, None], "time": np.array([1], np.int64)}
    return _model(nodes, inputs, ("features", ["P", DIM]), constants)


def _manifest(folder: Path) -> Manifest:
    def graph(file: str, inputs: Sequence[tuple[str, str, list[int | str]]], output: str) -> Graph:
        tensors = [Tensor(*each) for each in inputs]
        return Graph(file, sha256_of(folder / file), 17, tensors, [Tensor(output, "float32", ["P", DIM])])

    def head(kind: Literal["probe", "zero_shot"], file: str) -> Head:
        return Head(kind, file, sha256_of(folder / file), list(LABELS), "softmax", TEMPERATURE, {})

    frame_inputs = [
        ("images", "uint8", ["F", SPEC.size, SPEC.size, 3]),
        ("frame_index", "int64", ["P"]),
        ("patch_weights", "float32", ["P", SPEC.patches]),
    ]
    temporal_inputs = [("embeddings", "float32", ["P", len(RAMP), DIM])]
    return Manifest(
        schema=1,
        name="tiny",
        preset="tiny",
        created_by="tests",
        license="Apache-2.0",
        checkpoint_sha256="0" * 64,
        embedding_dim=DIM,
        clip_frames=len(RAMP),
        clip_seconds=CLIP_SECONDS,
        preprocess=SPEC,
        graphs={
            "frame_encoder": graph("frame_encoder.onnx", frame_inputs, "embeddings"),
            "temporal_encoder": graph("temporal_encoder.onnx", temporal_inputs, "features"),
        },
        heads={
            "probe": head("probe", "probe.safetensors"),
            "opposite": head("zero_shot", "opposite.safetensors"),
        },
        default_head="probe",
        parity=[],
    )


@pytest.fixture
def cache(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """Pretend that TensorRT and a GPU work, with an empty cache of engines."""
    monkeypatch.setenv(engines.CACHE_VARIABLE, str(tmp_path / "engines"))
    pretend_installed(monkeypatch, {"tensorrt": TENSORRT_SPEC})
    monkeypatch.setattr(nvidia, "load_tensorrt", lambda flavor: flavor)
    monkeypatch.setattr(nvidia, "builder_name", lambda flavor, _library: f"{flavor}{VERSION}")
    monkeypatch.setattr(nvidia, "find_gpu", lambda: GPU)
    monkeypatch.setattr(open_engines, "TensorRTBackend", StandIn)
    return Cache(engines.cache_folder(), load_bundle(tiny_bundle))


@pytest.fixture
def no_builder(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - set up before it
    """Pretend that only the runtime of TensorRT is installed."""
    pretend_installed(monkeypatch, {"tensorrt": TENSORRT_SPEC, "emotion_export": None})
