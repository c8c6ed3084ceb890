"""emotion-train evaluate measures what is there: a head of emotion-train fit-probe, or classes from text."""

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from by_hand import Fitted, both, features, targets
from command import Command
from sklearn.metrics import accuracy_score, average_precision_score
from torch.nn import functional as F

from emotion_runtime.heads import activate
from emotion_train.checkpoint import load_checkpoint, model_from_checkpoint, save_checkpoint
from emotion_train.datasets import load_dataset
from emotion_train.heads import load_head
from emotion_train.language.phrases import CATEGORY_PHRASES, EKMAN_PHRASES, TEMPLATES
from emotion_train.language.tokenizer import tokenize
from emotion_train.model import EmotionCLIP
from emotion_train.probing.calibration import calibration_error, confidences_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> EmotionCLIP:
    return model_from_checkpoint(checkpoint)


def arguments(name: str, fitted: Fitted, checkpoint: Path, *options: str | Path) -> list[str]:
    argv = ["--dataset", name, "--data", fitted.data, "--checkpoint", checkpoint, "--resamples", "20"]
    return [str(part) for part in (*argv, *options)]


def report(folder: Path, name: str = "evaluation") -> dict[str, dict[str, float]]:
    return json.loads((folder / f"{name}.json").read_text())


def test_a_probe_is_measured_as_when_it_was_fitted(
    evaluate: Command, meld: Fitted, checkpoint: Path, tmp_path: Path
):
    argv = arguments("meld", meld, checkpoint, "--probe", meld.out, "--out", tmp_path)
    assert evaluate.main(argv) == 0
    for split in ("dev", "test"):
        assert report(tmp_path)[split] == meld.report[split]
    assert (tmp_path / "evaluation.md").is_file()
    assert not list(tmp_path.glob("*.safetensors"))  # nothing was fitted


def test_any_split_can_be_measured_and_the_fitted_one_is_called_so(
    evaluate: Command,
    meld: Fitted,
    checkpoint: Path,
    model: EmotionCLIP,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    options = ("--probe", meld.out, "--splits", "train", "--out", tmp_path)
    assert evaluate.main(arguments("meld", meld, checkpoint, *options)) == 0
    rows, truth = both("meld", meld, "train", model, "emotion")
    head = load_head(meld.out, "probe")
    expected = accuracy_score(truth, (rows @ head.weight.T + head.bias).argmax(axis=1))
    assert report(tmp_path)["train"]["accuracy"] == pytest.approx(expected)
    assert "train: the head was fitted on these rows" in capsys.readouterr().err
    assert "the head was fitted on these rows" in (tmp_path / "evaluation.md").read_text()


@pytest.mark.parametrize("same", [True, False])
def test_another_table_is_measured_with_the_stored_temperature(
    same: bool, evaluate: Command, table: Fitted, checkpoint: Path, model: EmotionCLIP, tmp_path: Path
):
    """On the rows that chose it the temperature would look too good, but those of another table did not."""
    data = table.data
    if not same:
        lines = data.read_text().splitlines()
        data = data.with_name("other.csv")
        data.write_text("\n".join(line for line in lines if not line.startswith("p0.")) + "\n")
    argv = arguments("table", Fitted(data, table.out, {}), checkpoint, "--probe", table.out)
    assert evaluate.main([*argv, "--splits", "val", "train", "--out", str(tmp_path)]) == 0
    rows, truth = both("table", table, "val", model, "labels")
    expected = load_head(table.out, "probe")
    logits = rows @ expected.weight.T + expected.bias
    scaled = activate(logits, "sigmoid", expected.card.temperature)
    stored = calibration_error(confidences_of(scaled, truth), np.ones((1, len(rows))))[0]
    found = report(tmp_path)
    assert (found["val_labels"]["ece"] == pytest.approx(stored, abs=1e-6)) == (not same)
    notes = json.dumps(found["notes"])
    assert ("with the temperature of the other half" in notes) == same
    assert ("the head was fitted on these rows" in notes) == same


def test_an_evaluation_leaves_the_plots_of_fit_probe_as_they_are(
    evaluate: Command, meld: Fitted, checkpoint: Path, tmp_path: Path
):
    out = shutil.copytree(meld.out, tmp_path / "probe")
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    options = ("--probe", out, "--splits", "train", "test", "--out", out)
    assert evaluate.main(arguments("meld", meld, checkpoint, *options)) == 0
    assert {name: (out / name).read_bytes() for name in before} == before
    assert "evaluation_confusion_train.png" in (out / "evaluation.md").read_text()


def test_heads_on_image_features_are_measured_on_these(
    evaluate: Command, emotic: Fitted, checkpoint: Path, tmp_path: Path
):
    argv = arguments("emotic", emotic, checkpoint, "--probe", emotic.out, "--out", tmp_path)
    assert evaluate.main(argv) == 0
    assert report(tmp_path)["test_vad"] == emotic.report["test_vad"]
    assert report(tmp_path)["test_categories"]["map"] == emotic.report["test_categories"]["map"]


def prompts_bank(model: EmotionCLIP, phrases: dict[str, tuple[str, ...]], names: list[str]) -> np.ndarray:
    rows = []
    for name in names:
        texts = [template.format(phrase) for phrase in phrases[name] for template in TEMPLATES]
        with torch.no_grad():
            rows.append(F.normalize(F.normalize(model.encode_text(tokenize(texts)), dim=1).mean(0), dim=0))
    return torch.stack(rows).numpy()


def test_single_labels_from_text(
    evaluate: Command, meld: Fitted, checkpoint: Path, model: EmotionCLIP, tmp_path: Path
):
    argv = arguments("meld", meld, checkpoint, "--zero-shot", "--splits", "test", "--out", tmp_path)
    assert evaluate.main([*argv, "--labels", "ekman"]) == 0  # where joy is happiness
    rows, truth = both("meld", meld, "test", model, "emotion")
    names = ["neutral", "surprise", "fear", "sadness", "happiness", "disgust", "anger"]
    predictions = (rows @ prompts_bank(model, EKMAN_PHRASES, names).T).argmax(axis=1)
    metrics = report(tmp_path, "zero_shot_evaluation")["zero_shot_test"]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, predictions))
    bank = load_head(tmp_path, "zero_shot")
    assert bank.card.labels == ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
    assert bank.card.metrics["zero_shot_test_accuracy"] == metrics["accuracy"]
    assert bank.card.dataset == "meld"


def test_several_labels_from_text(
    evaluate: Command, bold: Fitted, checkpoint: Path, model: EmotionCLIP, tmp_path: Path
):
    options = ("--zero-shot", "--labels", "bold", "--out", tmp_path)
    assert evaluate.main(arguments("bold", bold, checkpoint, *options)) == 0
    data = load_dataset("bold", bold.data, "val")
    rows, truth = features(model, data), targets(data, "categories")
    names = list(data.tasks[0].labels)
    logits = rows @ prompts_bank(model, CATEGORY_PHRASES, names).T / 0.07
    shares = torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
    metrics = report(tmp_path, "zero_shot_evaluation")["zero_shot_val_categories"]
    for name in ("peace", "affection", "esteem"):
        number = names.index(name)
        expected = average_precision_score(truth[:, number], shares[:, number])
        assert metrics[f"ap_{name}"] == pytest.approx(expected)
    assert "ece" not in metrics  # shares of a softmax do not promise several labels


def test_a_saved_bank_is_measured_again(evaluate: Command, meld: Fitted, checkpoint: Path, tmp_path: Path):
    made, again = tmp_path / "made", tmp_path / "again"
    options = ("--zero-shot", "--splits", "test", "--out")
    assert evaluate.main(arguments("meld", meld, checkpoint, *options, made)) == 0
    assert evaluate.main(arguments("meld", meld, checkpoint, *options, again, "--probe", made)) == 0
    first, second = (report(folder, "zero_shot_evaluation") for folder in (made, again))
    assert first["zero_shot_test"] == second["zero_shot_test"]
    assert not (again / "zero_shot.json").exists()


def test_a_bank_of_ones_own_labels_needs_no_data(evaluate: Command, checkpoint: Path, tmp_path: Path):
    moods = tmp_path / "moods.txt"
    moods.write_text("focused: absorbed\nbored\n")
    out = tmp_path / "bank"
    argv = ["--zero-shot", "--labels", str(moods), "--checkpoint", str(checkpoint), "--out", str(out)]
    assert evaluate.main(argv) == 0
    card = load_head(out, "zero_shot").card
    assert (card.labels, card.metrics, card.dataset) == (["focused", "bored"], {}, None)


@pytest.fixture(scope="module")
def other_checkpoint(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of another text tower and other features."""
    state = load_checkpoint(checkpoint)
    weights = {name: tensor + 0.01 for name, tensor in state["model"].items()}
    path = tmp_path_factory.mktemp("other") / "other.pt"
    save_checkpoint(path, config=state["config"], state={"model": weights})
    return path


def mistake(evaluate: Command, capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    assert evaluate.main(argv) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    return line


def test_a_head_of_another_checkpoint_is_refused(
    evaluate: Command, meld: Fitted, other_checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    line = mistake(evaluate, capsys, arguments("meld", meld, other_checkpoint, "--probe", meld.out))
    assert "was fitted on video features of checkpoint" in line
    assert "use its own checkpoint, or fit again" in line


def test_a_bank_of_another_tower_is_refused(
    evaluate: Command,
    meld: Fitted,
    checkpoint: Path,
    other_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    argv = ["--zero-shot", "--labels", "ekman", "--checkpoint", str(checkpoint), "--out", str(tmp_path)]
    assert evaluate.main(argv) == 0
    argv = arguments("meld", meld, other_checkpoint, "--zero-shot", "--probe", tmp_path)
    assert "the zero-shot head comes from text tower" in mistake(evaluate, capsys, argv)


def test_a_head_of_other_labels_is_refused(
    evaluate: Command, meld: Fitted, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = Path(shutil.copytree(meld.out, tmp_path / "probe"))
    card = json.loads((folder / "probe.json").read_text())
    card["labels"] = card["labels"][::-1]
    (folder / "probe.json").write_bytes(msgspec.json.encode(card))
    line = mistake(evaluate, capsys, arguments("meld", meld, checkpoint, "--probe", folder))
    assert "the head has the labels anger, disgust, joy" in line
    assert "in its order" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to measure: give --probe DIR, --zero-shot, or both"),
        (
            ["--probe", "nowhere"],
            "nowhere has no head for meld: expected probe written by emotion-train fit-probe",
        ),
        (["--probe", "nowhere", "--labels", "ekman"], "--labels names the classes of a new zero-shot head"),
        (["--zero-shot", "--labels", "moods"], "no label set 'moods': expected ekman or bold"),
        (
            ["--zero-shot", "--labels", "bold"],
            "missing disgust, neutral; unknown affection, annoyance",
        ),
        (["--zero-shot", "--probe", "nowhere"], "no head 'zero_shot' in nowhere"),
        (["--zero-shot", "--splits", "val"], "meld has no split 'val'"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str],
    message: str,
    evaluate: Command,
    meld: Fitted,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert message in mistake(evaluate, capsys, arguments("meld", meld, checkpoint, *options))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--zero-shot", "--labels", "ekman"], "--dataset is missing"),
        (["--probe", "folder"], "--dataset is missing"),
        (["--zero-shot", "--dataset", "meld"], "--data is missing"),
    ],
)
def test_a_data_set_is_asked_for(
    argv: list[str], message: str, evaluate: Command, checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    assert message in mistake(evaluate, capsys, [*argv, "--checkpoint", str(checkpoint)])


def test_values_cannot_be_asked_for_in_words(
    evaluate: Command, liris: Fitted, checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    argv = arguments("liris", liris, checkpoint, "--zero-shot")
    assert "liris has only values to predict: zero-shot needs classes" in mistake(evaluate, capsys, argv)
