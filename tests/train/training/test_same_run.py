"""What may be edited between two parts of a run, and what makes it another run."""

import json
from pathlib import Path

import pytest
import torch
from command import Command
from made_shards import write_set
from tiny_run import CLIPS, TINY

from emotion_train.training.config_files import changed_settings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped run, beside its shards."""
    folder = tmp_path_factory.mktemp("same")
    write_set(folder / "shards")
    assert go_on(folder, TINY + CLIPS.format(batch=4), "--max-steps", "1") == 0
    return folder


def go_on(folder: Path, text: str, *options: str) -> int:
    config = folder / "run.toml"
    config.write_text(text)
    argv = ["--config", str(config), "--data", str(folder / "shards"), "--out", str(folder / "run"), *options]
    status: int = Command("pretrain").main(argv)
    return status


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("seed = 3", "seed = 4", "seed"),
        ("batch = 4", "batch = 5", "clips.batch"),
        ("[clips]", '[start]\nframe_encoder = "frozen"\n[clips]', "start.frame_encoder"),
        ("[clips]", "[clips]\nbeta = 0.5", "clips.beta"),
    ],
)
def test_another_run_is_not_resumed(
    before: str, after: str, name: str, run: Path, capsys: pytest.CaptureFixture[str]
):
    text = (TINY + CLIPS.format(batch=4)).replace(before, after)
    assert go_on(run, text, "--resume") == 2
    said = capsys.readouterr().err
    assert f"is of a run with other settings ({name}): resume with the config it was made with" in said


def test_rates_and_workers_may_be_edited(run: Path):
    text = TINY.replace("workers = 0", "workers = 1") + CLIPS.format(batch=4).replace("1e-2", "1e-3")
    assert go_on(run, text, "--resume", "--max-steps", "1") == 0


def of_two_processes(run: Path) -> None:
    """Rewrite the checkpoint as that of two processes with half the batch each."""
    path = run / "run" / "checkpoint.pt"
    payload = torch.load(path, weights_only=True)
    payload["state"]["processes"] = 2
    payload["state"]["settings"]["clips"]["batch"] = 2
    torch.save(payload, path)


def test_another_number_of_processes_continues_with_the_same_clips_per_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    logs = {}
    for name in ("whole", "parts"):
        folder = tmp_path / name
        write_set(folder / "shards")
        if name == "whole":
            assert go_on(folder, TINY + CLIPS.format(batch=4)) == 0
        else:
            assert go_on(folder, TINY + CLIPS.format(batch=4), "--max-steps", "3") == 0
            of_two_processes(folder)
            capsys.readouterr()
            assert go_on(folder, TINY + CLIPS.format(batch=2), "--resume") == 2
            said = capsys.readouterr().err
            assert "of a run of 2 processes, and this has 1 (set clips.batch to 4, so that a step has" in said
            assert go_on(folder, TINY + CLIPS.format(batch=4), "--resume") == 0
        lines = (folder / "run" / "log.jsonl").read_text().splitlines()
        logs[name] = [json.loads(line)["loss"] for line in lines]
    assert logs["parts"] == logs["whole"]


def test_a_stage_that_is_done_may_leave_the_configuration():
    before = {"seed": 1, "stem_warmup": {"steps": 4, "batch": 8}, "scenes": {"beta": 1.0, "lr": 1.0}}
    now = {"seed": 1, "stem_warmup": None, "scenes": {"beta": 1.0, "lr": 2.0}}
    assert changed_settings(before, now) == []
    assert changed_settings(before, {**now, "scenes": {"beta": 2.0}}) == ["scenes.beta"]
