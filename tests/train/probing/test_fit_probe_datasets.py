"""emotion-train fit-probe on small copies of the data sets, against features and fits made another way."""

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from by_hand import Fitted, both, features, targets
from command import Command
from labelled_trees import SIZE, table_file
from scipy.stats import pearsonr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, r2_score

from emotion_train.checkpoint import model_from_checkpoint
from emotion_train.datasets import load_dataset
from emotion_train.heads import load_head
from emotion_train.model import EmotionCLIP
from emotion_train.probing.smoothing import smooth_films

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> EmotionCLIP:
    return model_from_checkpoint(checkpoint)


def test_meld_is_scikit_learns_on_the_models_features(meld: Fitted, model: EmotionCLIP):
    train, labels = both("meld", meld, "train", model, "emotion")
    classifier = LogisticRegression(C=8, solver="sag", max_iter=2000, random_state=2022).fit(train, labels)
    for split in ("dev", "test"):
        rows, truth = both("meld", meld, split, model, "emotion")
        predictions = classifier.predict(rows)
        metrics = meld.report[split]
        assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, predictions))
        assert metrics["weighted_f1"] == pytest.approx(f1_score(truth, predictions, average="weighted"))
        assert 0.4 < metrics["accuracy"] < 0.95  # or equality would show little
    head = load_head(meld.out, "probe")
    rows, truth = both("meld", meld, "test", model, "emotion")
    assert (rows @ head.weight.T + head.bias).argmax(axis=1).tolist() == classifier.predict(rows).tolist()
    assert head.card.metrics["test_accuracy"] == meld.report["test"]["accuracy"]
    assert (head.card.dataset, head.card.features, head.card.activation) == ("meld", "video", "softmax")
    assert meld.report["sizes"]["test"] == {"samples": 28, "groups": 14}


def test_bold_has_two_heads_and_names_what_it_could_not_learn(bold: Fitted, model: EmotionCLIP):
    train, vad = both("bold", bold, "train", model, "vad")
    rows, truth = both("bold", bold, "val", model, "vad")
    predictions = Ridge(alpha=1).fit(train, vad).predict(rows)
    expected = r2_score(truth, predictions, multioutput="uniform_average")
    assert bold.report["val_vad"]["r2"] == pytest.approx(expected, abs=1e-4)
    assert bold.report["val_vad"]["r2_valence"] > 0.5
    affect = load_head(bold.out, "affect")
    np.testing.assert_allclose(rows @ affect.weight.T + affect.bias, predictions, atol=1e-4)
    assert (affect.card.activation, affect.card.temperature) == ("identity", 1)
    assert affect.card.labels == ["valence", "arousal", "dominance"]
    metrics, notes = bold.report["val_categories"], bold.report["notes"]["val_categories"]
    assert metrics["ap_pain"] == pytest.approx(1 / 24)  # one of 24, and every score is the same
    assert metrics["auc_pain"] == 0.5
    assert metrics["ap_fear"] is None
    four = [metrics[f"ap_{name}"] for name in ("peace", "affection", "esteem", "pain")]
    assert metrics["map"] == pytest.approx(np.mean(four))
    assert any("pain" in note and "its prediction is constant" in note for note in notes)
    assert any("left out of the means over classes: anticipation, " in note for note in notes)
    assert bold.report["spread"]["val_categories"]["map"]["mean"] == pytest.approx(metrics["map"], abs=0.01)
    assert bold.report["about"]["seeds"] == [2022, 2023]
    assert load_head(bold.out, "probe").card.activation == "sigmoid"


def test_emotic_is_probed_on_image_features_of_its_own_size(emotic: Fitted, model: EmotionCLIP):
    own = model.config.preprocess
    spec = msgspec.structs.replace(own, short_side=own.size)
    train = load_dataset("emotic", emotic.data, "train")
    test = load_dataset("emotic", emotic.data, "test")
    rows, truth = features(model, test, spec=spec), targets(test, "categories")
    ap = []
    for number in range(3):
        classifier = LogisticRegression(C=2.5, solver="sag", max_iter=2000, random_state=2022)
        classifier.fit(features(model, train, spec=spec), targets(train, "categories")[:, number])
        ap.append(average_precision_score(truth[:, number], classifier.decision_function(rows)))
    names = train.tasks[0].labels
    found = [emotic.report["test_categories"][f"ap_{name}"] for name in names[:3]]
    assert found == pytest.approx(ap, abs=1e-6)
    assert load_head(emotic.out, "probe").card.features == "image"


def test_liris_is_scored_smoothed_as_one_series_film_by_film_and_without(liris: Fitted, model: EmotionCLIP):
    train, values = both("liris", liris, "train", model, "va")
    data = load_dataset("liris", liris.data, "test")
    rows, truth = features(model, data), targets(data, "va")
    predictions = Ridge(alpha=1).fit(train, values).predict(rows)
    films = [sample.group for sample in data.samples]
    assert films == ["Long"] * 130 + ["Short"] * 40
    by_film = smooth_films(predictions, films)[0]
    series = smooth_films(predictions, ["all"] * len(films))[0]
    for name, scored in (("test", series), ("test_by_film", by_film), ("test_unsmoothed", predictions)):
        metrics = liris.report[name]
        for number, value in enumerate(("valence", "arousal")):
            error = ((scored - truth)[:, number] ** 2).mean()
            assert metrics[f"mse_{value}"] == pytest.approx(error, rel=1e-4)
            correlation = pearsonr(scored[:, number], truth[:, number])[0]
            assert metrics[f"pcc_{value}"] == pytest.approx(correlation, abs=1e-4)
    assert len({liris.report[name]["mse"] for name in ("test", "test_by_film", "test_unsmoothed")}) == 3
    assert "not smoothed, since shorter than the window: Short" in liris.report["notes"]["test_by_film"]
    assert "intervals over only 2 groups are too narrow to be reliable" in liris.report["notes"]["test"]


def test_ones_own_table_is_tuned_on_its_val_split(table: Fitted, model: EmotionCLIP):
    assert table.report["about"]["c"]["labels"] in (1, 30)
    rows, truth = both("table", table, "test", model, "labels")
    head = load_head(table.out, "probe")
    scores = rows @ head.weight.T + head.bias
    assert head.card.labels == ["red", "dark"]
    assert table.report["test_labels"]["map"] == pytest.approx(average_precision_score(truth, scores))
    assert load_head(table.out, "affect").card.labels == ["valence", "arousal"]
    assert table.report["support"]["test_labels"] == dict(
        zip(("red", "dark"), truth.sum(axis=0).astype(int).tolist(), strict=True)
    )


def test_the_report_is_whole(meld: Fitted, bold: Fitted, liris: Fitted):
    files = {path.name for path in meld.out.iterdir()}
    assert files == {
        "report.json",
        "report.md",
        "probe.json",
        "probe.safetensors",
        *(f"{kind}_{split}.png" for kind in ("confusion", "reliability") for split in ("dev", "test")),
    }
    text = (meld.out / "report.md").read_text()
    for part in ("![confusion_test.png](confusion_test.png)", "Table 4", "| M2FNet (Visual) ", "48.28 %"):
        assert part in text
    own = next(line for line in text.splitlines() if line.startswith("| **this checkpoint**"))
    assert f"**{100 * meld.report['test']['accuracy']:.2f} %**" in own
    # Every metric of the report stands within its interval, and every split within its per-class table.
    low, high = meld.report["intervals"]["test"]["accuracy"]
    assert low <= meld.report["test"]["accuracy"] <= high
    assert sum(meld.report["support"]["test"].values()) == 28
    assert "own row of Table 4e is missing" in (liris.out / "report.md").read_text()
    assert "± " in (bold.out / "report.md").read_text()
    paper = next(row for row in bold.report["published"] if row["method"].startswith("EmotionCLIP"))
    assert (paper["val_categories_map"], paper["val_vad_r2"]) == pytest.approx((0.2251, 0.133))


def test_a_second_probe_reads_no_image(
    fit: Callable[..., Fitted], meld: Fitted, monkeypatch: pytest.MonkeyPatch
):
    def look(*_: object) -> None:
        raise AssertionError("an image was read")

    monkeypatch.setattr("emotion_train.probing.samples.prepare_sample", look)
    again = fit("meld", meld.data)
    assert again.report == meld.report


def test_an_image_that_cannot_be_read_is_counted(
    fit: Callable[..., Fitted], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = table_file(tmp_path, labels="one")
    corrupt = tmp_path / "p3.jpg"  # of val; the reader of the table looks at its header only
    corrupt.write_bytes(corrupt.read_bytes()[: corrupt.stat().st_size // 2])
    found = fit("table", file, "--workers", "1")
    assert found.report["skipped"]["val"] == {"image cannot be read": 1}
    assert found.report["sizes"]["val_label"]["samples"] == 17
    assert (
        "table val: 1 samples left out because an image cannot be read; first error: "
        in capsys.readouterr().err
    )
    assert re.search(r"\| val +\| image cannot be read +\| 1 +\|", (found.out / "report.md").read_text())
    assert load_head(found.out, "probe").card.labels == ["dim", "red"]


def test_images_have_the_size_that_boxes_assume(meld: Fitted):
    sample = load_dataset("meld", meld.data, "test").samples[0]
    assert sample.images[0].boxes == ((20.0, 10.0, 60.0, 50.0),)
    assert SIZE == (80, 60)


@pytest.fixture
def usual(table: Fitted, checkpoint: Path, tmp_path: Path) -> list[str]:
    argv = ["--dataset", "table", "--data", str(table.data), "--checkpoint", str(checkpoint)]
    return [*argv, "--out", str(tmp_path / "out")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "aff-wild"], "unknown data set 'aff-wild': choose one of bold, moviegraphs, meld"),
        (["--dataset", "meld"], "does not exist"),
        (["--splits", "test", "tset"], "no row of split 'tset' (it has test, train, val)"),
        (["--checkpoint", "nowhere.pt"], "checkpoint nowhere.pt: no such file"),
        (["--c", "0"], "--c 0.0: expected finite numbers above 0"),
        (["--seeds", "0"], "--seeds 0: expected 1 or more"),
        (["--resamples", "0"], "--resamples 0: expected 1 or more"),
        (["--workers", "-1"], "--workers -1: expected 0 or more"),
        (["--device", "cuda:7"], "--device cuda:7 cannot be used"),
        (["--device", "gpu"], "--device gpu cannot be used"),
        (["--features", "sound"], "invalid choice: 'sound'"),
        (["--label-columns", "mood"], "no column mood"),
        (["--colour"], "unrecognized arguments: --colour; see emotion-train fit-probe --help"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str],
    message: str,
    fit_probe: Command,
    usual: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert fit_probe.main([*usual, *options]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_table_of_one_class_is_one_line(
    fit_probe: Command, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = table_file(tmp_path, labels="one")
    file.write_text(file.read_text().replace(",dim,", ",red,"))
    argv = ["--dataset", "table", "--data", str(file), "--checkpoint", str(checkpoint)]
    assert fit_probe.main([*argv, "--out", str(tmp_path / "out")]) == 2
    assert (
        "train holds a single class of label, red: expected rows of at least two" in capsys.readouterr().err
    )


def test_a_split_that_is_missing_is_noticed_before_any_is_encoded(
    fit_probe: Command, usual: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    kept = tmp_path / "features"
    assert fit_probe.main([*usual, "--splits", "test", "later", "--cache", str(kept)]) == 2
    assert "no row of split 'later'" in capsys.readouterr().err
    assert not kept.exists()
