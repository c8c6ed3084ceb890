"""The zero-shot banks of every bundle, and the entries of abstaining and experimental heads."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from exported import LABELS, SMALL, trained
from numpy.typing import NDArray
from safetensors.numpy import load_file

from emotion_export.bundle import write_heads
from emotion_export.card import FER2013_RUNS, model_card
from emotion_export.graphs import graph_sources
from emotion_export.reference import torch_reference
from emotion_runtime.bundle import sha256_of
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import SCHEMA_VERSION, Head, Manifest
from emotion_train.datasets.bold import CATEGORIES
from emotion_train.heads import HeadCard, LinearHead, save_head
from emotion_train.language.phrases import CATEGORY_PHRASES, TEMPLATES
from emotion_train.language.tokenizer import tokenize
from emotion_train.model import PRESETS
from emotion_train.pretrained import Checkpoint
from emotion_train.probing.zero_shot import zero_shot_head

SHA256 = "ab" * 32
MEASURED = {"one_person_auc_fear": 0.625}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    words = {"text_vocab": PRESETS["nano"].text_vocab, "text_width": 32, "text_heads": 2}
    model = trained(replace(SMALL, subject="sap", subject_bias=False, **words))
    return Checkpoint(model, SHA256, "custom", released=False, progress=None)


@pytest.fixture(scope="module")
def bare(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Head]]:
    """Heads of a bundle that is exported without a probe, with their folder."""
    folder = tmp_path_factory.mktemp("bare")
    return folder, write_heads(checkpoint, None, folder)


@pytest.fixture(scope="module")
def measured(checkpoint: Checkpoint) -> LinearHead:
    """The bank of categories as fit_probe.py leaves it."""
    return zero_shot_head(
        checkpoint.model, SHA256, MEASURED, phrases=CATEGORY_PHRASES, dataset="scenes", experimental=True
    )


def probe_of(checkpoint: Checkpoint, **changes: object) -> LinearHead:
    rng = np.random.default_rng(3)
    card = HeadCard("probe", LABELS, "softmax", 0.7, {"one_person_accuracy": 0.4375}, checkpoint.sha256)
    weight = rng.standard_normal((len(LABELS), checkpoint.model.config.embed_dim)).astype(np.float32)
    return LinearHead(weight, np.zeros(len(LABELS), np.float32), msgspec.structs.replace(card, **changes))


def weight_of(folder: Path, head: Head) -> NDArray[np.float32]:
    assert sha256_of(folder / head.file) == head.sha256
    return np.asarray(load_file(folder / head.file)["weight"], np.float32)


def test_both_banks_are_there_without_a_probe(bare: tuple[Path, dict[str, Head]]):
    folder, heads = bare
    assert set(heads) == {"zero_shot", "categories"}
    assert {head.kind for head in heads.values()} == {"zero_shot"}
    assert heads["zero_shot"].labels == LABELS
    assert {label.lower() for label in heads["categories"].labels} == {name.lower() for name in CATEGORIES}
    assert (heads["zero_shot"].experimental, heads["categories"].experimental) == (False, True)
    assert all(head.metrics == {} and head.abstain == 0 for head in heads.values())
    assert len(list(folder.iterdir())) == 2


@torch.no_grad()
@pytest.mark.parametrize("label", ["doubt/confusion", "suffering"])
def test_a_row_of_the_categories_is_what_its_words_say(
    checkpoint: Checkpoint, bare: tuple[Path, dict[str, Head]], label: str
):
    folder, heads = bare
    rows = []
    for phrase in CATEGORY_PHRASES[label]:
        for template in TEMPLATES:
            row = checkpoint.model.encode_text(tokenize([template.format(phrase)]))[0].double().numpy()
            rows.append(row / np.linalg.norm(row))
    expected = np.mean(rows, axis=0)
    head = heads["categories"]
    found = weight_of(folder, head)[head.labels.index(label)]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


def test_a_probe_goes_before_the_banks_with_its_threshold(checkpoint: Checkpoint, tmp_path: Path):
    save_head(tmp_path / "probe", "probe", probe_of(checkpoint, abstain=0.375))
    (tmp_path / "bundle").mkdir()
    heads = write_heads(checkpoint, tmp_path / "probe", tmp_path / "bundle")
    assert list(heads) == ["probe", "zero_shot", "categories"]
    assert (heads["probe"].abstain, heads["probe"].experimental) == (0.375, False)
    assert heads["probe"].metrics == {"one_person_accuracy": 0.4375}


def test_measured_banks_are_taken_over(checkpoint: Checkpoint, measured: LinearHead, tmp_path: Path):
    """With their numbers: here they are no longer what the tower would say, so that it shows."""
    turned = replace(measured, weight=-measured.weight)
    save_head(tmp_path / "probe", "categories", turned)
    (tmp_path / "bundle").mkdir()
    heads = write_heads(checkpoint, tmp_path / "probe", tmp_path / "bundle")
    assert set(heads) == {"zero_shot", "categories"}  # a probe is no more asked for than before
    head = heads["categories"]
    assert (head.metrics, head.experimental) == (MEASURED, True)
    np.testing.assert_array_equal(weight_of(tmp_path / "bundle", head), turned.weight)
    assert heads["zero_shot"].metrics == {}


def test_a_bank_of_categories_of_another_tower_is_refused(
    checkpoint: Checkpoint, measured: LinearHead, tmp_path: Path
):
    card = msgspec.structs.replace(measured.card, text_tower_sha256="00" * 32)
    save_head(tmp_path / "probe", "categories", replace(measured, card=card))
    with pytest.raises(EmotionError, match="the zero-shot head comes from text tower 000000000000") as caught:
        write_heads(checkpoint, tmp_path / "probe", tmp_path)
    assert "\n" not in str(caught.value)


def test_labels_of_experimental_heads_need_not_be_kept(checkpoint: Checkpoint, tmp_path: Path):
    probe = probe_of(checkpoint)
    save_head(tmp_path / "probe", "probe", probe)
    (tmp_path / "bundle").mkdir()
    heads = write_heads(checkpoint, tmp_path / "probe", tmp_path / "bundle")
    sources, folder = graph_sources(checkpoint.model), tmp_path / "bundle"
    features = np.random.default_rng(0).standard_normal((40, probe.weight.shape[1])).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = [
        (unit @ weight.T).argmax(axis=1) for weight in (probe.weight, weight_of(folder, heads["zero_shot"]))
    ]
    counted = torch_reference(sources, folder, heads, "probe").labels(features)  # without the 26 categories
    np.testing.assert_array_equal(counted, expected)
    every = {name: msgspec.structs.replace(head, experimental=False) for name, head in heads.items()}
    others = torch_reference(sources, folder, every, "probe")
    assert len(others.labels(features)) == 3  # it is the note that leaves them out


def test_the_card_says_what_is_experimental_and_when_no_label_is_given(
    checkpoint: Checkpoint, measured: LinearHead, tmp_path: Path
):
    save_head(tmp_path / "probe", "probe", probe_of(checkpoint, abstain=0.375))
    save_head(tmp_path / "probe", "categories", measured)
    (tmp_path / "bundle").mkdir()
    heads = write_heads(checkpoint, tmp_path / "probe", tmp_path / "bundle")
    config = checkpoint.model.config
    manifest = Manifest(
        schema=SCHEMA_VERSION,
        name="small",
        preset="custom",
        created_by="tests",
        license="Apache-2.0",
        checkpoint_sha256=SHA256,
        embedding_dim=config.embed_dim,
        clip_frames=config.clip_frames,
        clip_seconds=1.6,
        preprocess=config.preprocess,
        graphs={},
        heads=heads,
        default_head="probe",
        parity=[],
    )
    text = model_card(manifest, checkpoint)
    probe, categories = (
        next(line for line in text.splitlines() if line.startswith(f"Head `{name}`"))
        for name in ("probe", "categories")
    )
    assert probe.startswith("Head `probe` (default): linear, fitted on labelled data.")
    assert "No label is given if its probability is below 0.375." in probe
    assert categories.startswith("Head `categories` (EXPERIMENTAL): text embeddings")
    assert text.count("EXPERIMENTAL") == 1
    assert text.count("No label is given if") == 1
    assert "| one_person_auc_fear | 0.625 |" in text
    # A head may have been measured on other faces than those the model learned from.
    for data in (None, "ab" * 32, FER2013_RUNS[0]):
        text = model_card(manifest, replace(checkpoint, data=data))
        training, _, heads_text = text.partition("## What it measures")
        assert "FER2013" not in heads_text
        assert "FER+" not in heads_text
        assert ("FER2013" in training) == (data == FER2013_RUNS[0])
        assert "of the face\narchive that it was given" in heads_text
