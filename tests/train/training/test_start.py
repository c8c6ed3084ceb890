"""First weights and frozen towers, as in Table 3 of the paper."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import open_clip
import pytest
import torch
from small_model import SMALL, build

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import save_checkpoint
from emotion_train.model import PRESETS, EmotionCLIP
from emotion_train.training.config import Start
from emotion_train.training.start import freeze, load_what_fits, start_model


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
