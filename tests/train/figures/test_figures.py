"""The figures of the paper from checkpoints, through `emotion-train figures`."""

from pathlib import Path

import numpy as np
import pytest
from command import Command
from PIL import Image
from small_model import build

from emotion_train.checkpoint import save_checkpoint
from emotion_train.language.labels import EKMAN
from emotion_train.model import EmotionCLIP

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def figures() -> Command:
    """The command."""
    return Command("figures")


def saved(model: EmotionCLIP, path: Path) -> Path:
    save_checkpoint(path, config=model.config, state={"model": model.state_dict()})
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "people.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).save(path)
    return path


def error_of(figures: Command, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert figures.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("emotion-train figures: error: ")
    return line


def boxes_drawn(path: Path) -> int:
    """How many panels have the red box: runs of rows and of columns that hold its colour, multiplied."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    red = (abs(pixels - (255, 77, 77)) < 12).all(axis=2)
    total = 0
    for rows in _runs(red.any(axis=1)):
        total += len(_runs(red[rows].any(axis=0)))
    return total


def _runs(found: np.ndarray) -> list[slice]:
    """Where it is True without a pause of more than five pixels."""
    where = np.flatnonzero(found)
    cuts = np.flatnonzero(np.diff(where) > 5)
    firsts, lasts = [where[0], *where[cuts + 1]], [*where[cuts], where[-1]]
    return [slice(first, last + 1) for first, last in zip(firsts, lasts, strict=True)]


@pytest.mark.parametrize(
    ("subject", "heads", "panels"),
    # Three layers, four heads; beside each row the image itself; the last layer has no row of hmn.
    [("sap", False, 3 + 4), ("shared", False, 3 + 4), ("saam", True, 4 * (3 + 4))],
)
def test_attention_has_a_panel_a_layer(
    figures: Command, tmp_path: Path, picture: Path, subject: str, heads: bool, panels: int
):
    checkpoint = saved(build(subject), tmp_path / "checkpoint.pt")
    out = tmp_path / "new" / "attention.png"
    argv = ["attention", "--checkpoint", str(checkpoint), "--image", str(picture)]
    argv += ["--box", "30", "10", "60", "40", "--out", str(out), *(["--heads"] if heads else [])]
    assert figures.main(argv) == 0
    assert boxes_drawn(out) == panels


def test_attention_that_cannot_be_drawn(
    figures: Command, tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "attention.png"
    none = saved(build("none"), tmp_path / "none.pt")
    argv = ["attention", "--checkpoint", str(none), "--image", str(picture), "--out", str(out), "--box"]
    assert 'subject "none", so it has no hmn token' in error_of(
        figures, [*argv, "9", "9", "50", "50"], capsys
    )
    assert "expected x1 < x2" in error_of(figures, [*argv, "50", "9", "9", "50"], capsys)
    assert "expected 4 arguments" in error_of(figures, [*argv, "9", "9"], capsys)
    argv[4] = str(tmp_path / "missing.png")
    assert "no such file" in error_of(figures, [*argv, "9", "9", "50", "50"], capsys)
    argv[2] = str(tmp_path / "missing.pt")
    argv[4] = str(picture)
    assert "missing.pt: no such file" in error_of(figures, [*argv, "9", "9", "50", "50"], capsys)
    assert not out.exists()
    sap = saved(build("sap"), tmp_path / "sap.pt")
    argv = ["attention", "--checkpoint", str(sap), "--image", str(picture), "--box", "9", "9", "50", "50"]
    assert "choose another folder" in error_of(figures, [*argv, "--out", str(picture / "a.png")], capsys)


def test_the_table_of_reweighted_logits(
    figures: Command, tmp_path: Path, tiny_run: Path, small_data: Path, capsys: pytest.CaptureFixture[str]
):
    """Of scenes: every row names a sentence's feeling, and the loss never raises a logit."""
    out = tmp_path / "table.md"
    argv = ["reweighting", "--checkpoint", str(tiny_run / "checkpoint.pt"), "--data", str(small_data)]
    argv += ["--batch", "4", "--rows", "4", "--sentence-confidence", "0.2", "--beta", "1", "--out"]
    assert figures.main([*argv, str(out)]) == 0
    page = out.read_text()
    assert page in capsys.readouterr().out
    positive, *others = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in page.splitlines()
        if line.startswith("| ")
    ][1:]
    assert positive[0].endswith("**(positive sample)**")
    assert len(others) == 3
    for _, feeling, logit in others:
        assert feeling.split()[0] in EKMAN
        before, after = logit.split(" → ")
        assert after == "removed" or float(after) <= float(before)
    assert "seed 0" in page
    bad = [*argv[:-1], "--seed", "-1", "--out", str(out)]
    assert "--seed -1: expected 0 or more" in error_of(figures, bad, capsys)
    assert "beta -2.0: expected" in error_of(figures, [*argv, str(out), "--beta", "-2"], capsys)
    assert "--batch 0: expected" in error_of(figures, [*argv, str(out), "--batch", "0"], capsys)
