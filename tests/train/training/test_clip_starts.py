"""First weights from CLIP models of other sizes, patches and activations."""

from dataclasses import replace

import msgspec
import open_clip
import pytest
import torch
from small_model import SMALL

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import load_openclip
from emotion_train.model import PRESETS, EmotionCLIP, ModelConfig
from emotion_train.training.config import Start
from emotion_train.training.start import follow_clip, openclip_name, start_model


@pytest.mark.parametrize("preset", ["vit-b-32", "vit-b-16", "vit-l-14"])
def test_presets_have_the_sizes_of_open_clip(preset: str):
    config = PRESETS[preset]
    sizes = open_clip.get_model_config(openclip_name(config))
    vision, text = sizes["vision_cfg"], sizes["text_cfg"]
    assert (config.preprocess.size, config.preprocess.patch) == (vision["image_size"], vision["patch_size"])
    assert (config.vision_width, config.vision_layers) == (vision["width"], vision["layers"])
    assert config.vision_width // config.vision_heads == vision.get("head_width", 64)
    assert (config.text_width, config.text_layers) == (text["width"], text["layers"])
    assert (config.text_heads, config.text_context) == (text["heads"], text["context_length"])
    assert (config.embed_dim, config.text_vocab) == (sizes["embed_dim"], text["vocab_size"])
    if preset != "vit-b-32":  # the authors took ImageNet's
        assert config.preprocess.mean == open_clip.OPENAI_DATASET_MEAN
        assert config.preprocess.std == open_clip.OPENAI_DATASET_STD


def small_openclip(config: ModelConfig) -> torch.nn.Module:
    """Return a model of open_clip with random weights and the sizes of a small one of ours."""
    torch.manual_seed(0)
    vision = open_clip.CLIPVisionCfg(
        layers=config.vision_layers,
        width=config.vision_width,
        head_width=config.vision_width // config.vision_heads,
        patch_size=config.preprocess.patch,
        image_size=config.preprocess.size,
    )
    text = open_clip.CLIPTextCfg(
        vocab_size=config.text_vocab,
        width=config.text_width,
        heads=config.text_heads,
        layers=config.text_layers,
    )
    quick = config.activation == "quick_gelu"
    model = open_clip.CLIP(embed_dim=config.embed_dim, vision_cfg=vision, text_cfg=text, quick_gelu=quick)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("patch", [14, 16])
@torch.no_grad()
def test_towers_of_other_grids_and_activations_give_openclips_features(patch: int, activation: str):
    spec = msgspec.structs.replace(SMALL.preprocess, size=3 * patch, patch=patch)
    config = replace(SMALL, subject="none", preprocess=spec, activation=activation)
    theirs = small_openclip(config)
    ours = EmotionCLIP(config).eval()
    load_openclip(ours, theirs)
    images = torch.randn(2, 3, 3 * patch, 3 * patch)
    torch.testing.assert_close(
        ours.encode_frames(images, torch.rand(2, 9)), theirs.encode_image(images), atol=1e-4, rtol=1e-4
    )
    tokens = torch.zeros(2, 77, dtype=torch.int64)
    tokens[0, :4], tokens[1, :3] = torch.tensor([1, 5, 7, 99]), torch.tensor([1, 8, 99])
    torch.testing.assert_close(ours.encode_text(tokens), theirs.encode_text(tokens), atol=1e-4, rtol=1e-4)
    other = replace(config, activation="gelu" if activation == "quick_gelu" else "quick_gelu")
    with pytest.raises(EmotionError, match="take weights that were trained with it"):
        load_openclip(EmotionCLIP(other), theirs)


@pytest.mark.parametrize("subject", ["sap", "saam", "shared", "none"])
def test_every_way_of_telling_the_subject_starts_from_them(subject: str):
    config = replace(SMALL, subject=subject, activation="quick_gelu")
    theirs = small_openclip(config)
    ours = EmotionCLIP(config)
    load_openclip(ours, theirs)
    assert torch.equal(ours.backbone.visual.proj, theirs.visual.proj)
    assert torch.isfinite(ours.encode_frames(torch.randn(2, 3, 48, 48), torch.rand(2, 9))).all()


@pytest.mark.parametrize(
    ("activation", "tag", "message"),
    [
        ("gelu", "openai", r'trained with QuickGELU.*or set model.activation = "quick_gelu"'),
        ("quick_gelu", "laion2b_e16", r'trained with exact GELU.*set model.activation = "gelu"'),
    ],
)
def test_the_activation_of_the_weights_must_be_the_models(activation: str, tag: str, message: str):
    with pytest.raises(EmotionError, match=message):
        start_model(EmotionCLIP(replace(SMALL, activation=activation)), Start(clip=tag))


@pytest.mark.parametrize(
    ("preset", "tag", "activation"),
    [
        ("vit-b-32", "openai", "quick_gelu"),
        ("vit-b-16", "laion2b_s34b_b88k", "gelu"),
        ("vit-l-14", "laion2b_s32b_b82k", "gelu"),
        ("vit-l-14", "openai", "quick_gelu"),
    ],
)
def test_the_right_model_of_openclip_is_asked_for(
    preset: str, tag: str, activation: str, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[str, str, bool]] = []

    def create(name: str, *, pretrained: str, force_quick_gelu: bool) -> torch.nn.Module:
        asked.append((name, pretrained, force_quick_gelu))
        return small_openclip(config)

    config = replace(SMALL, activation=activation)
    name = openclip_name(PRESETS[preset])
    monkeypatch.setattr(open_clip, "create_model", create)
    monkeypatch.setattr("emotion_train.training.start.openclip_name", lambda _: name)
    assert start_model(EmotionCLIP(config), Start(clip=tag)) == f"CLIP {tag}"
    assert asked == [(name, tag, activation == "quick_gelu")]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["vit-b-16", "vit-l-14"])
def test_weights_of_full_size_fit(preset: str):
    """Without values: names and shapes."""
    with torch.device("meta"):
        ours = EmotionCLIP(replace(PRESETS[preset], activation="quick_gelu"))
        name = openclip_name(PRESETS[preset])
        load_openclip(
            ours, open_clip.create_model(name, pretrained=None, force_quick_gelu=True, device="meta")
        )


def test_mean_and_deviation_follow_the_weights():
    large = PRESETS["vit-l-14"]
    followed = follow_clip(large, Start(clip="laion2b_s32b_b82k"), {})
    assert followed.preprocess.mean == followed.preprocess.std == (0.5, 0.5, 0.5)
    chosen = {"preprocess": {"mean": large.preprocess.mean}}
    assert follow_clip(large, Start(clip="laion2b_s32b_b82k"), chosen) == large
    assert follow_clip(large, Start(clip="openai"), {}).preprocess.mean == open_clip.OPENAI_DATASET_MEAN
    assert follow_clip(large, Start(), {}) == large
    released = PRESETS["vit-b-32"]  # the authors took ImageNet's
    assert follow_clip(released, Start(clip="laion2b_e16"), {}) == released
