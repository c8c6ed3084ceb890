"""The files that an export writes, and that their graphs equal the model."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from exported import LABELS, Exported
from torch.nn import functional as F

from emotion_runtime import __version__
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import load_bundle
from emotion_runtime.cli import main as run_command
from emotion_runtime.encoder import FrameEncoder, TemporalEncoder
from emotion_runtime.heads import load_head
from emotion_runtime.names import ReducedPrecision
from emotion_runtime.sources.demo import read_demo
from emotion_runtime.subject import plan_crops
from emotion_train.heads import load_head as load_fitted
from emotion_train.language.phrases import EKMAN_PHRASES
from emotion_train.language.tokenizer import tokenize
from emotion_train.model import PRESETS

pytestmark = pytest.mark.slow

Main = Callable[[list[str]], int]
PEOPLE = [(104.0, 60.0, 200.0, 170.0), (430.0, 70.0, 520.0, 190.0), (-60.0, 20.0, -10.0, 90.0)]


def test_a_bundle_is_complete_and_states_its_origin(nano: Exported):
    manifest = load_bundle(nano.folder).manifest
    assert sorted(path.name for path in nano.folder.iterdir()) == [
        "MODEL_CARD.md",
        "bundle.json",
        "categories.safetensors",
        "frame_encoder.fp16.onnx",
        "frame_encoder.int8.onnx",
        "frame_encoder.onnx",
        "probe.safetensors",
        "temporal_encoder.fp16.onnx",
        "temporal_encoder.int8.onnx",
        "temporal_encoder.onnx",
        "zero_shot.safetensors",
    ]
    assert (manifest.name, manifest.preset) == ("nano", "nano")
    assert manifest.license == (
        "weights: research use only (trained on FER2013, which states no licence); code: Apache-2.0"
    )
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
def test_the_runtime_gives_the_same_results_as_torch(nano: Exported):
    """8 frames of the demo, three persons, the last outside of its window; every head."""
    bundle = load_bundle(nano.folder)
    encoder = FrameEncoder(OnnxBackend(bundle.graph_path("frame_encoder")), bundle.manifest.preprocess)
    frames = [frame.image for frame in read_demo()][:16:2]
    batches = [encoder.gather([(frame, plan_crops(PEOPLE, 360, 640, encoder.spec))]) for frame in frames]
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


def test_released_weights_run_with_the_same_command(released: Exported, tmp_path: Path):
    lines = tmp_path / "events.jsonl"
    options = [
        "--bundle",
        str(released.folder),
        "--source",
        "demo",
        "--max-frames",
        "4",
        "--jsonl",
        str(lines),
    ]
    assert run_command(options) == 0
    _, *events = map(json.loads, lines.read_text().splitlines())  # the first line is about the run
    assert len(events) == 4
    answered = [person for event in events for person in event["persons"] if person["emotions"]]
    assert answered
    for person in answered:
        assert sorted(person["emotions"]) == sorted(EKMAN_PHRASES)
        assert sum(person["emotions"].values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.nightly
@pytest.mark.parametrize(("precision", "tolerated"), [("fp16", 0.02), ("int8", 0.5)])
def test_released_weights_in_other_precisions_are_near_the_official_numbers(
    released: Exported,
    shared_data: Path,
    to_onnx: Main,
    tmp_path: Path,
    precision: ReducedPrecision,
    tolerated: float,
):
    """Features have a standard deviation of one."""
    video = shared_data / "videos" / "intel_face-demographics-walking-and-pause.gif"
    options = ["--bundle", str(released.folder), "--precision", precision, "--videos", str(video)]
    assert to_onnx([*options, "--out", str(tmp_path / precision)]) == 0
    golden = np.load(shared_data / "golden" / "official_seed0.npz")
    bundle = load_bundle(tmp_path / precision)
    path = bundle.graph_path("frame_encoder", precision)
    found = OnnxBackend(path).run(
        {
            "images": golden["crop_uint8"][None],
            "frame_index": np.zeros(4, np.int64),
            "patch_weights": golden["patch_weights"].astype(np.float32),
        }
    )["embeddings"]
    assert 1e-4 < np.abs(found - golden["frame_features"]).max() < tolerated
    full = bundle.graph_path("frame_encoder").stat().st_size
    assert path.stat().st_size < {"fp16": 0.51, "int8": 0.3}[precision] * full


def test_the_card_of_released_weights_states_nothing_about_our_data(released: Exported):
    manifest = load_bundle(released.folder).manifest
    assert (manifest.name, manifest.preset, manifest.default_head) == ("vit-b-32", "vit-b-32", "zero_shot")
    assert manifest.preprocess == msgspec.structs.replace(PRESETS["vit-b-32"].preprocess, window="subject")
    assert manifest.heads["zero_shot"].temperature == pytest.approx(0.07, rel=1e-5)
    assert manifest.license == "weights: as their authors state"
    card = (released.folder / "MODEL_CARD.md").read_text()
    for claim in ("FER2013", "GoEmotions", "Apache"):
        assert claim not in card
    assert "3,613 episodes" in card


def test_the_card_states_what_is_known(nano: Exported, released: Exported):
    # Without line breaks, which may fall within a claim.
    card = " ".join((nano.folder / "MODEL_CARD.md").read_text().split())
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
