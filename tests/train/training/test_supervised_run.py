"""A run whose scenes have a supervised term, softened by what the warm stem sees."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Command

import emotion_train.training.run
from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import load_checkpoint, model_from_checkpoint, save_checkpoint
from emotion_train.scenes.faces import load_faces
from emotion_train.training.config_files import changed_settings, load_config
from emotion_train.training.supervision import stem_predictions

pytestmark = pytest.mark.slow

CONFIG = """
preset = "tiny"
seed = 3
workers = 0
save_every = 600

[stem_warmup]
steps = 3
batch = 8
size = 32

[scenes]
steps = 5
scenes_per_batch = 3
distinct_frames = [1, 2]
sentence_confidence = 0.2
supervised = 0.8
stem_answers = 0.5
poor = 0.5
close_ups = 0.5
"""
EXACT = ("loss", "grad_norm", "lr", "retrieval", "scale")


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def call(pretrain: Command, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., int]:
    """pretrain.py in this process."""
    config = tmp_path_factory.mktemp("supervised") / "run.toml"
    config.write_text(CONFIG)

    def run(out: Path, *options: str) -> int:
        argv = ["--config", str(config), "--data", str(small_data), "--out", str(out), *options]
        status: int = pretrain.main(argv)
        return status

    return run


@pytest.fixture(scope="module")
def whole(call: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert call(folder) == 0
    return folder


def test_stopped_in_scenes_the_next_losses_are_the_uninterrupted_runs(
    whole: Path, call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The stem has learned since the targets were made: a resumed run must not ask it again."""
    run = tmp_path / "parts"
    assert call(run, "--max-steps", "5") == 0
    stopped = load_checkpoint(run / "checkpoint.pt")
    assert (stopped["stage"], stopped["step"]) == ("scenes", 2)

    def not_again(*_: object) -> None:
        pytest.fail("the stem was asked again")

    monkeypatch.setattr(emotion_train.training.run, "stem_predictions", not_again)
    torch.manual_seed(99)  # another process stands elsewhere in its random stream
    assert call(run, "--resume") == 0
    expected, found = log_of(whole), log_of(run)
    assert [(e["stage"], e["step"]) for e in found] == [("stem", i) for i in range(3)] + [
        ("scenes", i) for i in range(5)
    ]
    scenes = (*EXACT, "supervised", "zero_shot")
    assert [[e[k] for k in scenes] for e in found[3:]] == [[e[k] for k in scenes] for e in expected[3:]]
    assert len({entry["loss"] for entry in found}) == len(found)
    ends = [load_checkpoint(folder / "checkpoint.pt") for folder in (whole, run)]
    for part in ("model", "heads"):
        assert all(torch.equal(value, ends[0][part][name]) for name, value in ends[1][part].items())
    learned = ("scenes.linear.weight", "scenes.linear.bias")
    assert not any(torch.equal(ends[1]["heads"][name], stopped["heads"][name]) for name in learned)
    assert torch.equal(ends[1]["heads"]["scenes.targets"], stopped["heads"]["scenes.targets"])


def test_targets_are_labels_and_what_the_stem_saw_at_the_end_of_its_warm_up(
    whole: Path, call: Callable[..., int], small_data: Path, tmp_path: Path
):
    run = tmp_path / "stem"
    assert call(run, "--max-steps", "3") == 0
    state = load_checkpoint(run / "checkpoint.pt")
    assert (state["stage"], state["step"]) == ("stem", 3)
    faces = load_faces(small_data / "data" / "fer2013_plus.npz", "train")
    model = model_from_checkpoint(run / "checkpoint.pt")
    head = torch.nn.Linear(model.config.vision_width, 7)
    head.load_state_dict({name: state["heads"][f"stem.{name}"] for name in ("weight", "bias")})
    labels = 0.9 * faces.votes + 0.1 / 7
    expected = 0.5 * labels + 0.5 * stem_predictions(model, head, faces).numpy()
    targets = load_checkpoint(whole / "checkpoint.pt")["heads"]["scenes.targets"]
    np.testing.assert_allclose(targets.numpy(), expected, atol=1e-6)
    # At the end the stem is another one, or the test above could not tell where targets come from.
    later = stem_predictions(model_from_checkpoint(whole / "checkpoint.pt"), head, faces)
    assert np.abs(0.5 * labels + 0.5 * later.numpy() - expected).max() > 1e-4
    # Stopped between the stages, a run goes on as if it had not been.
    assert call(run, "--resume", "--max-steps", "1") == 0
    assert log_of(run)[3]["loss"] == log_of(whole)[3]["loss"]


def test_the_term_is_on_the_rows_own_faces(whole: Path, call: Callable[..., int], tmp_path: Path):
    """With other targets in the checkpoint the next loss is another one."""
    run = tmp_path / "tampered"
    assert call(run, "--max-steps", "4") == 0
    state = load_checkpoint(run / "checkpoint.pt")
    state["heads"]["scenes.targets"] = state["heads"]["scenes.targets"].roll(1, dims=1)
    save_checkpoint(run / "checkpoint.pt", config=state.pop("config"), state=state)
    assert call(run, "--resume", "--max-steps", "1") == 0
    tampered, usual = log_of(run)[4], log_of(whole)[4]
    assert tampered["retrieval"] == usual["retrieval"]
    assert abs(tampered["loss"] - usual["loss"]) > 1e-3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[stem_warmup]\nsteps = 3\nbatch = 8\nsize = 32\n", ""),
        ("supervised = 0.8\n", ""),
    ],
)
def test_answers_of_no_stem_or_for_no_term_are_refused(
    before: str, after: str, pretrain: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = tmp_path / "run.toml"
    assert before in CONFIG
    config.write_text(CONFIG.replace(before, after))
    with pytest.raises(
        EmotionError, match=r"scenes\.stem_answers needs \[stem_warmup\].* and supervised > 0"
    ):
        load_config(config)
    argv = ["--config", str(config), "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert pretrain.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"emotion-train pretrain: error: config {config}: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["supervised", "stem_answers", "poor", "close_ups"])
def test_another_mix_or_term_is_another_run(name: str):
    before, now = ({"scenes": {name: value, "lr": value}} for value in (0.25, 0.5))
    assert changed_settings(before, now) == [f"scenes.{name}"]


def test_the_term_without_the_stems_view_needs_no_stem(pretrain: Command, small_data: Path, tmp_path: Path):
    config = tmp_path / "run.toml"
    text = CONFIG.replace("[stem_warmup]\nsteps = 3\nbatch = 8\nsize = 32\n", "").replace(
        "steps = 5", "steps = 1"
    )
    config.write_text(text.replace("stem_answers = 0.5\n", ""))
    argv = ["--config", str(config), "--data", str(small_data), "--out", str(tmp_path / "run")]
    assert pretrain.main(argv) == 0
    targets = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["heads"]["scenes.targets"]
    votes = load_faces(small_data / "data" / "fer2013_plus.npz", "train").votes
    np.testing.assert_allclose(targets.numpy(), 0.9 * votes + 0.1 / 7, atol=1e-6)
