"""The figures of the paper from checkpoints, through `emotion-train figures`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Command
from made_shards import write_set
from PIL import Image
from small_model import build
from tiny_run import CLIPS, TINY, write_table

from emotion_train.checkpoint import load_checkpoint, save_checkpoint
from emotion_train.language.labels import EKMAN
from emotion_train.model import EmotionCLIP
from emotion_train.training.config_files import load_config, model_config
from emotion_train.training.parallel import World
from emotion_train.training.run import Run

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


SCENES = """
[scenes]
steps = 99
scenes_per_batch = 3
distinct_frames = [1]
sentence_confidence = 0.2
beta = {beta}
evaluate_every = {every}
"""


def write_config(path: Path, *sections: str) -> Path:
    path.write_text("".join((TINY, *sections)))
    return path


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A checkpoint of the sizes of `TINY`."""
    config = load_config(write_config(tmp_path / "sizes.toml", CLIPS.format(batch=8)))
    torch.manual_seed(5)
    return saved(EmotionCLIP(model_config(config.preset, config.model)), tmp_path / "start.pt")


def swept(out: Path) -> dict[float, dict[str, float]]:
    result = json.loads((out / "beta_sweep.json").read_text())
    assert Image.open(out / "beta_sweep.png").width > 300
    return {row["beta"]: row["figures"] for row in result["betas"]}


def test_a_sweep_over_scenes_is_a_pretraining_a_beta(
    figures: Command, tmp_path: Path, start: Path, small_data: Path
):
    out = tmp_path / "sweep"
    config = write_config(tmp_path / "run.toml", SCENES.format(beta=7, every=0))
    argv = ["beta-sweep", "--checkpoint", str(start), "--config", str(config), "--data", str(small_data)]
    argv += ["--steps", "2", "--out", str(out), "--betas"]
    assert figures.main([*argv, "5", "0"]) == 0
    found = swept(out)
    assert list(found) == [0, 5]
    # pretrain.py itself, from the same weights at one of the betas.
    scenes = SCENES.format(beta=5, every=2).replace("steps = 99", "steps = 2")
    plain = load_config(write_config(tmp_path / "plain.toml", f'[start]\ncheckpoint = "{start}"\n', scenes))
    torch.manual_seed(plain.seed)
    sizes = model_config(plain.preset, plain.model)
    run = Run(plain, sizes, data=str(small_data), out=tmp_path / "plain", world=World(), resume=False)
    run.train()
    last = json.loads((tmp_path / "plain" / "log.jsonl").read_text().splitlines()[-1])
    assert found[5] == {name: value for name, value in last.items() if name.startswith("val_")}
    # What is done is not done again; a beta may be added.
    done = {beta: (out / f"beta-{beta}" / "checkpoint.pt").stat().st_mtime_ns for beta in (0, 5)}
    assert figures.main([*argv, "0", "5", "0.5"]) == 0
    assert list(swept(out)) == [0, 0.5, 5]
    assert done == {beta: (out / f"beta-{beta}" / "checkpoint.pt").stat().st_mtime_ns for beta in (0, 5)}


def test_a_sweep_over_clips_is_probed_and_goes_on_after_a_kill(
    figures: Command, tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
):
    table, shards = write_table(tmp_path / "own"), write_set(tmp_path / "shards")
    probe = f'\n[probe]\ndataset = "table"\ndata = "{table}"\n'
    config = write_config(tmp_path / "run.toml", CLIPS.format(batch=8), probe)
    argv = ["beta-sweep", "--checkpoint", str(start), "--config", str(config), "--data", str(shards)]
    argv += ["--steps", "3", "--betas", "1", "--out"]  # of an epoch and a half
    assert figures.main([*argv, str(tmp_path / "whole")]) == 0
    assert swept(tmp_path / "whole")[1]["val_accuracy"] == 1.0  # dark and bright

    def killed(run: Run, **_: object) -> None:
        original(run, max_steps=2)
        raise KeyboardInterrupt

    original = Run.train
    monkeypatch.setattr(Run, "train", killed)
    assert figures.main([*argv, str(tmp_path / "killed")]) == 130
    monkeypatch.undo()
    assert not (tmp_path / "killed" / "beta-1" / "measured.json").exists()
    assert figures.main([*argv, str(tmp_path / "killed")]) == 0
    ends = [load_checkpoint(tmp_path / name / "beta-1" / "checkpoint.pt") for name in ("whole", "killed")]
    assert [end["step"] for end in ends] == [3, 3]
    for name, tensor in ends[0]["model"].items():
        assert torch.equal(ends[1]["model"][name], tensor), name
    assert swept(tmp_path / "killed") == swept(tmp_path / "whole")


def test_invalid_sweeps_are_refused(
    figures: Command, tmp_path: Path, start: Path, small_data: Path, capsys: pytest.CaptureFixture[str]
):
    scenes = write_config(tmp_path / "scenes.toml", SCENES.format(beta=1, every=0))
    clips = write_config(tmp_path / "clips.toml", CLIPS.format(batch=8))
    warm = write_config(tmp_path / "warm.toml", "[text_warmup]\nsteps = 1\n")

    def message(config: Path, *more: str, steps: str = "1", betas: tuple[str, ...] = ("0",)) -> str:
        argv = ["beta-sweep", "--checkpoint", str(start), "--config", str(config), "--data", str(small_data)]
        argv += ["--out", str(tmp_path / "out"), "--steps", steps, "--betas", *betas, *more]
        return error_of(figures, argv, capsys)

    assert "[clips] without [probe] in the config" in message(clips)
    assert "the config has no loss with a beta" in message(warm)
    assert "--steps 0: expected 1 or more" in message(scenes, steps="0")
    assert "--betas 0 -1: expected numbers of 0 or more" in message(scenes, betas=("0", "-1"))
    assert "--betas 1 1: expected different values" in message(scenes, betas=("1", "1.0"))
    assert "nothing.pt: no such file" in message(scenes, "--checkpoint", str(tmp_path / "nothing.pt"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.json").write_text(json.dumps({"steps": 4}))
    assert "contains a sweep with another checkpoint_sha256, steps, data, config" in message(scenes)
