"""Errors of an export, and that the destination stays as it was."""

import errno
import hashlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exported import ROOT, SUBJECTS, Exported, Main, contents, refusal, save_probe
from onnx import numpy_helper

import emotion_export.bundle
import emotion_train.pretrained
from emotion_export.graphs import GraphSource
from emotion_runtime.bundle import load_bundle
from emotion_train.checkpoint import save_checkpoint
from emotion_train.model import EmotionCLIP

pytestmark = pytest.mark.slow


@pytest.fixture
def copied_graphs(nano: Exported, small: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export proper takes its graphs from a bundle: what is tested comes before and after it."""

    def copy(source: GraphSource, path: Path) -> None:
        of_nano = source.module.model.config.subject == "shared"
        shutil.copy((nano if of_nano else small).folder / f"{source.name}.onnx", path)

    monkeypatch.setattr(emotion_export.bundle, "write_graph", copy)


@pytest.fixture
def old(nano: Exported, tmp_path: Path) -> Path:
    """A bundle that is there already; its manifest ends with a space that no export writes."""
    folder = tmp_path / "bundles" / "nano"
    shutil.copytree(nano.folder, folder)
    with (folder / "bundle.json").open("a") as file:
        file.write(" ")
    return folder


@pytest.mark.parametrize("graph", ["frame_encoder", "temporal_encoder"])
def test_a_graph_that_is_not_the_model_is_refused(
    nano: Exported,
    old: Path,
    graph: str,
    to_onnx: Main,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """One of the graph's matrices is off by one percent."""

    def copy_with_fault(source: GraphSource, path: Path) -> None:
        model = onnx.load(nano.folder / f"{source.name}.onnx")
        if source.name == graph:
            tensor = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.01, tensor.name))
        onnx.save(model, path)

    monkeypatch.setattr(emotion_export.bundle, "write_graph", copy_with_fault)
    before = contents(old.parent)
    line = refusal(to_onnx, capsys, "--checkpoint", nano.checkpoint, "--out", old)
    assert f"{graph}.onnx in fp32 differs from the torch model" in line
    assert contents(old.parent) == before
    refusal(to_onnx, capsys, "--checkpoint", nano.checkpoint, "--out", old.parent / "new")
    assert contents(old.parent) == before
    assert [path.name for path in old.parent.iterdir()] == ["nano"]


@pytest.mark.usefixtures("copied_graphs")
@pytest.mark.parametrize("change", [1.01, float("nan")])
def test_a_model_that_is_not_the_graph_is_refused(
    nano: Exported,
    old: Path,
    change: float,
    tmp_path: Path,
    to_onnx: Main,
    capsys: pytest.CaptureFixture[str],
):
    """One gain of the checkpoint differs from what was exported; a broken training run gives NaN."""
    weights = {name: tensor.clone() for name, tensor in nano.model.state_dict().items()}
    weights["backbone.visual.ln_post.weight"][0] *= change
    save_checkpoint(tmp_path / "other.pt", config=nano.model.config, state={"model": weights})
    before = contents(old.parent)
    line = refusal(to_onnx, capsys, "--checkpoint", tmp_path / "other.pt", "--out", old)
    assert "frame_encoder.onnx in fp32 differs" in line
    assert contents(old.parent) == before


@pytest.mark.usefixtures("copied_graphs")
def test_a_bundle_is_replaced_only_by_a_good_one(
    nano: Exported, old: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]
):
    (old / "heads_of_long_ago.safetensors").write_bytes(b"")
    arguments = ["--checkpoint", str(nano.checkpoint), "--out", str(old), "--clip-seconds", "2.5"]
    assert to_onnx(arguments) == 0
    manifest = load_bundle(old).manifest
    assert (manifest.name, manifest.clip_seconds, manifest.default_head) == ("nano", 2.5, "zero_shot")
    assert sorted(path.name for path in old.iterdir()) == [
        "MODEL_CARD.md",
        "bundle.json",
        "categories.safetensors",
        "frame_encoder.onnx",
        "temporal_encoder.onnx",
        "zero_shot.safetensors",
    ]
    assert [path.name for path in old.parent.iterdir()] == ["nano"]
    assert f"emotion-runtime --bundle {old}" in capsys.readouterr().out


@pytest.mark.usefixtures("copied_graphs")
def test_what_is_no_bundle_is_never_replaced(
    nano: Exported, old: Path, tmp_path: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]
):
    (old / "thesis.tex").write_text("")
    before = contents(tmp_path)
    assert "thesis.tex" in refusal(to_onnx, capsys, "--checkpoint", nano.checkpoint, "--out", old)
    assert "nano" in refusal(to_onnx, capsys, "--checkpoint", nano.checkpoint, "--out", old.parent)
    file = old / "bundle.json"
    assert "is a file" in refusal(to_onnx, capsys, "--checkpoint", nano.checkpoint, "--out", file)
    line = refusal(to_onnx, capsys, "--checkpoint", nano.checkpoint, "--out", file / "below")
    assert "cannot be written" in line
    assert contents(tmp_path) == before


def test_bad_checkpoints_are_refused(tmp_path: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]):
    path, out = tmp_path / "file.pt", tmp_path / "out"

    def line() -> str:
        return refusal(to_onnx, capsys, "--checkpoint", path, "--out", out)

    assert "no such file" in line()
    for content, words in ((b"", "it is empty"), (b"hi\n", "is corrupt or not a checkpoint")):
        path.write_bytes(content)
        assert words in line()
    torch.save([1, 2], path)
    assert "a list, expected a dict" in line()
    torch.save({"weights": {}}, path)
    assert "keys weights: expected a checkpoint of emotion-train pretrain" in line()
    torch.save({"model": {"backbone.visual.proj": torch.zeros(1)}}, path)
    assert "missing" in line()
    torch.save({"model": torch.nn.Linear(1, 1)}, path)  # code would have to run
    assert "more than tensors and plain values" in line()
    save_checkpoint(path, config=SUBJECTS["none"], state={"step": 1})
    assert "contains no model" in line()
    path.write_bytes(path.read_bytes()[:-100])
    assert "corrupt" in line()
    assert [file.name for file in tmp_path.iterdir()] == ["file.pt"]


def test_released_weights_of_another_size_are_refused(
    released_layout: dict[str, tuple[int, ...]],
    tmp_path: Path,
    to_onnx: Main,
    capsys: pytest.CaptureFixture[str],
):
    """As of a ViT-B/16, whose patches are smaller; and with names gone astray. All is one zero on disk."""
    zeros = {name: torch.zeros(()).expand(shape) for name, shape in released_layout.items()}
    path, out = tmp_path / "file.pt", tmp_path / "out"
    name = "backbone.visual.conv1.weight"
    torch.save({"model": {**zeros, name: torch.zeros(768, 3, 16, 16)}}, path)
    line = refusal(to_onnx, capsys, "--checkpoint", path, "--out", out)
    assert f"1 of another shape: {name} (768, 3, 16, 16) (expected (768, 3, 32, 32))" in line
    assert "preset vit-b-32" in line
    zeros["encoder.weight"] = zeros.pop("backbone.visual.proj")
    torch.save({"model": zeros}, path)
    line = refusal(to_onnx, capsys, "--checkpoint", path, "--out", out)
    assert "1 missing: backbone.visual.proj; 1 unexpected: encoder.weight" in line
    assert [file.name for file in tmp_path.iterdir()] == ["file.pt"]


@pytest.mark.usefixtures("copied_graphs")
@pytest.mark.parametrize("last", ["frame_encoder.onnx", "frame_encoder.fp16.onnx", "bundle.json"])
def test_a_full_disk_leaves_nothing(
    small: Exported,
    old: Path,
    last: str,
    to_onnx: Main,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """/dev/full takes no byte, and says so as a full disk does."""
    make = Path.mkdir

    def make_with_full_file(self: Path, *args: object, **kwargs: object) -> None:
        new = not self.exists()
        make(self, *args, **kwargs)
        if new:
            (self / last).symlink_to("/dev/full")

    before = contents(old.parent)
    monkeypatch.setattr(Path, "mkdir", make_with_full_file)
    monkeypatch.setattr(shutil, "copy", lambda source, target: Path(target).write_bytes(source.read_bytes()))
    arguments = ("--checkpoint", small.checkpoint, "--precision", "fp16", "--out", old)
    line = refusal(to_onnx, capsys, *arguments)
    assert "cannot be written: No space left on device; free disk space" in line
    assert contents(old.parent) == before
    assert [path.name for path in old.parent.iterdir()] == ["nano"]


@pytest.mark.usefixtures("copied_graphs")
def test_a_read_only_disk_is_named(
    small: Exported,
    old: Path,
    to_onnx: Main,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    before = contents(old.parent)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        for what in (("--checkpoint", small.checkpoint), ("--bundle", old)):
            line = refusal(to_onnx, capsys, *what, "--precision", "fp16", "--out", old)
            assert f"{old} cannot be written: Read-only file system" in line
            assert "choose another --out" in line
    assert contents(old.parent) == before


def heed_interrupts() -> None:
    """Handle Ctrl-C as programs of a terminal do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_leaves_nothing(old: Path, tmp_path: Path):
    """A real program and a real signal, when one graph is written."""
    before = contents(tmp_path)
    command = [sys.executable, ROOT / "export" / "to_onnx.py", "--bundle", old, "--out", old]
    with subprocess.Popen(
        [*command, "--precision", "fp16", "int8"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509 - no threads here; a job in the background ignores them
    ) as process:
        assert process.stderr is not None
        while "frame_encoder: converting to int8" not in process.stderr.readline():
            assert process.poll() is None
        assert [path.name for path in old.parent.iterdir()] != ["nano"]  # half of it is written
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == f"emotion-export onnx: interrupted; nothing was written to {old}"
    assert contents(tmp_path) == before
    assert [path.name for path in old.parent.iterdir()] == ["nano"]


def test_a_broken_text_tower_is_refused(
    nano: Exported, tmp_path: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]
):
    """No graph shows it: the text tower is in the zero-shot head only."""
    weights = {name: tensor.clone() for name, tensor in nano.model.state_dict().items()}
    weights["backbone.text_projection"][0, 0] = float("nan")
    save_checkpoint(tmp_path / "c.pt", config=nano.model.config, state={"model": weights})
    line = refusal(to_onnx, capsys, "--checkpoint", tmp_path / "c.pt", "--out", tmp_path / "out")
    assert "head zero_shot contains values that are not finite" in line
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_checkpoint_that_changes_while_it_is_read_is_refused(
    nano: Exported,
    tmp_path: Path,
    to_onnx: Main,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    path = shutil.copy(nano.checkpoint, tmp_path / "checkpoint.pt")
    read = emotion_train.pretrained.model_from_checkpoint

    def read_and_train_on(path: Path) -> EmotionCLIP:
        model = read(path)
        save_checkpoint(path, config=model.config, state={"model": model.state_dict(), "step": 4201})
        return model

    monkeypatch.setattr(emotion_train.pretrained, "model_from_checkpoint", read_and_train_on)
    assert "changed while it was read" in refusal(
        to_onnx, capsys, "--checkpoint", path, "--out", tmp_path / "out"
    )


@pytest.mark.usefixtures("copied_graphs")
def test_bad_options_are_refused(
    nano: Exported, tmp_path: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]
):
    arguments = ("--checkpoint", nano.checkpoint, "--out", tmp_path / "out")
    for seconds in ("0", "-1", "nan", "inf"):
        assert "clip seconds" in refusal(to_onnx, capsys, *arguments, "--clip-seconds", seconds)
    assert "no head 'probe'" in refusal(to_onnx, capsys, *arguments, "--probe", tmp_path)
    other = tmp_path / "other.pt"
    other.write_bytes(b"another checkpoint")
    save_probe(tmp_path / "probe", other, 256)
    line = refusal(to_onnx, capsys, *arguments, "--probe", tmp_path / "probe")
    assert hashlib.sha256(b"another checkpoint").hexdigest()[:12] in line
    save_probe(tmp_path / "probe", nano.checkpoint, 128)
    assert "128 features" in refusal(to_onnx, capsys, *arguments, "--probe", tmp_path / "probe")
    assert "absent.mp4" in refusal(to_onnx, capsys, *arguments, "--videos", "absent.mp4")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--detector m.pt --precision fp16", "--precision would have no effect with --detector"),
        ("--checkpoint c.pt --text-tower --videos v.mp4", "--videos would have no effect with --text-tower"),
        ("--bundle nano --window center --name me", "--name, --window would have no effect with --bundle"),
        ("--checkpoint c.pt --imgsz 320", "--imgsz would have no effect with --checkpoint"),
    ],
)
def test_options_without_an_effect_are_refused(
    arguments: str, words: str, tmp_path: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]
):
    assert words in refusal(to_onnx, capsys, *arguments.split(), "--out", tmp_path / "out")


@pytest.mark.usefixtures("copied_graphs")
@pytest.mark.parametrize(
    "state", [{}, {"stage": "clips", "step": 20}, {"stage": "scenes", "step": 20, "fingerprint": 64 * "a"}]
)
def test_only_a_run_on_known_data_names_the_training_data(
    nano: Exported, tmp_path: Path, to_onnx: Main, state: dict[str, object]
):
    """The same weights, of which the file does not say where they come from, or says that of other data."""
    state = {"model": nano.model.state_dict(), **state}
    save_checkpoint(tmp_path / "c.pt", config=nano.model.config, state=state)
    assert to_onnx(["--checkpoint", str(tmp_path / "c.pt"), "--out", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "FER2013" not in card
    assert "research use only" not in card
    assert "does not name its training data" in card
    assert ("aaaa` (stage `scenes`, step 20)" in card) == ("fingerprint" in state)
