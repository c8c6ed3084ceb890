"""Reports for readers and machines, and the paper's own numbers beside ours."""

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from feature_sets import MULTI, NAMES, SINGLE, VALUES, blobs

from emotion_runtime.errors import EmotionError
from emotion_train.datasets.base import Task
from emotion_train.probing.fit import fit_task
from emotion_train.probing.measure import HeadResult, MeasureOptions, measure
from emotion_train.probing.plots import confusion_png
from emotion_train.probing.protocol import PROTOCOLS
from emotion_train.probing.published import published
from emotion_train.probing.report import ProbeReport, as_markdown, summary_lines, write_report

TEST = blobs(80, noise=0.6, name="test", seed=2)


def measured(task: Task) -> HeadResult:
    train, val = blobs(80, noise=0.6), blobs(80, noise=0.6, name="val", seed=1)
    targets = {task.name: TEST.targets[task.name].copy()}
    if task is MULTI:
        targets[task.name][:, NAMES.index("joy")] = 0
    part = replace(TEST, targets=targets)
    head = fit_task(task, train, val, grid=(1.0,), seed=0)
    (result,) = measure(head, part, f"test_{task.name}", MeasureOptions(0, 100))
    return result


@pytest.fixture(scope="module")
def report() -> ProbeReport:
    pairs = ({"pairs": 12.0, "changed": 0.25}, {"changed": (0.1, 0.5)})
    results = [measured(task) for task in (SINGLE, MULTI, VALUES)]
    return ProbeReport(
        "table", {"checkpoint": "x.pt"}, results, {"test": {"no label": 3}}, {"pairs": pairs}, {}
    )


def cells(text: str, *first: str) -> list[str]:
    """Return the row of a table that begins with some cells."""
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines()]
    return next(row for row in rows if tuple(row[: len(first)]) == first)


def test_readers_see_metrics_with_intervals(report: ProbeReport):
    text = as_markdown(report, {})
    single = report.measured[0]
    low, high = single.intervals["accuracy"]
    assert cells(text, "accuracy") == [
        "accuracy",
        f"{100 * single.metrics['accuracy']:.2f} %",
        f"{100 * low:.2f} to {100 * high:.2f}",
    ]
    assert cells(text, "calm")[:3] == ["calm", "20", f"{100 * single.metrics['recall_calm']:.2f} %"]
    assert cells(text, "R², mean")[1] == f"{report.measured[2].metrics['r2']:.3f}"
    assert cells(text, "joy", "0") == ["joy", "0", "n/a", "n/a", "n/a", "n/a"]
    assert cells(text, "changed") == ["changed", "25.00 %", "10.00 to 50.00"]
    assert cells(text, "pairs") == ["pairs", "12", "n/a"]
    assert cells(text, "test", "no label") == ["test", "no label", "3"]
    assert "left out of the means over classes: joy" in text


def test_machines_get_null_for_what_is_not_defined(report: ProbeReport, tmp_path: Path):
    write_report(tmp_path, report)
    found = json.loads((tmp_path / "report.json").read_text())
    several = report.measured[1]
    assert found["test_emotions"]["ap_joy"] is None
    assert found["intervals"]["test_emotions"]["ap_joy"] == [None, None]
    assert found["test_emotions"]["map"] == several.metrics["map"]
    assert found["support"]["test_emotions"]["joy"] == 0
    assert found["pairs"] == {"pairs": 12, "changed": 0.25}
    assert found["skipped"] == {"test": {"no label": 3}}
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {
        "confusion_test_emotion.png",
        "reliability_test_emotion.png",
        "reliability_test_emotions.png",
        "regression_test_vad.png",
    }
    for name in names:
        assert name in (tmp_path / "report.md").read_text()
        picture = cv2.imread(str(tmp_path / name))
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 5  # something is drawn


def test_a_dark_diagonal_is_drawn_where_predictions_are_right():
    labels = np.arange(40) % 4

    def slope(predictions: np.ndarray) -> float:
        """Correlation of x and y over the cells that are full."""
        content = np.frombuffer(confusion_png(NAMES, predictions, labels, "t"), np.uint8)
        blue, _, red = np.moveaxis(cv2.imdecode(content, cv2.IMREAD_COLOR).astype(int), 2, 0)
        full = (red < 40) & (blue > 90)
        full[:, int(0.78 * full.shape[1]) :] = False  # the colour bar
        y, x = np.nonzero(full)
        assert len(x) > 5000
        return float(np.corrcoef(x, y)[0, 1])

    assert slope(labels) > 0.9
    assert slope((labels + 1) % 4) < 0
    assert slope(3 - labels) < -0.9


def test_a_label_does_not_break_its_table(report: ProbeReport):
    single = report.measured[0]
    task = replace(single.task, labels=("a|b", *NAMES[1:]))
    metrics = {key.replace("_anger", "_a|b"): value for key, value in single.metrics.items()}
    odd = replace(single, task=task, metrics=metrics)
    text = as_markdown(replace(report, measured=[odd]), {})
    assert cells(text, r"a\|b")[1] == "20"


def test_the_screen_has_one_line_a_set(report: ProbeReport):
    lines = summary_lines(report)
    assert [line.split()[0] for line in lines] == ["test_emotion", "test_emotions", "test_vad", "pairs"]
    assert "accuracy" in lines[0]
    assert "map" in lines[1]


def test_a_report_that_cannot_be_written(report: ProbeReport, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmotionError, match="cannot be written"):
        write_report(tmp_path / "file", report)


def paper_rows(shared_data: Path) -> dict[str, list[str]]:
    """Table 4 of the paper's text, as a list of cells by the name that stands in front of them."""
    (paper,) = (shared_data / "paper").glob("*.txt")
    text = paper.read_text()
    table = text[text.index("(a) BoLD [45]") : text.index("Table 4. Comparisons")]
    found: dict[str, list[str]] = {}
    for line in re.sub(r"</?[bi]>", "", table).splitlines():
        row = [cell.strip() for cell in line.split("\t")]
        for place, cell in enumerate(row):
            name = re.sub(r"\[\d+\]", "", cell).strip(" *")
            found.setdefault(name, []).extend(row[place + 1 : place + 4])
    return found


@pytest.mark.parametrize("dataset", ["bold", "moviegraphs", "meld", "emotic", "liris"])
def test_the_papers_numbers_are_the_papers(dataset: str, shared_data: Path):
    rows = paper_rows(shared_data)
    assert len(published(dataset)) >= 5
    for row in published(dataset):
        name = "EmotionCLIP" if row.method.startswith("EmotionCLIP") else row.method
        printed = [float(cell) for cell in rows[name] if re.fullmatch(r"-?[\d.]+", cell)]
        for (_, metric), value in row.metrics.items():
            shown = value * (1 if metric in ("r2", "mse_valence", "mse_arousal") else 100)
            assert any(abs(shown - number) < 1e-9 for number in printed), (row.method, metric, printed)
    assert PROTOCOLS[dataset]


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("bold", {"map": 22.51, "auc": 69.30, "r2": 0.133}),
        ("moviegraphs", {"val": 41.60, "test": 32.35}),
        ("meld", {"accuracy": 48.28, "weighted_f1": 34.59}),
        ("emotic", {"map": 32.91, "auc": 71.41}),
    ],
)
def test_the_papers_own_rows(dataset: str, expected: dict[str, float]):
    """The facts file's column `paper`."""
    (own,) = [row for row in published(dataset) if row.method.startswith("EmotionCLIP")]
    found = {
        name if dataset == "moviegraphs" else metric: value * (1 if metric == "r2" else 100)
        for (name, metric), value in own.metrics.items()
    }
    assert found == pytest.approx(expected)
