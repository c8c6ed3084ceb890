"""Where a run's weights come from, and which of its towers learn (paper Sec. 4.2, Table 3)."""

import pickle
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import load_openclip
from emotion_train.model import EmotionCLIP
from emotion_train.pretrained import read_checkpoint
from emotion_train.training.config import Start

CLIP_MODEL = "ViT-B-32"


def start_model(model: EmotionCLIP, start: Start) -> str:
    """Give a new model its first weights. Returns what was done, in a line.

    Raises:
        EmotionError: the weights cannot be had, or are not of this model.

    """
    random = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    said = "random weights"
    if start.clip:
        load_openclip(model, _openclip_model(start.clip))
        said = f"CLIP {start.clip}"
    elif start.checkpoint:
        weights = read_checkpoint(Path(start.checkpoint)).model.state_dict()
        own = load_what_fits(model, weights, f"checkpoint {start.checkpoint}")
        said = f"{start.checkpoint}" + (f", new: {', '.join(own)}" if own else "")
    for tower, choice in (("frame", start.frame_encoder), ("text", start.text_encoder)):
        if choice == "random":
            names = tower_parameters(model, tower)
            model.load_state_dict({**model.state_dict(), **{name: random[name] for name in names}})
            said += f"; {tower} encoder random"
    return said


def freeze(model: EmotionCLIP, start: Start) -> None:
    """Take the frozen towers' parameters out of the training.

    Raises:
        EmotionError: nothing but the logit scale would learn.

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
    """Names of the tensors of the "frame" or the "text" encoder."""
    return [
        name
        for name in model.state_dict()
        if name.startswith("backbone.") and name.startswith("backbone.visual.") == (tower == "frame")
    ]


def load_what_fits(model: nn.Module, weights: Mapping[str, Tensor], what: str) -> list[str]:
    """Load the tensors that the model has too. Returns the kinds of parameters that keep their own start.

    A model may differ from its start in how it is told who is meant, or in its temporal encoder.

    Raises:
        EmotionError: a tensor of the same name has another shape, or there is none of the model's.

    """
    own = model.state_dict()
    common = {name: tensor for name, tensor in weights.items() if name in own}
    other = [name for name, tensor in common.items() if tensor.shape != own[name].shape]
    if other or not common:
        problem = f"{other[0]} is {tuple(weights[other[0]].shape)}" if other else "no tensor in common"
        wanted = f", expected {tuple(own[other[0]].shape)}" if other else ""
        raise EmotionError(f"{what} is of another model: {problem}{wanted}; start from one of these sizes")
    model.load_state_dict(common, strict=False)
    return sorted({name.rsplit(".", 1)[-1] if "resblocks" in name else name for name in own.keys() - common})


def _openclip_model(name: str) -> nn.Module:
    import open_clip  # noqa: PLC0415  (slow to import, and only this option needs it)

    try:
        clip: nn.Module = open_clip.create_model(CLIP_MODEL, pretrained=name)
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EmotionError(
            f"[start] clip {name!r}: open_clip cannot load it ({reason}): expected a {CLIP_MODEL} tag such "
            'as "laion2b_e16" with the network up, or a file of weights'
        ) from error
    return clip


def set_recompute(model: EmotionCLIP) -> None:
    """Compute transformer blocks again in the backward pass instead of keeping what is inside of them."""
    for tower in (model.backbone.visual.transformer, model.backbone.transformer):
        for block in tower.blocks():
            block.recompute = True
