"""Models with random but realistic weights, and what their export leaves."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from emotion_runtime.bundle import sha256_of
from emotion_train.heads import HeadCard, LinearHead, save_head
from emotion_train.model import PRESETS, EmotionCLIP, ModelConfig

Main = Callable[[list[str]], int]  # runs emotion-export onnx

ROOT = Path(__file__).resolve().parents[2]
LABELS = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]

SMALL = replace(
    PRESETS["nano"],
    vision_width=96,
    vision_layers=2,
    vision_heads=3,
    temporal_layers=1,
    text_layers=1,
    text_vocab=100,
)
SUBJECTS = {
    "sap": replace(SMALL, subject="sap", subject_bias=False),
    "sap with bias": replace(SMALL, subject="sap"),
    "none": replace(SMALL, subject="none", subject_bias=False),
}


@dataclass(frozen=True)
class Exported:
    """A bundle with its model.

    Attributes:
        folder: Folder of the bundle.
        checkpoint: The checkpoint.
        model: The model.
        screen: What the export printed and logged.
    """

    folder: Path
    checkpoint: Path
    model: EmotionCLIP
    screen: str


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(config: ModelConfig, seed: int = 0) -> EmotionCLIP:
    """Return a model as if trained: no parameter is 0 or 1, so that a wrong fold or bias would show."""
    torch.manual_seed(seed)
    model = EmotionCLIP(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.5)
                module.running_var.uniform_(0.3, 3)
    return model.eval().requires_grad_(requires_grad=False)


def save_probe(folder: Path, checkpoint: Path, dim: int) -> LinearHead:
    rng = np.random.default_rng(3)
    card = HeadCard("probe", LABELS, "softmax", 0.7, {"one_person_accuracy": 0.4375}, sha256_of(checkpoint))
    weight = rng.standard_normal((len(LABELS), dim)).astype(np.float32)
    head = LinearHead(weight, 0.1 * rng.standard_normal(len(LABELS)).astype(np.float32), card)
    save_head(folder, "probe", head)
    return head


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(to_onnx: Main, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run emotion-export onnx and return its error."""
    assert to_onnx([str(argument) for argument in arguments]) == 2
    return error_line(capsys, "emotion-export onnx")


def error_line(capsys: pytest.CaptureFixture[str], program: str) -> str:
    """Return the last line on stderr, the only error; progress messages may come before it."""
    *before, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{program}: error: ")
    assert not any("error: " in text or "Traceback" in text for text in before)
    return line
