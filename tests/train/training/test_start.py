"""First weights and frozen towers, as in Table 3 of the paper."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import msgspec
import open_clip
import pytest
import torch
from small_model import SMALL, build

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import load_openclip, save_checkpoint
from emotion_train.model import PRESETS, EmotionCLIP, ModelConfig
from emotion_train.training.config import Start
from emotion_train.training.start import follow_clip, freeze, load_what_fits, openclip_name, start_model


def learning(model: EmotionCLIP) -> set[str]:
    """Parts of the model that learn."""
    parts = set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parts.add(
                "frame"
                if name.startswith("backbone.visual.")
                else "text"
                if name.startswith("backbone.")
                else name.split(".", 1)[0]
            )
    return parts


@pytest.mark.parametrize(
    ("frame", "text", "expected"),
    [
        ("trained", "trained", {"frame", "text", "visual_head", "logit_scale"}),
        ("frozen", "trained", {"text", "visual_head", "logit_scale"}),
        ("trained", "frozen", {"frame", "visual_head", "logit_scale"}),
        ("frozen", "frozen", {"visual_head", "logit_scale"}),
        ("random", "frozen", {"frame", "visual_head", "logit_scale"}),
    ],
)
def test_frozen_towers_do_not_learn(frame: str, text: str, expected: set[str]):
    model = build("sap")
    freeze(model, Start(frame_encoder=frame, text_encoder=text))
    assert learning(model) == expected


def test_something_must_learn():
    model = build("sap", temporal="mean")
    with pytest.raises(EmotionError, match="nothing is left to train"):
        freeze(model, Start(frame_encoder="frozen", text_encoder="frozen"))


def test_a_random_tower_keeps_its_own_start(tmp_path: Path):
    saved = build("sap")
    save_checkpoint(tmp_path / "c.pt", config=saved.config, state={"model": saved.state_dict()})
    torch.manual_seed(7)
    model = EmotionCLIP(SMALL)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    said = start_model(model, Start(checkpoint=str(tmp_path / "c.pt"), text_encoder="random"))
    assert said.endswith("text encoder random")
    for name, tensor in model.state_dict().items():
        text = name.startswith("backbone.") and not name.startswith("backbone.visual.")
        expected = own[name] if text else saved.state_dict()[name]
        assert torch.equal(tensor, expected), name


def test_a_temporal_encoder_begins_as_configured(tmp_path: Path):
    sizes = replace(SMALL, temporal_layers=3, embed_dim=64)
    for temporal, std, copies in (("small", 0.02, False), ("authors", 1.0, True)):
        torch.manual_seed(0)
        model = EmotionCLIP(sizes)
        start_model(model, Start(temporal=temporal))
        encoder = model.visual_head
        assert encoder.frame_position_embedding.weight.std().item() == pytest.approx(std, rel=0.1)
        first, *others = (layer.linear1.weight for layer in encoder.fusion_layer.layers)
        assert [torch.equal(first, other) for other in others] == [copies, copies]
    start_model(EmotionCLIP(replace(SMALL, temporal="mean")), Start(temporal="authors"))  # has none to begin
    save_checkpoint(tmp_path / "c.pt", config=sizes, state={"model": model.state_dict()})
    again = EmotionCLIP(sizes)
    start_model(again, Start(checkpoint=str(tmp_path / "c.pt"), temporal="authors"))  # the checkpoint's wins
    assert torch.equal(
        again.visual_head.frame_position_embedding.weight, encoder.frame_position_embedding.weight
    )


@pytest.mark.parametrize(("temperature", "expected"), [("kept", 3.0), ("new", -math.log(0.07))])
def test_the_temperature_is_kept_or_new(temperature: str, expected: float, tmp_path: Path):
    saved = build("sap")
    with torch.no_grad():
        saved.logit_scale.fill_(3.0)
    save_checkpoint(tmp_path / "c.pt", config=saved.config, state={"model": saved.state_dict()})
    model = EmotionCLIP(SMALL)
    start_model(model, Start(checkpoint=str(tmp_path / "c.pt"), temperature=temperature))
    assert model.logit_scale.item() == pytest.approx(expected)


def test_a_start_may_differ_in_how_it_is_told_who_is_meant(tmp_path: Path):
    saved = build("sap")
    save_checkpoint(tmp_path / "c.pt", config=saved.config, state={"model": saved.state_dict()})
    model = EmotionCLIP(replace(SMALL, subject="saam", temporal="conv"))
    said = start_model(model, Start(checkpoint=str(tmp_path / "c.pt")))
    assert "new: " in said
    assert "subject_shift" in said
    assert "visual_head.conv.weight" in said
    proj = model.backbone.visual.proj
    assert torch.equal(proj, saved.backbone.visual.proj)


def test_a_start_of_other_sizes_is_refused():
    model = build("sap")
    other = EmotionCLIP(replace(SMALL, vision_width=64))
    with pytest.raises(EmotionError, match=r"does not fit this model: backbone.visual.* is .*, expected"):
        load_what_fits(model, other.state_dict(), "checkpoint x")
    with pytest.raises(EmotionError, match="no tensor in common"):
        load_what_fits(model, {"other": torch.zeros(1)}, "checkpoint x")


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the real ViT-B-32, as open_clip saves them."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip") / "clip.pt"
    torch.save(open_clip.create_model("ViT-B-32", pretrained=None).state_dict(), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["shared", "saam"])
def test_clip_weights_start_every_way_of_telling_who_is_meant(subject: str, clip_file: Path):
    model = EmotionCLIP(
        replace(PRESETS["vit-b-32"], subject=subject, subject_bias=subject == "shared", temporal="mean")
    )
    said = start_model(model, Start(clip=str(clip_file)))
    assert said == f"CLIP {clip_file}"
    weights = torch.load(clip_file, weights_only=True)
    assert torch.equal(model.backbone.visual.proj, weights["visual.proj"])
    assert torch.equal(model.backbone.token_embedding.weight, weights["token_embedding.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["no_such_tag", "/nowhere/clip.pt"])
def test_clip_weights_that_are_not_there(name: str):
    with pytest.raises(EmotionError, match=f"clip '{name}': open_clip cannot load it.*or a file of weights"):
        start_model(EmotionCLIP(replace(PRESETS["vit-b-32"], temporal="mean")), Start(clip=name))


@pytest.mark.parametrize(
    "tag", ["openai", "OpenAI", "laion400m_e31", "laion400m-e32", "metaclip_400m", "metaclip_fullcc"]
)
def test_clip_weights_for_another_activation_are_refused_before_the_download(
    monkeypatch: pytest.MonkeyPatch, tag: str
):
    def download(*_: object, **__: object) -> NoReturn:
        pytest.fail("the weights were downloaded")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", download)
    with pytest.raises(EmotionError, match=r"trained with QuickGELU.*exact GELU: take \"laion2b_e16\""):
        start_model(build("sap"), Start(clip=tag))


@pytest.mark.slow
def test_clip_weights_for_exact_gelu_are_loaded(monkeypatch: pytest.MonkeyPatch, clip_file: Path):
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: str(clip_file))
    model = EmotionCLIP(replace(PRESETS["vit-b-32"], temporal="mean"))
    for tag in ("laion2b_e16", "laion2b_s34b_b79k", "datacomp_xl_s13b_b90k"):  # named in the error, too
        assert open_clip.get_pretrained_cfg("ViT-B-32", tag)
    assert start_model(model, Start(clip="laion2b_e16")) == "CLIP laion2b_e16"
    weights = torch.load(clip_file, weights_only=True)
    assert torch.equal(model.backbone.visual.proj, weights["visual.proj"])


class _Anything(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_files_that_show_quick_gelu_are_refused(tmp_path: Path):
    named = tmp_path / "vit_b_32-quickgelu-laion400m_e31-d867053b.pt"
    named.write_bytes(b"")
    archive = tmp_path / "ViT-B-32.pt"  # as OpenAI publishes it
    torch.jit.save(torch.jit.script(_Anything()), archive)
    for path in (named, archive):
        with pytest.raises(EmotionError, match="trained with QuickGELU"):
            start_model(build("sap"), Start(clip=str(path)))


def test_the_activation_assumed_for_a_file_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "clip.pt"
    path.write_bytes(b"not weights")
    with caplog.at_level(logging.INFO), pytest.raises(EmotionError, match="open_clip cannot load it"):
        start_model(build("sap"), Start(clip=str(path)))
    assert "exact GELU is assumed" in caplog.text


# --- other CLIP models


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
