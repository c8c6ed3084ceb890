"""Read a pre-trained model to probe or to export: a checkpoint of this project, or the released weights."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion_runtime.bundle import sha256_of
from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import (
    FORMAT,
    load_checkpoint,
    load_official,
    model_from_checkpoint,
    read_payload,
    require_file,
)
from emotion_train.model import PRESETS, EmotionCLIP, ModelConfig

RELEASED_PRESET = "vit-b-32"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model in eval mode on the CPU, and its origin.

    Attributes:
        model: The model.
        sha256: Hash of the file.
        preset: Key of `PRESETS`, or "custom".
        released: The file has the layout of the authors' weights.
        progress: Stage and step of pre-training at which the model was saved; None if the file does not say.
        data: Fingerprint of the training data, see `RunData`; None if the file does not say.
    """

    model: EmotionCLIP
    sha256: str
    preset: str
    released: bool
    progress: tuple[str, int] | None
    data: str | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this project or a file in the released layout, whichever the file contains.

    Raises:
        EmotionError: The file is missing, neither of the two, or corrupt; its weights do not fit the model;
            or it was replaced while it was read.
    """
    require_file(path)
    payload = _payload(path)
    sha256 = sha256_of(path)
    if payload.get("format") == FORMAT:
        model, state = model_from_checkpoint(path), load_checkpoint(path)
        if sha256_of(path) != sha256:
            raise EmotionError(
                f"checkpoint {path} changed while it was read: copy it first, or wait until training has "
                "finished"
            )
        return Checkpoint(
            model,
            sha256,
            _preset(model.config),
            released=False,
            progress=_progress(state),
            data=fingerprint if isinstance(fingerprint := state.get("fingerprint"), str) else None,
        )
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
            "checkpoint of emotion-train pretrain, which names its preset"
        ) from error
    return Checkpoint(model.eval(), sha256, RELEASED_PRESET, released=True, progress=None)


def _payload(path: Path) -> Mapping[Any, Any]:
    # Only zip files can be memory-mapped; files written by torch before 1.6 are not zip files.
    payload = read_payload(path, mmap=zipfile.is_zipfile(path))
    if not isinstance(payload, Mapping):
        raise EmotionError(f"checkpoint {path} contains a {type(payload).__name__}, expected a dict")
    return payload


def _preset(config: ModelConfig) -> str:
    return next((name for name, preset in PRESETS.items() if preset == config), "custom")


def _progress(state: Mapping[str, Any]) -> tuple[str, int] | None:
    stage, step = state.get("stage"), state.get("step")
    return (stage, step) if isinstance(stage, str) and isinstance(step, int) else None
