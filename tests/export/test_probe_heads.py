"""Which heads of a probe folder a bundle takes over."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from exported import LABELS, Exported, save_probe

import emotion_export.bundle
from emotion_export.graphs import GraphSource
from emotion_runtime.bundle import load_bundle
from emotion_runtime.heads import load_affect_head, load_head
from emotion_train.heads import HeadCard, LinearHead, save_head
from emotion_train.heads import load_head as load_fitted
from emotion_train.probing.zero_shot import zero_shot_head

pytestmark = pytest.mark.slow

Main = Callable[[list[str]], int]
WORDS = {"focused": ("absorbed",), "bored": ("so bored", "tired of this")}


@pytest.fixture
def export(
    nano: Exported, to_onnx: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], int]:
    """Exports nano with a probe folder; the graphs are those that were exported before."""

    def copy(source: GraphSource, path: Path) -> None:
        shutil.copy(nano.folder / f"{source.name}.onnx", path)

    monkeypatch.setattr(emotion_export.bundle, "write_graph", copy)

    def run(probe: Path) -> int:
        out = tmp_path / "bundle"
        return to_onnx(["--checkpoint", str(nano.checkpoint), "--out", str(out), "--probe", str(probe)])

    return run


def affect(nano: Exported) -> LinearHead:
    rng = np.random.default_rng(5)
    probe = load_fitted(nano.checkpoint.with_name("probe"), "probe")
    card = msgspec.structs.replace(
        probe.card,
        labels=["valence", "arousal", "dominance"],
        activation="identity",
        temperature=1.0,
        metrics={"val_vad_r2": 0.125},
        dataset="bold",
    )
    bias = rng.standard_normal(3).astype(np.float32)
    return LinearHead(rng.standard_normal((3, probe.weight.shape[1])).astype(np.float32), bias, card)


def test_valence_arousal_and_dominance_go_beside_the_emotions(
    nano: Exported, export: Callable[[Path], int], tmp_path: Path
):
    probe, head = tmp_path / "probe", affect(nano)
    shutil.copytree(nano.checkpoint.with_name("probe"), probe)
    save_head(probe, "affect", head)
    assert export(probe) == 0
    bundle = load_bundle(tmp_path / "bundle")
    assert (bundle.manifest.default_head, bundle.manifest.affect_head) == ("probe", "affect")
    assert bundle.manifest.heads["affect"].metrics == {"val_vad_r2": 0.125}
    loaded = load_affect_head(bundle)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.weight, head.weight)
    features = np.random.default_rng(0).standard_normal((2, head.weight.shape[1])).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(loaded(features), unit @ head.weight.T + head.bias, atol=1e-5)
    text = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    assert "Labels: valence, arousal, dominance." in text
    assert (
        "| val_vad_r2 | 0.125 |\n\nMeasured by `emotion-train fit-probe` or `emotion-train evaluate` on a"
        in text
    )
    assert text.count("on scenes rendered with faces of the splits") == 1  # of the other head


def test_values_alone_leave_the_emotions_to_the_text_tower(
    nano: Exported, export: Callable[[Path], int], tmp_path: Path
):
    save_head(tmp_path / "probe", "affect", affect(nano))
    assert export(tmp_path / "probe") == 0
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert (manifest.default_head, manifest.affect_head) == ("zero_shot", "affect")
    assert sorted(manifest.heads) == ["affect", "categories", "zero_shot"]


def test_a_bank_of_ones_own_labels_is_taken_over(
    nano: Exported, export: Callable[[Path], int], tmp_path: Path
):
    bank = zero_shot_head(nano.model, "of another checkpoint with the same tower", {}, phrases=WORDS)
    save_head(tmp_path / "probe", "zero_shot", bank)
    assert export(tmp_path / "probe") == 0
    head = load_head(load_bundle(tmp_path / "bundle"))
    assert head.labels == ("focused", "bored")
    np.testing.assert_array_equal(head.weight, bank.weight)


def test_of_a_bank_without_a_tower_only_the_metrics_are_used(
    nano: Exported, export: Callable[[Path], int], tmp_path: Path
):
    bank = zero_shot_head(nano.model, "", {"zero_shot_one_person_accuracy": 0.5})
    card = msgspec.structs.replace(bank.card, text_tower_sha256=None)
    save_head(tmp_path / "probe", "zero_shot", LinearHead(0 * bank.weight, bank.bias, card))
    assert export(tmp_path / "probe") == 0
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.manifest.heads["zero_shot"].metrics == {"zero_shot_one_person_accuracy": 0.5}
    np.testing.assert_allclose(load_head(bundle, "zero_shot").weight, bank.weight, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features": "image"}, "was fitted on features of the frame encoder alone"),
        ({"checkpoint_sha256": "00" * 32}, "run emotion-train fit-probe with this checkpoint"),
        (
            {"kind": "zero_shot", "text_tower_sha256": "00" * 32},
            "the zero-shot head comes from text tower 000000000000",
        ),
    ],
)
def test_what_the_runtime_could_not_read_is_refused(
    changes: dict[str, str],
    words: str,
    nano: Exported,
    export: Callable[[Path], int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    probe = save_probe(tmp_path / "unused", nano.checkpoint, nano.model.config.embed_dim)
    card: HeadCard = msgspec.structs.replace(probe.card, **changes)
    assert card.labels == LABELS
    save_head(tmp_path / "probe", card.kind, replace(probe, card=card))
    assert export(tmp_path / "probe") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
