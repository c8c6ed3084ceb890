"""Checkpoints of this project, the released weights, and CLIP weights to start from."""

import stat
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import atomic_file, remove_leftovers
from emotion_train.model import EmotionCLIP, ModelConfig

FORMAT = "emotion-train checkpoint"
SCHEMA_VERSION = 2
_ROWWISE_SCHEMA = 1  # up to this version, the subject "saam" had the meaning of "saam-rowwise"
NAMES_IN_ERROR = 10


def save_checkpoint(path: Path, *, config: ModelConfig, state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically: a program that is killed leaves the old file or the new one.

    Args:
        path: The file to write.
        config: Of the model.
        state: Tensors, numbers, strings, None, and lists, tuples and dicts of them, such as state dicts.
            "model" is the model's own.

    Raises:
        EmotionError: The file cannot be written.
        TypeError: `state` contains something else, which could not be read back without running code.
    """
    if "config" in state:
        raise ValueError("state has a key 'config', which is reserved for the model's configuration")
    _check_plain(state, "state")
    payload = {
        "format": FORMAT,
        "schema": SCHEMA_VERSION,
        "config": msgspec.to_builtins(config),
        "state": dict(state),
    }
    if not path.parent.is_dir():
        raise EmotionError(f"checkpoint {path} cannot be written: No such file or directory: {path.parent}")
    remove_leftovers(path.parent, path.name)  # a process that is killed often leaves one: they are large
    try:
        with atomic_file(path) as file:
            torch.save(payload, file)
    except RuntimeError as error:  # torch raises it for a failed write
        raise EmotionError(f"checkpoint {path} cannot be written: free disk space ({error})") from error


def require_file(path: Path) -> None:
    """Check that the file of a checkpoint exists and is not empty.

    Raises:
        EmotionError: It does not exist, is empty, or is a folder or a device.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise EmotionError(
            f"checkpoint {path}: no such file; give the checkpoint.pt of a training run"
        ) from error
    except OSError as error:
        raise EmotionError(f"checkpoint {path} cannot be read ({error.strerror}); give its path") from error
    if stat.S_ISDIR(found.st_mode):
        raise EmotionError(f"checkpoint {path}: this is a folder; give the file in it, such as checkpoint.pt")
    if not stat.S_ISREG(found.st_mode):
        raise EmotionError(
            f"checkpoint {path}: this is a device or a pipe; give a file, since it is read more than once"
        )
    if not found.st_size:
        raise EmotionError(f"checkpoint {path} is incomplete: it is empty; use an earlier one")


def read_payload(path: Path, *, mmap: bool = False) -> Any:
    """Return what a file of torch contains: tensors, on the CPU, and plain values. No code in it is run.

    Args:
        path: The file.
        mmap: Whether tensors are read only where they are used.

    Raises:
        EmotionError: The file cannot be read, is corrupt, was not written by torch, or contains other things.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as error:
        raise EmotionError(
            f"checkpoint {path} cannot be read ({error.strerror or error}); copy it again, or chmod +r {path}"
        ) from error
    # Bytes that are not a pickle are read as its instructions: "hi" is a KeyError, "abc" an IndexError.
    except Exception as error:
        raise EmotionError(
            f"checkpoint {path} is corrupt or not a checkpoint, or contains more than tensors and plain "
            "values: expected a checkpoint of emotion-train pretrain or the released .pt file; use an "
            "earlier one, or download it again"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state that `save_checkpoint` wrote, and the ModelConfig as "config"; tensors on the CPU.

    Raises:
        EmotionError: The file is missing, incomplete, of a newer version, or not a checkpoint.
    """
    require_file(path)
    if not zipfile.is_zipfile(path):  # an incomplete file lacks the archive's index, which is at its end
        raise EmotionError(f"checkpoint {path} is incomplete or not a checkpoint: use an earlier one")
    payload = read_payload(path)
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise EmotionError(
            f"{path} was not written by this project's training: expected a checkpoint of emotion-train "
            "pretrain (released weights are read with load_official)"
        )
    if payload.get("schema") not in (_ROWWISE_SCHEMA, SCHEMA_VERSION):
        raise EmotionError(
            f"checkpoint {path} has schema {payload.get('schema')}, this version reads {_ROWWISE_SCHEMA} and "
            f"{SCHEMA_VERSION}: update the project"
        )
    config, state = payload.get("config"), payload.get("state")
    if not isinstance(config, dict) or not isinstance(state, dict):
        raise EmotionError(
            f"checkpoint {path} lacks its config or its state, or they are not dicts: use an earlier one"
        )
    if payload["schema"] == _ROWWISE_SCHEMA:
        _name_rowwise(config, state)
    return {**state, "config": _config(config, path)}


def model_from_checkpoint(path: Path) -> EmotionCLIP:
    """Return the model of a checkpoint, in eval mode, on the CPU.

    Raises:
        EmotionError: As in `load_checkpoint`, or the weights do not fit the configuration.
    """
    state = load_checkpoint(path)
    if not isinstance(state.get("model"), Mapping):
        raise EmotionError(
            f"checkpoint {path} contains no model: expected a dict under the key 'model' of its state"
        )
    model = EmotionCLIP(state["config"])
    _load_strict(model, state["model"], f"checkpoint {path}")
    return model.eval()


def load_official(model: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Load released EmotionCLIP weights, strictly: on an error nothing is loaded.

    Args:
        model: The model.
        state_dict: The value of the key "model" of the released file, or the whole content of the file. Names
            may have the prefix "module." of DistributedDataParallel.

    Raises:
        EmotionError: Names are missing or unexpected, or shapes differ.
    """
    inner = state_dict.get("model", state_dict)
    if not isinstance(inner, Mapping):
        raise EmotionError(
            f"released weights: key 'model' contains a {type(inner).__name__}, expected a state dict"
        )
    weights = {str(name).removeprefix("module."): tensor for name, tensor in inner.items()}
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    # Two tensors that carry no information: the frame numbers 0..T-1, and a second logit scale.
    expected["visual_head.position_ids"] = expected["visual_head.frame_position_embedding.weight"][:1]
    expected["backbone.logit_scale"] = expected["logit_scale"]
    _check_names(expected, weights, "released weights")
    if not torch.equal(weights["backbone.logit_scale"], weights["logit_scale"]):
        raise EmotionError(
            "released weights: logit_scale and backbone.logit_scale differ, expected one number"
        )
    model.load_state_dict(
        {k: v for k, v in weights.items() if k not in ("visual_head.position_ids", "backbone.logit_scale")}
    )


def load_openclip(model: EmotionCLIP, openclip_model: nn.Module) -> None:
    """Load the vision and the text tower of an open_clip model, and its temperature, as the authors did.

    The temporal encoder and what selects the subject stay as they are.

    Raises:
        EmotionError: The towers have other sizes or another activation than the model's.
    """
    for name, module in openclip_model.named_modules():
        if name.endswith(".mlp.gelu") and _activation(module) != model.config.activation:
            raise EmotionError(
                f"open_clip model: {name} is {module}, and this model has activation "
                f"{model.config.activation!r}: take weights that were trained with it"
            )
        heads = getattr(module, "num_heads", None)
        if heads is not None:
            tower = "vision" if name.startswith("visual.") else "text"
            expected_heads = getattr(model.config, f"{tower}_heads")
            if heads != expected_heads:
                raise EmotionError(f"open_clip model: {name} has {heads} heads, expected {expected_heads}")
    weights = {
        name if name == "logit_scale" else f"backbone.{name}": tensor
        for name, tensor in openclip_model.state_dict().items()
    }
    expected = {
        name: tensor.shape
        for name, tensor in model.state_dict().items()
        if name.startswith(("backbone.", "logit_scale"))
        and not name.endswith((".subject_gain", ".subject_shift", ".human_embedding"))
    }
    _check_names(expected, weights, "open_clip model")
    model.load_state_dict(weights, strict=False)  # the required names were checked above


def _activation(module: nn.Module) -> str:
    """Return the activation of an MLP of open_clip, by the name that `ModelConfig` gives it."""
    if isinstance(module, nn.GELU) and module.approximate == "none":
        return "gelu"
    return "quick_gelu" if type(module).__name__ == "QuickGELU" else str(module)


def _load_strict(model: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    _check_names({name: tensor.shape for name, tensor in model.state_dict().items()}, weights, what)
    model.load_state_dict(weights)


def _check_names(expected: Mapping[str, torch.Size], weights: Mapping[str, Tensor], what: str) -> None:
    odd = sorted(str(name) for name, tensor in weights.items() if not isinstance(tensor, Tensor))
    if odd:
        raise EmotionError(f"{what} do not fit the model: {len(odd)} are not tensors: {_some(odd)}")
    faults = {
        "missing": sorted(expected.keys() - weights.keys()),
        "unexpected": sorted(map(str, weights.keys() - expected.keys())),
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} (expected {tuple(shape)})"
            for name, shape in expected.items()
            if name in weights and weights[name].shape != shape
        ],
    }
    found = [f"{len(names)} {fault}: {_some(names)}" for fault, names in faults.items() if names]
    if found:
        raise EmotionError(f"{what} do not fit the model: {'; '.join(found)}")


def _some(names: list[str]) -> str:
    rest = len(names) - NAMES_IN_ERROR
    return ", ".join(names[:NAMES_IN_ERROR]) + (f" and {rest} more" if rest > 0 else "")


def _config(plain: dict[str, Any], path: Path) -> ModelConfig:
    unknown = sorted(plain.keys() - {field.name for field in fields(ModelConfig)})
    if unknown:
        raise EmotionError(
            f"checkpoint {path}: unknown model settings {', '.join(unknown)}: update the project"
        )
    try:
        return msgspec.convert(plain, ModelConfig)
    except msgspec.ValidationError as error:
        raise EmotionError(f"checkpoint {path}: model settings are wrong: {error}") from error


def _name_rowwise(config: dict[str, Any], state: dict[str, Any]) -> None:
    """Give the subject "saam" of an old checkpoint its present name, in the model's and run's settings."""
    settings = state.get("settings")
    chosen = settings.get("model") if isinstance(settings, dict) else None
    for sizes in (config, chosen):
        if isinstance(sizes, dict) and sizes.get("subject") == "saam":
            sizes["subject"] = "saam-rowwise"


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check_plain(item, f"{where}[{i}]")
    # By exact type: a NumPy float is a float too, but reading it would need NumPy's own unpickling.
    elif not isinstance(value, Tensor) and type(value) not in (bool, int, float, str, bytes, type(None)):
        raise TypeError(f"{where} is a {type(value).__name__}: expected tensors and plain values")
