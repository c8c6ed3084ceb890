"""A pre-trained model to probe or to export: a checkpoint of ours, or the released weights."""

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emotion_runtime.bundle import sha256_of
from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import FORMAT, load_checkpoint, load_official, model_from_checkpoint
from emotion_train.model import PRESETS, EmotionCLIP, ModelConfig

RELEASED_PRESET = "vit-b-32"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model in eval mode, on the CPU, and where it comes from.

    preset: key of PRESETS, or "custom". released: in the layout of the authors' weights. progress: stage and
    step of emotion-train pretrain at which it was saved, None where the file does not say.
    """

    model: EmotionCLIP
    sha256: str
    preset: str
    released: bool
    progress: tuple[str, int] | None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of ours, or a file of the released layout; told apart by what is in it.

    Raises:
        EmotionError: there is no such file, it is neither, it is torn, its weights do not fit, or it was
            replaced while it was read.

    """
    if not path.is_file():
        raise EmotionError(f"checkpoint {path}: no such file")
    payload = _payload(path)
    sha256 = sha256_of(path)
    if payload.get("format") == FORMAT:
        model, progress = model_from_checkpoint(path), _progress(path)
        if sha256_of(path) != sha256:
            raise EmotionError(
                f"checkpoint {path} was written to while it was read: take a copy of it, or wait until "
                "training is done"
            )
        return Checkpoint(model, sha256, _preset(model.config), released=False, progress=progress)
    if not isinstance(payload.get("model"), Mapping):
        raise EmotionError(
            f"checkpoint {path} has the keys {', '.join(map(str, list(payload)[:10])) or 'none'}: expected a "
            "checkpoint of emotion-train pretrain, or the released layout, with weights under the key 'model'"
        )
    model = EmotionCLIP(PRESETS[RELEASED_PRESET])
    try:
        load_official(model, payload)
    except EmotionError as error:
        raise EmotionError(
            f"checkpoint {path}: {error}; expected the layout of the preset {RELEASED_PRESET}, or a "
            "checkpoint of emotion-train pretrain, which says what preset it is"
        ) from error
    return Checkpoint(model.eval(), sha256, RELEASED_PRESET, released=True, progress=None)


def _payload(path: Path) -> Mapping[Any, Any]:
    try:
        # Zip files are mapped and not read; what torch wrote before 1.6 is no zip file.
        payload = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise EmotionError(
            f"checkpoint {path} is torn, or holds more than tensors and plain values: expected a checkpoint "
            "of emotion-train pretrain or the released .pt file; use an earlier one, or download it again"
        ) from error
    if not isinstance(payload, Mapping):
        raise EmotionError(f"checkpoint {path} holds a {type(payload).__name__}, expected a dict")
    return payload


def _preset(config: ModelConfig) -> str:
    return next((name for name, preset in PRESETS.items() if preset == config), "custom")


def _progress(path: Path) -> tuple[str, int] | None:
    state = load_checkpoint(path)
    return (str(state["stage"]), int(state["step"])) if {"stage", "step"} <= state.keys() else None
