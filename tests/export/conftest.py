"""Bundles that the tests share, each exported once per session."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import SUBJECTS, Exported, load_module, save_probe, trained

from emotion_export.card import FER2013_RUNS
from emotion_export.cli import main
from emotion_export.graphs import graph_sources
from emotion_export.onnx import write_graph
from emotion_train.checkpoint import load_official, save_checkpoint
from emotion_train.model import PRESETS, EmotionCLIP


@pytest.fixture(scope="session")
def to_onnx() -> Callable[[list[str]], int]:
    """Run `emotion-export onnx` with these options."""
    return lambda options: main(["onnx", *options])


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory, to_onnx: Callable[[list[str]], int]) -> Exported:
    """Return the nano preset with a probe, exported in all precisions."""
    folder = tmp_path_factory.mktemp("nano")
    checkpoint, out = folder / "checkpoint.pt", folder / "bundles" / "nano"
    model = trained(PRESETS["nano"])
    state = {"model": model.state_dict(), "stage": "scenes", "step": 4200, "fingerprint": FER2013_RUNS[0]}
    save_checkpoint(checkpoint, config=model.config, state=state)
    save_probe(folder / "probe", checkpoint, model.config.embed_dim)
    screen = io.StringIO()
    with redirect_stdout(screen), redirect_stderr(screen):
        status = to_onnx(
            [
                *("--checkpoint", str(checkpoint), "--out", str(out), "--probe", str(folder / "probe")),
                *("--precision", "fp16", "int8"),
            ]
        )
    assert status == 0
    return Exported(out, checkpoint, model, screen.getvalue())


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, to_onnx: Callable[[list[str]], int]) -> Exported:
    """Return a model that runs in milliseconds, with subject-aware attention, exported in all precisions."""
    folder = tmp_path_factory.mktemp("small")
    checkpoint, out = folder / "checkpoint.pt", folder / "bundles" / "small"
    model = trained(replace(SUBJECTS["sap"], text_vocab=PRESETS["nano"].text_vocab))
    save_checkpoint(checkpoint, config=model.config, state={"model": model.state_dict()})
    screen = io.StringIO()
    with redirect_stdout(screen), redirect_stderr(screen):
        status = to_onnx(
            ["--checkpoint", str(checkpoint), "--out", str(out), "--precision", "fp32", "fp16", "int8"]
        )
    assert status == 0
    return Exported(out, checkpoint, model, screen.getvalue())


@pytest.fixture(scope="session")
def frame_encoders(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str], tuple[EmotionCLIP, Path]]:
    """Return a model with one kind of subject input, and its frame encoder as ONNX; "shared" is nano."""
    folder = tmp_path_factory.mktemp("small")
    made: dict[str, tuple[EmotionCLIP, Path]] = {}

    def get(name: str) -> tuple[EmotionCLIP, Path]:
        if name == "shared":
            nano: Exported = request.getfixturevalue("nano")  # exported only for those who ask for it
            return nano.model, nano.folder / "frame_encoder.onnx"
        if name not in made:
            model, path = trained(SUBJECTS[name]), folder / f"{name}.onnx"
            write_graph(graph_sources(model)[0], path)
            made[name] = model, path
        return made[name]

    return get


@pytest.fixture(scope="session")
def released_layout(shared_data: Path) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the released checkpoint."""
    layout = json.loads((shared_data / "golden" / "official_state_dict.json").read_text())
    return {name: tuple(shape) for name, shape in layout.items()}


@pytest.fixture(scope="session")
def released(
    tmp_path_factory: pytest.TempPathFactory,
    shared_data: Path,
    released_layout: dict[str, tuple[int, ...]],
    to_onnx: Callable[[list[str]], int],
) -> Exported:
    """Return ViT-B/32 with the formula weights of the golden data, saved like the released weights."""
    folder = tmp_path_factory.mktemp("released")
    formulas = load_module(shared_data / "golden" / "golden.py")
    weights = {
        name: torch.from_numpy(np.asarray(formulas.weight(name, shape)))
        for name, shape in released_layout.items()
    }
    checkpoint, out = folder / "released.pt", folder / "vit-b-32"
    torch.save({"epoch": 8, "model": weights}, checkpoint)
    del weights  # two thirds of a gigabyte, beside all that an export takes
    screen = io.StringIO()
    video = shared_data / "videos" / "intel_face-demographics-walking-and-pause.gif"
    with redirect_stdout(screen), redirect_stderr(screen):
        status = to_onnx(
            [
                *("--checkpoint", str(checkpoint), "--out", str(out), "--window", "subject"),
                *("--videos", str(video)),
            ]
        )
    assert status == 0
    model = EmotionCLIP(PRESETS["vit-b-32"])
    load_official(model, torch.load(checkpoint, mmap=True, weights_only=True))
    return Exported(out, checkpoint, model.eval().requires_grad_(requires_grad=False), screen.getvalue())
