"""Checkpoints of our own: what was saved comes back, and nothing else is read."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from small_model import SMALL, random_images
from small_model import weights as random_weights
from torch import nn

from emotion_runtime.errors import EmotionError
from emotion_train import pretrained
from emotion_train.checkpoint import (
    load_checkpoint,
    model_from_checkpoint,
    save_checkpoint,
)
from emotion_train.model import EmotionCLIP
from emotion_train.pretrained import read_checkpoint


def message_of(error: pytest.ExceptionInfo[EmotionError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_checkpoint_gives_back_what_was_saved(tmp_path: Path):
    model = EmotionCLIP(replace(SMALL, stem="conv", subject="shared", subject_bias=True))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model.encode_frames(random_images(2), random_weights(2)).sum().backward()
    optimizer.step()
    path = tmp_path / "last.pt"
    save_checkpoint(
        path,
        config=model.config,
        state={
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": 7,
            "rng": {"torch": torch.get_rng_state(), "numpy": (1, [2, 3], None)},
        },
    )
    state = load_checkpoint(path)
    assert state["config"] == model.config
    assert (state["step"], state["rng"]["numpy"]) == (7, (1, [2, 3], None))
    torch.optim.AdamW(model.parameters()).load_state_dict(state["optimizer"])
    loaded = model_from_checkpoint(path)
    assert not loaded.training
    assert loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.slow
def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path):
    """As on a full disk: no file of this process may exceed 100 kB."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, config=SMALL, state={"step": 1})
    program = f"""
import resource, torch
from pathlib import Path
from emotion_train.checkpoint import save_checkpoint
from emotion_train.model import PRESETS
from emotion_runtime.errors import EmotionError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(Path({str(path)!r}), config=PRESETS["nano"], state={{"x": torch.zeros(100_000)}})
except EmotionError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    assert load_checkpoint(path)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_a_checkpoint_without_a_folder_says_so(tmp_path: Path):
    with pytest.raises(EmotionError, match="cannot be written: No such file or directory"):
        save_checkpoint(tmp_path / "absent" / "last.pt", config=SMALL, state={})


@pytest.mark.parametrize("value", [np.zeros(2), np.float64(1), Path("x"), {"deep": [object()]}])
def test_what_could_not_be_read_back_is_not_saved(tmp_path: Path, value: Any):
    with pytest.raises(TypeError, match="expected tensors and plain values"):
        save_checkpoint(tmp_path / "last.pt", config=SMALL, state={"x": value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_torn_file_is_refused(tmp_path: Path, kept: float):
    path = tmp_path / "last.pt"
    save_checkpoint(path, config=SMALL, state={"x": torch.randn(1000)})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(EmotionError, match="incomplete") as error:
        load_checkpoint(path)
    message_of(error)


def test_foreign_files_are_refused(tmp_path: Path):
    with pytest.raises(EmotionError, match="no such file"):
        load_checkpoint(tmp_path / "absent.pt")
    with pytest.raises(EmotionError, match="this is a folder; give the file in it"):
        load_checkpoint(tmp_path)
    path = tmp_path / "foreign.pt"
    torch.save({"model": {"w": torch.zeros(1)}}, path)
    with pytest.raises(EmotionError, match="not written by this project") as error:
        load_checkpoint(path)
    message_of(error)
    np.savez(path.with_suffix(".npz"), x=np.zeros(3))  # a zip archive, too
    with pytest.raises(EmotionError, match="corrupt or not a checkpoint") as error:
        load_checkpoint(path.with_suffix(".npz"))
    message_of(error)
    torch.save(nn.Linear(1, 1), path)  # code would have to run
    with pytest.raises(EmotionError, match="corrupt or not a checkpoint") as error:
        load_checkpoint(path)
    message_of(error)


def test_no_content_ends_in_a_traceback(tmp_path: Path):
    path = tmp_path / "t.pt"
    texts = (b"hi\n", b"seed = 1\n", b"abc\n", b"e.\n", b"# notes\n", b"{}\n", b"\xff\xfe\x00", b"\x89PNG")
    for content in (*texts, *(bytes([first]) + b"\xff\n\xff\n." for first in range(128))):
        path.write_bytes(content)
        with pytest.raises(EmotionError, match="corrupt or not a checkpoint") as error:
            read_checkpoint(path)
        message_of(error)
        with pytest.raises(EmotionError, match="incomplete or not a checkpoint") as error:
            load_checkpoint(path)
        message_of(error)


def test_archives_that_are_no_checkpoint_are_named(tmp_path: Path):
    path = tmp_path / "t.pt"
    for content in (b"hi\n", b"abc", b"", b"\xff" * 9):
        with ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/version", b"3\n")
            archive.writestr("archive/byteorder", b"little")
        for read in (read_checkpoint, load_checkpoint):
            with pytest.raises(EmotionError, match="corrupt or not a checkpoint") as error:
                read(path)
            message_of(error)


def test_what_is_no_file_is_named(tmp_path: Path):
    (tmp_path / "empty.pt").write_bytes(b"")
    for path, reason in (
        (Path("/dev/null"), "this is a device or a pipe"),
        (tmp_path, "this is a folder"),
        (tmp_path / "empty.pt", "it is empty"),
        (tmp_path / "absent.pt", "no such file"),
        (tmp_path / "empty.pt" / "below.pt", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        for read in (read_checkpoint, load_checkpoint):
            with pytest.raises(EmotionError, match=reason) as error:
                read(path)
            message_of(error)


@pytest.mark.parametrize("model", [3, None, [1], {1: torch.zeros(1)}, {1: 2, "a": 3}])
def test_weights_of_a_wrong_kind_are_refused(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pretrained, "PRESETS", {"vit-b-32": SMALL})
    path = tmp_path / "t.pt"
    save_checkpoint(path, config=SMALL, state={"model": model, "stage": 1, "step": "x"})
    for wrong in (path, tmp_path / "released.pt"):
        torch.save({"model": model}, tmp_path / "released.pt")
        with pytest.raises(EmotionError) as error:
            read_checkpoint(wrong)
        message_of(error)


def rewritten(path: Path, **changes: Any) -> Path:
    torch.save({**torch.load(path, weights_only=True), **changes}, path)
    return path


def test_newer_checkpoints_are_refused(tmp_path: Path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, config=SMALL, state={})
    plain = torch.load(path, weights_only=True)["config"]
    with pytest.raises(EmotionError, match="schema 99, this version reads 1 and 2: update"):
        load_checkpoint(rewritten(path, schema=99))
    with pytest.raises(EmotionError, match="unknown model settings wings: update"):
        load_checkpoint(rewritten(path, schema=1, config={**plain, "wings": 2}))
    with pytest.raises(EmotionError, match=r"settings are wrong.*'quantum'"):
        load_checkpoint(rewritten(path, config={**plain, "stem": "quantum"}))


def test_masking_of_an_old_checkpoint_keeps_its_meaning(tmp_path: Path):
    """Up to schema 1, "saam" was the reading that "saam-rowwise" is now."""
    path = tmp_path / "last.pt"
    model = EmotionCLIP(replace(SMALL, subject="saam"))
    state = {"model": model.state_dict(), "settings": {"model": {"subject": "saam"}}}
    save_checkpoint(path, config=model.config, state=state)
    assert load_checkpoint(path)["config"].subject == "saam"
    old = load_checkpoint(rewritten(path, schema=1))
    assert old["config"].subject == old["settings"]["model"]["subject"] == "saam-rowwise"
    assert model_from_checkpoint(path).config.subject == "saam-rowwise"


@pytest.mark.parametrize(
    "harm",
    [
        {"config": None},
        {"config": "nano"},
        {"state": [1]},
        {"schema": None},
        {"state": {"model": {"logit_scale": 3.0}}},
    ],
)
def test_a_checkpoint_with_something_else_inside_is_refused_in_one_line(tmp_path: Path, harm: dict[str, Any]):
    path = tmp_path / "checkpoint.pt"
    model = EmotionCLIP(SMALL)
    save_checkpoint(path, config=SMALL, state={"model": model.state_dict()})
    payload = torch.load(path, weights_only=True)
    if "model" in harm.get("state", {}):
        payload["state"]["model"].update(harm["state"]["model"])
    else:
        payload.update(harm)
    torch.save({key: value for key, value in payload.items() if value is not None}, path)
    with pytest.raises(EmotionError) as error:
        model_from_checkpoint(path)
    assert str(path) in message_of(error)


def test_weights_of_another_configuration_are_refused(tmp_path: Path):
    path = tmp_path / "last.pt"
    weights = EmotionCLIP(replace(SMALL, text_layers=3)).state_dict()
    save_checkpoint(path, config=SMALL, state={"model": weights})
    with pytest.raises(EmotionError, match=r"unexpected: backbone\.transformer\.resblocks\.2\."):
        model_from_checkpoint(path)
    save_checkpoint(path, config=SMALL, state={"step": 1})
    with pytest.raises(EmotionError, match="contains no model"):
        model_from_checkpoint(path)
