import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from exported import LABELS, SUBJECTS, Exported, save_probe
from onnx import numpy_helper
from torch.nn import functional as F

import emotion_export.bundle
import emotion_export.checkpoints
from emotion_export.graphs import GraphSource
from emotion_runtime import __version__
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import load_bundle
from emotion_runtime.encoder import FrameEncoder
from emotion_runtime.heads import load_head
from emotion_runtime.sources.demo import read_demo
from emotion_runtime.subject import plan
from emotion_runtime.temporal import TemporalEncoder
from emotion_train.checkpoint import save_checkpoint
from emotion_train.heads import EKMAN_PHRASES
from emotion_train.heads import load_head as load_fitted
from emotion_train.model import PRESETS, EmotionCLIP
from emotion_train.tokenizer import tokenize

Main = Callable[[list[str]], int]
PEOPLE = [(104.0, 60.0, 200.0, 170.0), (430.0, 70.0, 520.0, 190.0), (-60.0, 20.0, -10.0, 90.0)]


# --- what is written


def test_a_bundle_is_whole_and_says_where_it_comes_from(nano: Exported):
    manifest = load_bundle(nano.folder).manifest
    assert sorted(path.name for path in nano.folder.iterdir()) == [
        "MODEL_CARD.md",
        "bundle.json",
        "frame_encoder.onnx",
        "probe.safetensors",
        "temporal_encoder.onnx",
        "zero_shot.safetensors",
    ]
    assert (manifest.name, manifest.preset, manifest.license) == ("nano", "nano", "Apache-2.0")
    assert manifest.created_by == f"emotion-runtime {__version__}"
    assert manifest.checkpoint_sha256 == hashlib.sha256(nano.checkpoint.read_bytes()).hexdigest()
    assert (manifest.embedding_dim, manifest.clip_frames, manifest.clip_seconds) == (256, 8, 1.6)
    assert manifest.preprocess == PRESETS["nano"].preprocess
    assert manifest.default_head == "probe"
    probe, bank = manifest.heads["probe"], manifest.heads["zero_shot"]
    assert (probe.kind, probe.activation, probe.temperature) == ("probe", "softmax", 0.7)
    assert probe.metrics == {"one_person_accuracy": 0.4375}
    assert (bank.kind, bank.activation, bank.metrics) == ("zero_shot", "softmax", {})
    assert probe.labels == bank.labels == LABELS
    modes = {path.stat().st_mode & 0o777 for path in nano.folder.iterdir()}
    assert modes == {(nano.folder / "bundle.json").stat().st_mode & 0o777}  # none is for its writer alone
    assert [path.name for path in nano.folder.parent.iterdir()] == ["nano"]


@torch.inference_mode()
def test_the_runtime_answers_as_torch_does(nano: Exported):
    """8 frames of the demo, three persons, the last outside of its window; every head."""
    bundle = load_bundle(nano.folder)
    encoder = FrameEncoder(OnnxBackend(bundle.graph_path("frame_encoder")), bundle.manifest.preprocess)
    frames = [frame.image for frame in read_demo()][:16:2]
    batches = [encoder.gather([(frame, plan(PEOPLE, 360, 640, encoder.spec))]) for frame in frames]
    clips = np.stack([encoder.embed(batch) for batch in batches], axis=1)  # (P, T, D)
    features = TemporalEncoder(OnnxBackend(bundle.graph_path("temporal_encoder"))).features(list(clips))

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = torch.stack([torch.from_numpy(b.images[b.frame_index]) for b in batches], dim=1) / 255
    weights = torch.stack([torch.from_numpy(b.patch_weights) for b in batches], dim=1)
    assert not weights[2].any()
    expected = F.normalize(nano.model.encode_video((images.movedim(-1, 2) - mean) / std, weights), dim=-1)

    head = load_fitted(nano.checkpoint.with_name("probe"), "probe")
    logits = expected @ torch.from_numpy(head.weight).T + torch.from_numpy(head.bias)
    probe = torch.softmax(logits / 0.7, dim=-1).numpy()
    texts = [
        [template.format(phrase) for phrase in phrases for template in templates]
        for phrases in EKMAN_PHRASES.values()
        for templates in [
            (
                "{}",
                "I feel {}.",
                "I am feeling {} right now.",
                "A person who feels {}.",
                "This is full of {}.",
            )
        ]
    ]
    bank = torch.stack(
        [F.normalize(nano.model.encode_text(tokenize(prompts)), dim=-1).mean(0) for prompts in texts]
    )
    scale = nano.model.logit_scale.exp()
    zero_shot = torch.softmax(scale * expected @ F.normalize(bank, dim=-1).T, dim=-1).numpy()
    assert np.ptp(probe, axis=0).max() > 1e-3  # the persons differ, or nothing would be shown
    np.testing.assert_allclose(load_head(bundle)(features), probe, atol=1e-5)
    np.testing.assert_allclose(load_head(bundle, "zero_shot")(features), zero_shot, atol=1e-5)


def test_released_weights_give_the_official_numbers(released: Exported, shared_data: Path):
    golden = np.load(shared_data / "golden" / "official_seed0.npz")
    bundle = load_bundle(released.folder)
    frames = OnnxBackend(bundle.graph_path("frame_encoder"))
    weights = np.concatenate([golden["patch_weights"], np.zeros((1, 49))]).astype(np.float32)
    found = frames.run(
        {
            "images": golden["crop_uint8"][None],
            "frame_index": np.zeros(5, np.int64),
            "patch_weights": weights,
        }
    )["embeddings"]
    expected = np.concatenate([golden["frame_features"], golden["frame_features_no_subject"]])
    assert np.abs(found - expected).max() <= 2e-4
    clips = np.random.default_rng([0, 77]).standard_normal((3, 8, 512)).astype(np.float32)
    temporal = OnnxBackend(bundle.graph_path("temporal_encoder"))
    found = temporal.run({"embeddings": clips})["features"]
    assert np.abs(found - golden["temporal_output"]).max() <= 2e-4


def test_released_weights_are_not_given_what_they_have_not(released: Exported):
    manifest = load_bundle(released.folder).manifest
    assert (manifest.name, manifest.preset, manifest.default_head) == ("vit-b-32", "vit-b-32", "zero_shot")
    assert manifest.preprocess == msgspec.structs.replace(PRESETS["vit-b-32"].preprocess, window="subject")
    assert manifest.heads["zero_shot"].temperature == pytest.approx(0.07, rel=1e-5)
    assert "Apache" not in manifest.license
    card = (released.folder / "MODEL_CARD.md").read_text()
    for claim in ("FER2013", "GoEmotions", "Apache"):
        assert claim not in card
    assert "3,613 episodes" in card


def test_the_card_claims_what_is_known(nano: Exported, released: Exported):
    card = (nano.folder / "MODEL_CARD.md").read_text()
    for claim in (
        "FER2013",
        "research use",
        "GoEmotions (CC BY 4.0)",
        "step 4200 of its stage `scenes`",
        "| one_person_accuracy | 0.4375 |",
        load_bundle(nano.folder).manifest.checkpoint_sha256,
    ):
        assert claim in card
    for text in (card, (released.folder / "MODEL_CARD.md").read_text()):
        assert "Art. 5(1)(f)" in text
        assert "workplaces and in education" in text
        assert "{" not in text


# --- what is refused, and what then lies at the destination


@pytest.fixture
def copied_graphs(nano: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export proper takes its graphs from nano's bundle: what is tested comes before and after it."""

    def copy(source: GraphSource, path: Path) -> None:
        shutil.copy(nano.folder / f"{source.name}.onnx", path)

    monkeypatch.setattr(emotion_export.bundle, "write_graph", copy)


@pytest.fixture
def old(nano: Exported, tmp_path: Path) -> Path:
    """A bundle that is there already; its manifest ends with a space that no export writes."""
    folder = tmp_path / "bundles" / "old"
    shutil.copytree(nano.folder, folder)
    with (folder / "bundle.json").open("a") as file:
        file.write(" ")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(to_onnx: Main, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line on stderr."""
    assert to_onnx([str(argument) for argument in arguments]) == 2
    line, end = capsys.readouterr().err.split("\n")
    assert line.startswith("to_onnx: error: ")
    assert not end
    return line


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
    assert f"{graph}.onnx differs" in line
    assert contents(old.parent) == before
    refusal(to_onnx, capsys, "--checkpoint", nano.checkpoint, "--out", old.parent / "new")
    assert contents(old.parent) == before
    assert [path.name for path in old.parent.iterdir()] == ["old"]


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
    assert "frame_encoder.onnx differs" in line
    assert contents(old.parent) == before


@pytest.mark.usefixtures("copied_graphs")
def test_a_bundle_is_replaced_only_by_a_good_one(
    nano: Exported, old: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]
):
    (old / "heads_of_long_ago.safetensors").write_bytes(b"")
    status = to_onnx(
        ["--checkpoint", str(nano.checkpoint), "--out", str(old), "--name", "new", "--clip-seconds", "2.5"]
    )
    assert status == 0
    manifest = load_bundle(old).manifest
    assert (manifest.name, manifest.clip_seconds, manifest.default_head) == ("new", 2.5, "zero_shot")
    assert sorted(path.name for path in old.iterdir()) == [
        "MODEL_CARD.md",
        "bundle.json",
        "frame_encoder.onnx",
        "temporal_encoder.onnx",
        "zero_shot.safetensors",
    ]
    assert [path.name for path in old.parent.iterdir()] == ["old"]
    assert f"emotion-runtime --bundle {old}" in capsys.readouterr().out


@pytest.mark.usefixtures("copied_graphs")
def test_what_is_no_bundle_is_never_replaced(
    nano: Exported, old: Path, tmp_path: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]
):
    (old / "thesis.tex").write_text("")
    before = contents(tmp_path)
    assert "thesis.tex" in refusal(to_onnx, capsys, "--checkpoint", nano.checkpoint, "--out", old)
    assert "old" in refusal(to_onnx, capsys, "--checkpoint", nano.checkpoint, "--out", old.parent)
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
    for content in (b"", b"not a checkpoint at all"):
        path.write_bytes(content)
        assert "torn" in line()
    torch.save([1, 2], path)
    assert "a list, expected a dict" in line()
    torch.save({"weights": {}}, path)
    assert "keys weights: expected a checkpoint of pretrain.py" in line()
    torch.save({"model": {"backbone.visual.proj": torch.zeros(1)}}, path)
    assert "missing" in line()
    torch.save({"model": torch.nn.Linear(1, 1)}, path)  # code would have to run
    assert "more than tensors and plain values" in line()
    save_checkpoint(path, config=SUBJECTS["none"], state={"step": 1})
    assert "holds no model" in line()
    path.write_bytes(path.read_bytes()[:-100])
    assert "torn" in line()
    assert [file.name for file in tmp_path.iterdir()] == ["file.pt"]


def test_a_broken_text_tower_is_refused(
    nano: Exported, tmp_path: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]
):
    """No graph shows it: the text tower is in the zero-shot head only."""
    weights = {name: tensor.clone() for name, tensor in nano.model.state_dict().items()}
    weights["backbone.text_projection"][0, 0] = float("nan")
    save_checkpoint(tmp_path / "c.pt", config=nano.model.config, state={"model": weights})
    line = refusal(to_onnx, capsys, "--checkpoint", tmp_path / "c.pt", "--out", tmp_path / "out")
    assert "head zero_shot holds values that are no finite numbers" in line
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_checkpoint_that_changes_while_it_is_read_is_refused(
    nano: Exported,
    tmp_path: Path,
    to_onnx: Main,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    path = shutil.copy(nano.checkpoint, tmp_path / "checkpoint.pt")
    read = emotion_export.checkpoints.model_from_checkpoint

    def read_and_train_on(path: Path) -> EmotionCLIP:
        model = read(path)
        save_checkpoint(path, config=model.config, state={"model": model.state_dict(), "step": 4201})
        return model

    monkeypatch.setattr(emotion_export.checkpoints, "model_from_checkpoint", read_and_train_on)
    assert "written to while it was read" in refusal(
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
    assert "absent.mp4" in refusal(to_onnx, capsys, *arguments, "--real", "absent.mp4")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("copied_graphs")
def test_only_a_pretrained_nano_claims_nanos_data(nano: Exported, tmp_path: Path, to_onnx: Main):
    """The same weights, of which the file does not say where they come from."""
    save_checkpoint(tmp_path / "c.pt", config=nano.model.config, state={"model": nano.model.state_dict()})
    assert to_onnx(["--checkpoint", str(tmp_path / "c.pt"), "--out", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "FER2013" not in card
    assert "does not say on what data" in card
