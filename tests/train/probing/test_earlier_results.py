"""What fit-probe does with the results of an earlier run in the same folder."""

from pathlib import Path

import pytest

from emotion_runtime.errors import EmotionError
from emotion_train.commands.fit_probe import main, remove_earlier


def test_heads_and_plots_of_an_earlier_run_are_removed_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    (tmp_path / "report.md").write_text("![Confusion](confusion_test.png)")
    ours = ["probe.safetensors", "probe.json", "affect.safetensors", "affect.json", "confusion_test.png"]
    others = ["report.md", "report.json", "holiday.png", "weights.safetensors", "notes.json"]
    for name in {*ours, *others} - {"report.md"}:
        (tmp_path / name).write_bytes(b"x")
    remove_earlier(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(others)
    assert caplog.messages == ["heads of an earlier run are removed: affect, probe"]
    remove_earlier(tmp_path / "new")  # a folder that does not exist yet


def test_a_bundle_that_cannot_be_replaced_is_refused_before_anything_is_read(tmp_path: Path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "confusion.png").touch()
    with pytest.raises(EmotionError, match=r"do not belong to a bundle \(confusion.png\)"):
        main(["--dataset", "table", "--data", "absent.csv", "--bundle", "nano", "--out", str(tmp_path)])
