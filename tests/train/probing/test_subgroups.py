"""Accuracy by columns of a table: who is counted where, and what the report says about small groups."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_runtime.types import Person
from emotion_train import cli
from emotion_train.language.labels import EKMAN
from emotion_train.probing import subgroup_rows
from emotion_train.probing.subgroups import Rows, measure_groups, page
from emotion_train.scenes.faces import load_faces
from emotion_train.scenes.sets import rendered_clips

NAMES = ("calm", "happy")


def rows_of(labels: list[int], predicted: list[int | None], **columns: list[str]) -> Rows:
    probabilities = np.full((len(labels), 2), np.nan)
    for row, each in zip(probabilities, predicted, strict=True):
        if each is not None:
            row[:] = (0.9, 0.1) if each == 0 else (0.1, 0.9)
    return Rows(
        NAMES,
        np.array(labels),
        probabilities,
        np.array([each is not None for each in predicted]),
        tuple(map(str, range(len(labels)))),
        {name: tuple(values) for name, values in columns.items()},
    )


# --- metrics


def test_metrics_of_each_value_are_those_of_its_rows():
    rows = rows_of(
        [0, 0, 1, 1, 0, 1], [0, 1, 1, 1, None, 0], light=["day", "day", "day", "day", "night", "night"]
    )
    everyone, day, night = measure_groups(rows, resamples=0, seed=0)
    assert (everyone.value, everyone.rows, day.rows, night.rows) == ("all", 6, 4, 2)
    assert everyone.metrics["accuracy"] == pytest.approx(3 / 5, abs=1e-4)
    assert day.metrics["accuracy"] == 0.75
    assert day.metrics["balanced_accuracy"] == 0.75
    assert night.metrics == {
        "found": 0.5,
        "not_sure": 0.5,
        "accuracy": 0.0,
        "balanced_accuracy": 0.0,
        "ece": 0.9,
        "difference": -0.75,
    }
    assert day.metrics["difference"] == 0.75


def test_a_value_of_which_nobody_was_found_has_no_accuracy():
    rows = rows_of([0, 1], [None, 1], place=["far", "near"])
    _, far, _ = measure_groups(rows, resamples=20, seed=0)
    assert far.metrics == {"found": 0.0, "not_sure": 1.0}


def test_intervals_contain_the_value_and_resample_groups():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200).tolist()
    predicted = [label if rng.random() < 0.8 else 1 - label for label in labels]
    values = ["a" if rng.random() < 0.5 else "b" for _ in labels]
    alone = rows_of(labels, predicted, x=values)
    (result, *_) = measure_groups(alone, resamples=500, seed=1)
    low, high = result.intervals["accuracy"]
    assert low < result.metrics["accuracy"] < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 200), rel=0.25)
    grouped = Rows(
        NAMES,
        alone.labels,
        alone.probabilities,
        alone.shown,
        tuple(str(i // 10) for i in range(200)),
        alone.columns,
    )
    (clustered, *_) = measure_groups(grouped, resamples=500, seed=1)
    assert (clustered.rows, clustered.clusters) == (200, 20)


def test_small_groups_are_flagged_by_rows_and_by_clusters():
    rows = rows_of([0] * 60, [0] * 60, x=["many"] * 40 + ["few"] * 20)
    by_value = {result.value: result.few for result in measure_groups(rows, resamples=0, seed=0)}
    assert by_value == {"all": False, "few": True, "many": False}
    one_person = Rows(
        NAMES, rows.labels, rows.probabilities, rows.shown, ("anna",) * 60, {"x": ("many",) * 60}
    )
    assert all(result.few for result in measure_groups(one_person, resamples=0, seed=0))


def test_the_report_says_what_it_cannot_show():
    rows = rows_of([0, 1], [0, 1], x=["a", "b|c"])
    text = page(measure_groups(rows, resamples=10, seed=0), rows, bundle="nano", table="people.csv")
    assert "It does not show **why**" in text
    assert "b\\|c" in text
    assert text.count("| few") == 3


# --- the table


class _Runtime:
    """Finds nobody in a black image, else a person on the left and one on the right."""

    labels = EKMAN

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> "_Runtime":  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def look(self, image: NDArray[np.uint8]) -> list[Person]:
        if not image.any():
            return []
        emotions = [dict.fromkeys(EKMAN, 0.05) | {name: 0.7} for name in ("happiness", "anger")]
        boxes = [(0.0, 0.0, 20.0, 20.0), (60.0, 0.0, 90.0, 30.0)]
        return [
            Person(id=i, box=box, score=1.0, state="photo", top=None, emotions=raw, raw=raw)
            for i, (box, raw) in enumerate(zip(boxes, emotions, strict=True))
        ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(subgroup_rows, "EmotionRuntime", _Runtime)
    cv2.imwrite(str(tmp_path / "people.png"), np.full((40, 100, 3), 255, np.uint8))
    cv2.imwrite(str(tmp_path / "nobody.png"), np.zeros((40, 100, 3), np.uint8))
    return tmp_path


def run(folder: Path, table: str, *options: str) -> dict[str, Any]:
    (folder / "t.csv").write_text(table)
    command = ["subgroups", "--data", str(folder / "t.csv"), "--out", str(folder / "out"), "--resamples", "9"]
    assert cli.main([*command, *options]) == 0
    result: dict[str, Any] = json.loads((folder / "out" / "subgroups.json").read_text())
    return result


def test_a_box_says_who_is_meant_and_without_one_it_is_the_largest(folder: Path):
    table = (
        "path,label,x1,y1,x2,y2,who\n"
        "people.png,happy,0,0,25,25,left\n"
        "people.png,anger,,,,,largest\n"
        "people.png,anger,55,0,95,40,right\n"
        "people.png,anger,30,0,50,20,between\n"
        "nobody.png,anger,,,,,none\n"
    )
    result = run(folder, table, "--columns", "who")
    found = {each["value"]: each["metrics"] for each in result["results"]}
    for value in ("left", "largest", "right"):
        assert found[value]["accuracy"] == 1.0
    assert found["between"]["found"] == found["none"]["found"] == 0.0


def test_rows_that_cannot_be_used_are_counted(folder: Path):
    table = (
        "path,label,light\n"
        "people.png,anger,day\npeople.png,bored,day\npeople.png,,day\nmissing.png,anger,day\n,anger,\n"
    )
    result = run(folder, table, "--columns", "light")
    assert result["skipped"] == {
        "label is not one of the head": 1,
        "no label": 1,
        "no file at the path": 1,
        "no path": 1,
    }
    assert result["results"][0]["rows"] == 1


def test_an_empty_cell_is_a_value_of_its_own(folder: Path):
    result = run(folder, "path,label,light\npeople.png,anger,\npeople.png,anger,day\n", "--columns", "light")
    assert [each["value"] for each in result["results"]] == ["all", "(empty)", "day"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path,label\npeople.png,anger\n", "no column light"),
        (
            "path,label,light\npeople.png,bored,day\n",
            "no row is usable (label is not one of the head: 1, such as bored)",
        ),
        ("path,label,light,x1,y1,x2,y2\npeople.png,anger,day,0,0,1,1\n", "multiply by width and height"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(
    folder: Path, table: str, message: str, capsys: pytest.CaptureFixture[str]
):
    (folder / "t.csv").write_text(table)
    options = ["--data", str(folder / "t.csv"), "--columns", "light", "--out", str(folder / "out")]
    assert cli.main(["subgroups", *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1]


@pytest.mark.slow
def test_faces_in_rendered_scenes_are_measured_by_their_columns(shared_data: Path, tmp_path: Path):
    faces = load_faces(shared_data / "data" / "fer2013_plus.npz", "val").by_majority()
    rows = np.flatnonzero(faces.clear & (faces.votes.max(axis=1) > 0.8))
    faces = faces.take(np.random.default_rng(1).permutation(rows)[:36])
    lines = ["path,label,group,light"]
    for index, clip in enumerate(rendered_clips(faces, (1,), frames=1, seed=3)):
        dark = index % 2 == 1
        image = (clip.frames[0] * (0.35 if dark else 1.0)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.png"), image[..., ::-1])
        label = EKMAN[int(faces.labels[clip.scene.people[0].face])]
        lines.append(f"{index}.png,{label},person {index // 2},{'dark' if dark else 'bright'}")
    (tmp_path / "faces.csv").write_text("\n".join(lines) + "\n")
    options = ["--data", str(tmp_path / "faces.csv"), "--columns", "light", "--out", str(tmp_path / "out")]
    assert cli.main(["subgroups", *options, "--resamples", "100"]) == 0
    everyone, bright, dark = json.loads((tmp_path / "out" / "subgroups.json").read_text())["results"]
    assert (everyone["rows"], bright["rows"], dark["rows"]) == (36, 18, 18)
    assert everyone["clusters"] == 18
    assert bright["metrics"]["found"] > 0.7
    assert everyone["metrics"]["accuracy"] > 0.6
    assert bright["few"]
    assert dark["few"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "-1"], "--seed -1: expected 0 or more"),
        (["--out", __file__], "there is a file of this name; give another folder"),
    ],
)
def test_mistakes_are_found_before_the_table_is_read(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Predicting its rows can take hours; here it does not exist, which is found after these."""
    command = ["subgroups", "--data", "nowhere.csv", "--columns", "age", "--out", str(tmp_path / "out")]
    assert cli.main([*command, *options]) == 2
    assert message in capsys.readouterr().err
