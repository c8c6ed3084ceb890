import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Command
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, recall_score

from emotion_train.checkpoint import model_from_checkpoint
from emotion_train.heads import LinearHead, load_head
from emotion_train.language.labels import EKMAN
from emotion_train.scenes.faces import load_faces
from emotion_train.scenes.sets import person_clips

pytestmark = pytest.mark.slow

SEED = 5


def arguments(run: Path, data: Path, out: Path) -> list[str]:
    argv = ["--dataset", "scenes", "--data", str(data), "--checkpoint", str(run / "checkpoint.pt")]
    return [*argv, "--out", str(out), "--frames", "2", "--seed", str(SEED)]


@pytest.fixture(scope="module")
def fitted(
    fit_probe: Command, tiny_run: Path, small_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder that fit_probe wrote."""
    out = tmp_path_factory.mktemp("probe") / "scenes"
    assert fit_probe.main(arguments(tiny_run, small_data, out)) == 0
    return out


def predictions(run: Path, data: Path, head: LinearHead) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predictions and labels of the one-person test scenes, clip by clip through `encode_video`."""
    model = model_from_checkpoint(run / "checkpoint.pt")
    spec = model.config.preprocess
    faces = load_faces(data / "data" / "fer2013_plus.npz", "test")
    faces = faces.take(np.random.default_rng(SEED).permutation(len(faces.labels)))
    predicted, labels = [], []
    for clip in person_clips(faces, spec, (1,), frames=2, seed=SEED + 2):
        pixels = (clip.images / 255 - np.array(spec.mean)) / np.array(spec.std)
        frames = torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float().repeat_interleave(4, dim=0)
        weights = torch.from_numpy(clip.patch_weights).repeat_interleave(4, dim=0)
        with torch.no_grad():
            video = model.encode_video(frames[None], weights[None])[0].numpy()
        predicted.append(int((head.weight @ (video / np.linalg.norm(video)) + head.bias).argmax()))
        labels.append(clip.label)
    return np.array(predicted), np.array(labels)


def test_the_probe_on_disk_is_the_one_that_was_measured(fitted: Path, tiny_run: Path, small_data: Path):
    head = load_head(fitted, "probe")
    report: dict[str, Any] = json.loads((fitted / "report.json").read_text())
    predicted, labels = predictions(tiny_run, small_data, head)
    assert len(labels) == 42
    metrics = report["one_person"]
    assert metrics["accuracy"] == pytest.approx((predicted == labels).mean())
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    recalls = recall_score(labels, predicted, average=None)
    assert [metrics[f"recall_{name}"] for name in EKMAN] == pytest.approx(recalls.tolist())
    assert len(set(recalls.tolist())) > 1  # else other weights might agree


def test_the_card_says_what_the_head_is(fitted: Path, tiny_run: Path):
    card = load_head(fitted, "probe").card
    report = json.loads((fitted / "report.json").read_text())
    assert card.kind == "probe"
    assert tuple(card.labels) == EKMAN
    assert card.activation == "softmax"
    assert card.temperature > 0
    assert card.checkpoint_sha256 == hashlib.sha256((tiny_run / "checkpoint.pt").read_bytes()).hexdigest()
    for name, value in card.metrics.items():
        sets = [key for key in report if name.startswith(f"{key}_")]
        assert len(sets) == 1
        assert value == report[sets[0]][name.removeprefix(f"{sets[0]}_")]
    assert {
        "one_person_accuracy",
        "two_or_three_accuracy",
        "pairs_same_window_changed",
    } <= card.metrics.keys()


def test_the_probe_abstains_and_the_bank_of_categories_lies_beside_it(fitted: Path):
    assert 1 / 7 < load_head(fitted, "probe").card.abstain < 1
    categories, bank = load_head(fitted, "categories").card, load_head(fitted, "zero_shot").card
    assert (len(categories.labels), categories.experimental, categories.dataset) == (26, True, "scenes")
    assert {name.removeprefix("one_person_auc_") for name in categories.metrics} == {
        *("anger", "aversion", "fear", "happiness", "sadness", "surprise")
    }
    assert all(0 < value < 1 for value in categories.metrics.values())
    assert (bank.experimental, bank.abstain) == (False, 0.0)
    assert categories.text_tower_sha256 == bank.text_tower_sha256


def test_the_report_counts_pairs(fitted: Path):
    report = json.loads((fitted / "report.json").read_text())
    for name in ("pairs_same_window", "pairs_own_window"):
        assert 0 < report[name]["pairs"] <= 21
        assert all(0 <= report[name][metric] <= 1 for metric in ("changed", "own", "other", "both_right"))
    assert report["pairs_same_window"]["pairs"] == report["pairs_own_window"]["pairs"]


@pytest.fixture
def usual(tiny_run: Path, small_data: Path, tmp_path: Path) -> list[str]:
    return arguments(tiny_run, small_data, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoint", "nowhere.pt"], "checkpoint nowhere.pt: no such file"),
        (["--data", "nowhere"], "face archive not found at nowhere"),
        (["--train-faces", "2"], "to fit the probe on: use more training faces"),
        (["--frames", "0"], "--frames 0: expected 1 or more"),
    ],
)
def test_mistakes_end_with_status_2(
    options: list[str],
    message: str,
    usual: list[str],
    fit_probe: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert fit_probe.main([*usual, "--test-faces", "7", *options]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert len(error) == 1
    assert message in error[0]
    assert not list(tmp_path.iterdir())


def test_every_metric_but_calibration_errors_has_an_interval(fitted: Path):
    report = json.loads((fitted / "report.json").read_text())
    for name in ("one_person", "two_or_three", "zero_shot_one_person"):
        assert report["intervals"][name].keys() == report[name].keys() - {"ece", "ece_unscaled"}
        low, high = report["intervals"][name]["accuracy"]
        assert low < report[name]["accuracy"] < high
        assert report["sizes"][name] == {"samples": 42, "groups": 42}  # every face is one
    for name in ("pairs_same_window", "pairs_own_window"):
        low, high = report["intervals"][name]["own"]
        assert low <= report[name]["own"] <= high


def test_evaluate_finds_the_same_without_fitting(
    evaluate: Command, fitted: Path, tiny_run: Path, small_data: Path, tmp_path: Path
):
    argv = [*arguments(tiny_run, small_data, tmp_path), "--probe", str(fitted), "--splits", "two_or_three"]
    assert evaluate.main(argv) == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["two_or_three"] == json.loads((fitted / "report.json").read_text())["two_or_three"]


def test_scenes_have_their_own_sets(usual: list[str], fit_probe: Command, capsys: pytest.CaptureFixture[str]):
    assert fit_probe.main([*usual, "--splits", "test"]) == 2
    assert (
        "unknown set test of scenes: choose from train, val, one_person, two_or_three"
        in capsys.readouterr().err
    )
