"""First weights of a run, and which of its towers are trained (paper Sec. 4.2, Table 3)."""

import logging
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import load_openclip
from emotion_train.model import PRESETS, EmotionCLIP, ModelConfig
from emotion_train.model.config import CLIP_MEAN, Activation
from emotion_train.model.temporal import TemporalEncoder
from emotion_train.pretrained import read_checkpoint
from emotion_train.training.config import Start

OPENCLIP_NAMES = {"vit-b-32": "ViT-B-32", "vit-b-16": "ViT-B-16", "vit-l-14": "ViT-L-14"}  # of presets
EXAMPLES = {"ViT-B-32": "laion2b_e16", "ViT-B-16": "laion2b_s34b_b88k", "ViT-L-14": "laion2b_s32b_b82k"}
ACTIVATIONS: Mapping[Activation, str] = {"gelu": "exact GELU", "quick_gelu": "QuickGELU"}


def start_model(model: EmotionCLIP, start: Start) -> str:
    """Set the first weights of a new model, and return a few words on where they come from.

    Raises:
        EmotionError: The weights are not available, or are those of another model.
    """
    if start.temporal == "authors" and isinstance(model.visual_head, TemporalEncoder):
        start_temporal(model.visual_head)
    random = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    source = "random weights"
    if start.clip:
        load_openclip(model, _openclip_model(start.clip, model.config))
        source = f"CLIP {start.clip}"
    elif start.checkpoint:
        weights = read_checkpoint(Path(start.checkpoint)).model.state_dict()
        own = load_what_fits(model, weights, f"checkpoint {start.checkpoint}")
        source = f"{start.checkpoint}" + (f", new: {', '.join(own)}" if own else "")
    for tower, choice in (("frame", start.frame_encoder), ("text", start.text_encoder)):
        if choice == "random":
            names = tower_parameters(model, tower)
            model.load_state_dict({**model.state_dict(), **{name: random[name] for name in names}})
            source += f"; {tower} encoder random"
    if start.temperature == "new":
        model.load_state_dict({**model.state_dict(), "logit_scale": random["logit_scale"]})
    return source


@torch.no_grad()
def start_temporal(encoder: TemporalEncoder) -> None:
    """Let a temporal transformer begin as the authors': positions from N(0, 1), layers as copies of one.

    Their learning rate of matrices hardly moves either, so this decides how much the order of the frames
    matters to the trained model.
    """
    nn.init.normal_(encoder.frame_position_embedding.weight)
    first, *others = encoder.fusion_layer.layers
    for layer in others:
        layer.load_state_dict(first.state_dict())


def freeze(model: EmotionCLIP, start: Start) -> None:
    """Freeze the parameters of the towers that the configuration calls frozen.

    Raises:
        EmotionError: Nothing but the logit scale would be trained.
    """
    for tower, choice in (("frame", start.frame_encoder), ("text", start.text_encoder)):
        if choice == "frozen":
            for name in tower_parameters(model, tower):
                if name in dict(model.named_parameters()):
                    model.get_parameter(name).requires_grad_(False)
    if not any(p.requires_grad for name, p in model.named_parameters() if name != "logit_scale"):
        raise EmotionError(
            'both encoders are frozen and temporal "mean" has no parameters: nothing is left to train'
        )


def tower_parameters(model: EmotionCLIP, tower: str) -> list[str]:
    """Return the names of the tensors of the "frame" or the "text" encoder."""
    return [
        name
        for name in model.state_dict()
        if name.startswith("backbone.") and name.startswith("backbone.visual.") == (tower == "frame")
    ]


def load_what_fits(model: nn.Module, weights: Mapping[str, Tensor], what: str) -> list[str]:
    """Load the tensors that the model has too, and return the kinds of parameters that stay as they are.

    A model may differ from its start in how the subject is marked, or in its temporal encoder.

    Args:
        model: The model.
        weights: Tensors by name.
        what: Name of the weights, for the error message.

    Raises:
        EmotionError: A tensor of the same name has another shape, or no name is shared.
    """
    own = model.state_dict()
    common = {name: tensor for name, tensor in weights.items() if name in own}
    other = [name for name, tensor in common.items() if tensor.shape != own[name].shape]
    if other or not common:
        problem = f"{other[0]} is {tuple(weights[other[0]].shape)}" if other else "no tensor in common"
        wanted = f", expected {tuple(own[other[0]].shape)}" if other else ""
        raise EmotionError(
            f"{what} does not fit this model: {problem}{wanted}; start from one of these sizes"
        )
    model.load_state_dict(common, strict=False)
    return sorted({name.rsplit(".", 1)[-1] if "resblocks" in name else name for name in own.keys() - common})


def openclip_name(config: ModelConfig) -> str:
    """Return open_clip's name of the model with these towers; of ViT-B/32 for sizes that it does not have."""
    for preset, name in OPENCLIP_NAMES.items():
        sizes = PRESETS[preset]
        if (config.preprocess.patch, config.vision_width) == (sizes.preprocess.patch, sizes.vision_width):
            return name
    return OPENCLIP_NAMES["vit-b-32"]


def follow_clip(config: ModelConfig, start: Start, changes: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration with the mean and standard deviation of the CLIP weights it starts from.

    The preset of the released weights keeps ImageNet's, as the authors did.

    Args:
        config: Of the model.
        start: First weights.
        changes: What the user has set of the model, which is kept.
    """
    spec = config.preprocess
    chosen = {"mean", "std"} & dict(changes.get("preprocess", {})).keys()
    if not start.clip or spec.mean != CLIP_MEAN or chosen:
        return config
    import open_clip  # noqa: PLC0415  (slow to import, and only this option needs it)

    stated = open_clip.get_pretrained_cfg(openclip_name(config), start.clip)
    mean, std = stated.get("mean") or spec.mean, stated.get("std") or spec.std
    return replace(config, preprocess=msgspec.structs.replace(spec, mean=tuple(mean), std=tuple(std)))


def _openclip_model(name: str, config: ModelConfig) -> nn.Module:
    import open_clip  # noqa: PLC0415  (slow to import, and only this option needs it)

    kind = openclip_name(config)
    stated = open_clip.get_pretrained_cfg(kind, name)
    _check_activation(name, config.activation, stated)
    if Path(name).is_file():
        logging.getLogger(__name__).info(
            "[start] clip %s: a file does not state its activation; %s is assumed, as in model.activation. "
            "Weights of OpenAI, MetaCLIP and LAION-400M were trained with QuickGELU, others with exact GELU.",
            name,
            ACTIVATIONS[config.activation],
        )
    quick = config.activation == "quick_gelu"
    try:
        clip: nn.Module = open_clip.create_model(kind, pretrained=name, force_quick_gelu=quick)
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EmotionError(
            f"[start] clip {name!r}: open_clip cannot load it ({reason}): expected a {kind} tag such "
            f'as "{EXAMPLES[kind]}" (needs a network connection), or a file of weights'
        ) from error
    return clip


def _check_activation(name: str, ours: Activation, stated: Mapping[str, Any]) -> None:
    """Refuse weights of another activation, before the download: open_clip only warns of other features.

    Raises:
        EmotionError: The weights were trained with the other activation.
    """
    if not stated and not _looks_like_quick_gelu(name):
        return  # a file, or an unknown tag, which open_clip refuses
    theirs: Activation = "quick_gelu" if stated.get("quick_gelu") or _looks_like_quick_gelu(name) else "gelu"
    if theirs == ours:
        return
    exact = 'take "laion2b_e16", "laion2b_s34b_b79k" or "datacomp_xl_s13b_b90k", or '
    raise EmotionError(
        f"[start] clip {name!r}: these weights were trained with {ACTIVATIONS[theirs]}, and this model uses "
        f"{ACTIVATIONS[ours]}, which would give other features; expected weights for {ACTIVATIONS[ours]}: "
        f'{exact if theirs == "quick_gelu" else ""}set model.activation = "{theirs}"'
    )


def _looks_like_quick_gelu(name: str) -> bool:
    """Return whether a file is named as open_clip's QuickGELU weights, or is OpenAI's TorchScript archive."""
    path = Path(name)
    if not path.is_file():
        return False
    if "quickgelu" in path.name.lower():
        return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in entry for entry in archive.namelist())


def set_recompute(model: EmotionCLIP) -> None:
    """Recompute transformer blocks in the backward pass instead of keeping their activations."""
    for tower in (model.backbone.visual.transformer, model.backbone.transformer):
        for block in tower.blocks():
            block.recompute = True
