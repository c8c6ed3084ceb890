"""A folder that fit-probe writes again contains the last run and the files of others, and nothing else."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from emotion_export.bundle import fitted_heads
from emotion_runtime.errors import EmotionError
from emotion_train.commands import fit_probe
from emotion_train.heads import HeadCard, LinearHead, save_head
from emotion_train.probing.earlier_run import remove_earlier_run

HEAD = LinearHead(
    np.eye(2, dtype=np.float32),
    np.zeros(2, np.float32),
    HeadCard("probe", ["a", "b"], "softmax", 1.0, {}, "ab" * 32),
)


def earlier_run(folder: Path, **listed: list[str]) -> None:
    """Write two heads and a plot, with a report that lists what is given."""
    for name in ("probe", "affect"):
        save_head(folder, name, HEAD)
    (folder / "confusion_val.png").write_bytes(b"")
    (folder / "report.md").write_text("")
    (folder / "report.json").write_bytes(msgspec.json.encode({"dataset": "table", "val": {}, **listed}))


def test_what_the_report_lists_is_removed_and_the_rest_is_kept(tmp_path: Path):
    earlier_run(tmp_path, heads=["probe", "affect"], plots=["confusion_val.png"])
    for name in ("notes.json", "confusion_mine.png", "zero_shot.safetensors"):
        (tmp_path / name).write_bytes(b"")
    remove_earlier_run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "confusion_mine.png",
        "notes.json",
        "zero_shot.safetensors",
    ]


def test_a_report_without_a_list_has_the_fitted_heads(tmp_path: Path):
    earlier_run(tmp_path)
    assert fitted_heads(tmp_path) == ["probe", "affect"]
    remove_earlier_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["confusion_val.png"]


def test_an_export_takes_the_heads_that_the_report_lists(tmp_path: Path):
    earlier_run(tmp_path, heads=["affect"])
    assert fitted_heads(tmp_path) == ["affect"]
    (tmp_path / "report.json").unlink()
    assert fitted_heads(tmp_path) == ["probe", "affect"]


def test_a_report_of_another_program_is_kept(tmp_path: Path):
    (tmp_path / "report.json").write_text('{"speed": 1}')
    with pytest.raises(EmotionError, match=r"report.json is not a report of emotion-train fit-probe"):
        remove_earlier_run(tmp_path)
    assert (tmp_path / "report.json").is_file()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("out/bundle/confusion.png", r"do not belong to a bundle of fit-probe \(confusion.png\)"),
        ("out", "is a file"),
        ("out/bundle", "is a file"),
    ],
)
def test_the_destination_is_checked_before_anything_is_read(file: str, words: str, tmp_path: Path):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    argv = ["--dataset", "table", "--data", "none.csv", "--bundle", "nano", "--out", str(tmp_path / "out")]
    with pytest.raises(EmotionError, match=words):
        fit_probe.main(argv)
