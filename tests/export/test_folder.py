"""Where a bundle may be written: over one of its own name, and over nothing else."""

import json
from pathlib import Path

import pytest

from emotion_export.folder import check_destination
from emotion_runtime.errors import EmotionError


def test_a_bundle_of_another_name_is_not_replaced(tmp_path: Path):
    check_destination(tmp_path, "mine")
    (tmp_path / "bundle.json").write_text(json.dumps({"name": "mine"}))
    (tmp_path / "probe.safetensors").touch()
    check_destination(tmp_path, "mine")
    with pytest.raises(EmotionError, match="contains the bundle 'mine', which 'nano' would replace"):
        check_destination(tmp_path, "nano")


@pytest.mark.parametrize("content", ["", "{}", "[1]", "no JSON"])
def test_a_bundle_that_cannot_be_read_may_be_replaced(tmp_path: Path, content: str):
    (tmp_path / "bundle.json").write_text(content)
    check_destination(tmp_path, "mine")


def test_other_files_are_not_lost(tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(EmotionError, match=r"do not belong to a bundle \(thesis.tex\) and would be lost"):
        check_destination(tmp_path, "mine")
    with pytest.raises(EmotionError, match="is a file"):
        check_destination(tmp_path / "thesis.tex", "mine")
