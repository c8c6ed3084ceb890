"""The folder of a run: one run at a time, none among what an earlier one left, and none that ends in vain."""

from collections.abc import Callable
from pathlib import Path

import pytest
from command import Command
from filelock import FileLock

pytestmark = pytest.mark.slow

CONFIG = """
preset = "tiny"
workers = 0
[text_warmup]
steps = 2
batch = 8
[stem_warmup]
steps = 1
batch = 8
size = 32
[scenes]
steps = 1
scenes_per_batch = 3
"""


@pytest.fixture
def call(pretrain: Command, small_data: Path, tmp_path: Path) -> Callable[..., int]:
    """Run emotion-train pretrain in this process."""

    def run(out: Path, *options: str, settings: str = "") -> int:
        config = tmp_path / "run.toml"
        config.write_text(f"{settings}\n{CONFIG}")
        argv = ["--config", str(config), "--data", str(small_data), "--out", str(out), *options]
        return pretrain.main(argv)

    return run


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on standard error."""
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_two_runs_in_one_folder(call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.jsonl").write_text("of the first run, which has not written a checkpoint yet\n")
    with FileLock(run / ".lock"):
        assert call(run, "--max-steps", "1") == 2
    assert f"{run}: another run is using this folder" in one_line(capsys)
    assert [path.name for path in sorted(run.iterdir())] == [".lock", "log.jsonl"]
    assert "of the first run" in (run / "log.jsonl").read_text()
    assert call(run, "--max-steps", "1") == 0  # the first one has ended
    assert call(run, "--max-steps", "1", "--resume") == 0


@pytest.mark.parametrize("resume", [(), ("--resume", "auto")])
def test_a_new_run_does_not_begin_among_the_checkpoints_of_an_earlier_one(
    resume: tuple[str, ...], call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.pt").touch()
    assert call(run, *resume) == 2
    assert f"{run} has best.pt of an earlier run" in one_line(capsys)
    if not resume:
        (run / "epoch-0025.pt").touch()
        assert call(run) == 2
        assert f"{run} has best.pt, epoch-0025.pt of an earlier run" in one_line(capsys)


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_again(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / "run"
    assert call(run, "--resume") == 2
    said = one_line(capsys)
    assert f"--resume: {run / 'checkpoint.pt'} does not exist: check --out, or start the run without" in said
    assert call(run, "--max-steps", "1", "--resume", "auto") == 0


def test_what_a_later_stage_refuses_is_refused_before_the_first(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert call(tmp_path / "run", settings="accumulate = 2") == 2
    assert "accumulate 2: the stem's BatchNorm would see only a part of the batch" in one_line(capsys)
    assert not (tmp_path / "run").exists()
