"""The models that the paper compares, as changes of one configuration, and the numbers that it reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from emotion_train.training.config import PretrainConfig, Start
from emotion_train.training.config_files import find_config, load_config
from emotion_train.training.stage_config import Clips

Scale = Literal["paper", "small", "tiny"]

# Sizes with which a variant trains in seconds on a CPU, and what it learns means nothing.
_TINY_MODEL: Mapping[str, Any] = {
    "vision_width": 32,
    "vision_layers": 5,
    "vision_heads": 4,
    "embed_dim": 24,
    "temporal_layers": 1,
    "temporal_heads": 4,
    "temporal_ff": 40,
    "text_width": 16,
    "text_layers": 1,
    "text_heads": 2,
    "preprocess": {"size": 48, "patch": 16, "short_side": 60},
}


@dataclass(frozen=True, slots=True)
class Variant:
    """One model of a comparison.

    Attributes:
        name: A unique name, also that of its folder.
        title: As the paper calls it.
        model: Changes of the model.
        clips: Changes of the stage on clips.
        start: Changes of the first weights.
        paper: The paper's metrics on BoLD: mAP, AUC, R2, as fractions, as far as it reports them.
    """

    name: str
    title: str
    model: Mapping[str, Any] = field(default_factory=dict)
    clips: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, Any] = field(default_factory=dict)
    paper: Sequence[float] = ()


# The same model is in all three comparisons, and is trained once.
WHOLE = Variant("sap-beta10", "SAP and SNCE", paper=(0.2251, 0.6930, 0.133))

_PAPER_BETAS = {0: (0.2228, 0.6906, 0.131), 10: WHOLE.paper}  # Table 1; Fig. 6 has no numbers
TABLE_1 = (
    Variant("none-beta0", "vanilla", {"subject": "none"}, {"beta": 0.0}, paper=(0.2197, 0.6885, 0.130)),
    Variant("saam-beta0", "+ SAAM", {"subject": "saam"}, {"beta": 0.0}, paper=(0.2153, 0.6856, 0.137)),
    Variant("sap-beta0", "+ SAP", {}, {"beta": 0.0}, paper=(0.2228, 0.6906, 0.131)),
    WHOLE,
)
TABLE_3 = (
    Variant(WHOLE.name, "text trained, frames trained, transformer", paper=(0.2251, 0.6930)),
    Variant(
        "random-text", "text random, frames trained, transformer", start={"text_encoder": "random"},
        paper=(0.1243, 0.5496),
    ),
    Variant(
        "random-both", "text random, frames random, transformer",
        start={"text_encoder": "random", "frame_encoder": "random"}, paper=(0.1102, 0.5028),
    ),
    Variant(
        "frozen-text", "text frozen, frames trained, transformer", start={"text_encoder": "frozen"},
        paper=(0.1340, 0.5738),
    ),
    Variant(
        "frozen-both", "text frozen, frames frozen, transformer",
        start={"text_encoder": "frozen", "frame_encoder": "frozen"}, paper=(0.1843, 0.6508),
    ),
    Variant(
        "mean", "text trained, frames trained, mean", {"temporal": "mean"}, paper=(0.2117, 0.6874)
    ),
)  # fmt: skip
FIGURE_6 = tuple(
    Variant(f"sap-beta{beta}", f"beta {beta}", {}, {"beta": float(beta)}, paper=_PAPER_BETAS.get(beta, ()))
    for beta in (0, 1, 10, 100)
)


def config_of(variant: Variant, scale: Scale, start: str | None) -> PretrainConfig:
    """Return the configuration of a variant.

    Args:
        variant: The variant.
        scale: "paper" is the recipe of the authors; "small" is one epoch of it, in bf16, in batches of 32;
            "tiny" is two epochs of a tiny model, to see that everything works.
        start: Checkpoint of the first weights; None means CLIP.
    """
    recipe, change = load_config(find_config("emotionclip")), msgspec.structs.replace
    clips = recipe.clips or Clips()
    first = recipe.start if start is None else change(recipe.start, clip=None, checkpoint=start)
    first = msgspec.convert({**msgspec.to_builtins(first), **variant.start}, Start)
    model = {**recipe.model, **variant.model}
    if scale == "small":
        clips = change(clips, epochs=1, batch=32, warmup=10)
        recipe = change(recipe, precision="bf16", workers=2)
    if scale == "tiny":
        clips = change(clips, epochs=2, batch=4, warmup=1, lr=1e-3, vector_lr=1e-3)
        recipe = change(recipe, precision="fp32", workers=0)
        model = {**_TINY_MODEL, **variant.model}
    return change(recipe, model=model, start=first, clips=change(clips, **variant.clips), probe=None)
