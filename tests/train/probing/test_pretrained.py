"""A checkpoint of either layout, told apart by what is in it, gives the same features and probes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from by_hand import Fitted

from emotion_runtime.errors import EmotionError
from emotion_train import pretrained
from emotion_train.checkpoint import load_checkpoint
from emotion_train.pretrained import read_checkpoint


@pytest.fixture
def released(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights of the small checkpoint as the authors lay theirs out, for a preset of its size."""
    state = load_checkpoint(checkpoint)
    monkeypatch.setattr(pretrained, "PRESETS", {"vit-b-32": state["config"]})
    weights = {f"module.{name}": tensor for name, tensor in state["model"].items()}
    weights["module.backbone.logit_scale"] = state["model"]["logit_scale"]
    weights["module.visual_head.position_ids"] = torch.arange(8)
    torch.save({"epoch": 8, "model": weights}, tmp_path / "released.pt")
    return tmp_path / "released.pt"


def test_both_layouts_are_read(checkpoint: Path, released: Path):
    ours, theirs = read_checkpoint(checkpoint), read_checkpoint(released)
    assert (ours.released, theirs.released) == (False, True)
    assert theirs.preset == "vit-b-32"
    assert ours.sha256 != theirs.sha256
    for name, tensor in theirs.model.state_dict().items():
        assert torch.equal(tensor, ours.model.state_dict()[name]), name
    assert not theirs.model.training


@pytest.mark.slow
def test_a_probe_of_released_weights(fit: Callable[..., Fitted], meld: Fitted, released: Path):
    found = fit("meld", meld.data, "--checkpoint", str(released))
    assert found.report["test"] == meld.report["test"]
    assert found.report["about"]["preset"] == "vit-b-32"
    assert found.report["about"]["checkpoint_sha256"] != meld.report["about"]["checkpoint_sha256"]


def test_released_weights_of_another_size_are_named_with_what_is_read(checkpoint: Path, tmp_path: Path):
    """Ours has no such problem: it says what preset it is."""
    torch.save({"model": load_checkpoint(checkpoint)["model"]}, tmp_path / "small.pt")
    with pytest.raises(EmotionError) as caught:
        read_checkpoint(tmp_path / "small.pt")
    assert f"checkpoint {tmp_path / 'small.pt'}: released weights do not fit the model" in str(caught.value)
    assert "expected the layout of the preset vit-b-32" in str(caught.value)
    assert "\n" not in str(caught.value)
