import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Command

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import load_checkpoint, model_from_checkpoint
from emotion_train.model import PRESETS
from emotion_train.training.config_files import load_config

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
EVERY_STEP = [(stage, step) for stage in ("text", "stem", "scenes") for step in range(4)]
CLOCK = {"rows_per_s", "waited"}


def log_of(run: Path) -> list[dict[str, Any]]:
    """Every line, without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in lines]


@pytest.fixture
def call(pretrain: Command, small_data: Path, tiny_run: Path) -> Callable[..., int]:
    """Run emotion-train pretrain in this process with the tiny run's config, unless given others."""

    def run(out: Path, *options: str, config: Path | None = None, data: Path | None = None) -> int:
        config = config or tiny_run.with_name("tiny.toml")
        argv = ["--config", str(config), "--data", str(data or small_data), "--out", str(out), *options]
        status: int = pretrain.main(argv)
        return status

    return run


# --- a run


def test_a_run_takes_every_step_once(tiny_run: Path):
    assert [(entry["stage"], entry["step"]) for entry in log_of(tiny_run)] == EVERY_STEP
    names = [".lock", "checkpoint.pt", "log.jsonl", "report.html", "tensorboard"]
    assert sorted(path.name for path in tiny_run.iterdir()) == names
    looks = [entry for entry in log_of(tiny_run) if "val_probe" in entry]
    assert [(entry["stage"], entry["step"]) for entry in looks] == [("scenes", 2), ("scenes", 3)]
    assert all(0 <= entry[figure] <= 1 for entry in looks for figure in ("val_probe", "val_zero_shot"))
    model = model_from_checkpoint(tiny_run / "checkpoint.pt")
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_run_stopped_in_every_stage_is_the_same_run(
    tiny_run: Path, call: Callable[..., int], tmp_path: Path
):
    run = tmp_path / "parts"
    states = []
    for options in (["--max-steps", "2"], *[["--resume", "--max-steps", "4"]] * 2, ["--resume"]):
        torch.manual_seed(99)  # another process stands elsewhere in its random stream
        assert call(run, *options) == 0
        states.append(load_checkpoint(run / "checkpoint.pt"))
    stops = [(state["stage"], state["step"]) for state in states]
    assert stops == [("text", 2), ("stem", 2), ("scenes", 2), ("scenes", 4)]
    assert log_of(run) == log_of(tiny_run)  # losses, accuracies and gradients to the last digit
    whole = load_checkpoint(tiny_run / "checkpoint.pt")["model"]
    assert all(torch.equal(value, whole[name]) for name, value in states[-1]["model"].items())
    assert learned(states[0], states[1]) == {"text", "stem"}
    assert learned(states[2], states[3]) >= {"stem", "vision", "temporal"}
    assert "text" not in learned(states[2], states[3])  # the warm tower is locked


def learned(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Parts of the model in which something changed."""
    parts = set()
    for name, value in after["model"].items():
        if not torch.equal(value, before["model"][name]):
            if name.startswith("visual_head."):
                parts.add("temporal")
            elif name.startswith("backbone.visual."):
                parts.add("stem" if "stem" in name else "vision")
            elif name.startswith("backbone."):
                parts.add("text")
    return parts


def test_a_killed_run_repeats_what_its_checkpoint_does_not_hold(
    tiny_run: Path, call: Callable[..., int], tmp_path: Path
):
    run = tmp_path / "killed"
    assert call(run, "--max-steps", "3") == 0
    with (run / "log.jsonl").open("a") as log:  # steps taken after the checkpoint, the last line corrupt
        log.write('{"stage": "text", "step": 3, "loss": 7.0}\n{"stage": "stem", "step": 0, "lo')
    assert call(run, "--resume", "--max-steps", "3") == 0
    assert log_of(run) == log_of(tiny_run)[:6]


def test_without_warm_ups_a_run_is_scenes_only(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = tmp_path / "scenes.toml"
    config.write_text(
        'preset = "other"\nworkers = 0\n[scenes]\nsteps = 2\nscenes_per_batch = 2\n'
        "sentence_confidence = 0.2\ntrain_text = true\n"
    )
    assert call(tmp_path / "run", "--max-steps", "1", config=config) == 0
    before = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert call(tmp_path / "run", "--resume", config=config) == 0
    assert [(entry["stage"], entry["step"]) for entry in log_of(tmp_path / "run")] == [
        ("scenes", 0),
        ("scenes", 1),
    ]
    assert "text" in learned(before, load_checkpoint(tmp_path / "run" / "checkpoint.pt"))
    assert "next: emotion-train fit-probe --dataset scenes" in capsys.readouterr().err


# --- mistakes


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error on stderr: one line, after which nothing comes."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert [line for line in lines if ": error: " in line] == lines[-1:]
    assert lines[-1].startswith("emotion-train pretrain: error: ")
    return lines[-1]


def test_an_existing_run_is_not_overwritten(
    tiny_run: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
):
    before = (tiny_run / "checkpoint.pt").read_bytes()
    assert call(tiny_run) == 2
    assert "checkpoint.pt already exists: add --resume to continue, or choose another --out" in one_line(
        capsys
    )
    assert (tiny_run / "checkpoint.pt").read_bytes() == before
    assert len(log_of(tiny_run)) == 12


def test_another_models_checkpoint_is_not_resumed(
    tiny_run: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    config = tmp_path / "other.toml"
    config.write_text(tiny_run.with_name("tiny.toml").read_text().replace('"tiny"', '"other"'))
    assert call(tiny_run, "--resume", config=config) == 2
    assert "of another model than preset 'other' (other subject_bias, vision_layers)" in one_line(capsys)
    assert len(log_of(tiny_run)) == 12


def test_a_checkpoint_in_a_stage_that_the_config_lacks_is_not_resumed(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    config = tmp_path / "scenes.toml"
    config.write_text('preset = "tiny"\n[scenes]\nsteps = 4')
    assert call(tmp_path / "run", "--max-steps", "0") == 0
    capsys.readouterr()
    assert call(tmp_path / "run", "--resume", config=config) == 2
    assert "in stage 'text', which is not in the config (scenes)" in one_line(capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume"], "checkpoint.pt does not exist: check --out"),
        (["--max-steps", "-1"], "--max-steps -1: expected 0 or more"),
    ],
)
def test_options_that_cannot_be(
    options: list[str],
    message: str,
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert call(tmp_path / "run", *options) == 2
    assert message in one_line(capsys)


def test_missing_data(call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert call(tmp_path / "run", data=tmp_path / "nowhere") == 2
    assert "no GoEmotions split at" in one_line(capsys)


def test_an_output_that_is_a_file(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "run").touch()
    assert call(tmp_path / "run") == 2
    assert "choose a folder that can be written" in one_line(capsys)


def test_a_preset_without_a_stem_has_none_to_warm_up(
    pretrain: Command,
    call: Callable[..., int],
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(pretrain, "presets", {"tiny": replace(pretrain.presets["tiny"], stem="patch")})
    config = tmp_path / "stem.toml"
    config.write_text(
        tiny_run.with_name("tiny.toml").read_text().replace("[text_warmup]\nsteps = 4\nbatch = 8\n", "")
    )
    assert call(tmp_path / "run", config=config) == 2
    assert "[stem_warmup] needs a preset with a convolutional stem" in one_line(capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('preset = "tiny"', r"nothing to train: expected \[scenes\] or \[clips\]"),
        ('preset = "tiny"\n[scenes]\nsteps = 1\n[clips]', r"\[scenes\] and \[clips\] are both given"),
        ('preset = "tiny"\n[clips]\n[stem_warmup]\nsteps = 1', "warm-ups are only for"),
        ('preset = "tiny"\n[scenes]\nsteps = 1\n[probe]\ndataset = "bold"\ndata = "x"', "is only for"),
        ('preset = "tiny"\n[scenes]\nsteps = 1\n[start]\nclip = "a"\ncheckpoint = "b"', "one of them"),
        ('preset = "tiny"\ncolour = 1\n[scenes]\nsteps = 1', "unknown field `colour`"),
        ('preset = "tiny"\nworker = 1\n[scenes]\nsteps = 1', r"`worker`: did you mean workers\?; compare"),
        ('preset = "tiny"\n[scene]\nsteps = 1', r"`scene`: did you mean scenes\?"),
        ('preset = "tiny"\n[clips]\nspeed = 1', r"`speed` - at `\$\.clips`: expected one of epochs, batch, "),
        ('preset = "tiny"\ntrackers = ["tensorbord"]\n[clips]\n', r"\]`: did you mean tensorboard\?"),
        ('preset = "tiny"\nprecision = "half"\n[clips]\n', r"`\$\.precision`: expected one of .*fp32"),
        ('preset = "tiny"\n[scenes]\nsteps = 1\nbeta2 = 1', r"unknown field `beta2` - at `\$\.scenes`"),
        ('preset = "tiny"\n[scenes]\nsteps = "many"', r"at `\$\.scenes\.steps`"),
        ('preset = "tiny"\n[scenes]\nsteps = 0', r"at `\$\.scenes\.steps`"),
        ('preset = "tiny"\n[scenes]\nsteps = 1\ndistinct_frames = []', "distinct_frames"),
        ('preset = "tiny"\n[scenes]\nsteps = 1\npeople = [0.5, 0.2, 0.1, 0.1]', "sum to 0.9, expected 1"),
        ('preset = "tiny"\n[scenes]\nsteps = 1\nface_share = [0.5, 0.2]', "expected the smallest first"),
        ('preset = "tiny"\n[scenes]\nsteps = 1\nkl_direction = "both"', "kl_direction"),
        ('preset = "tiny"\n[scenes]\nsteps = 1\nlr = inf', r"at `\$\.scenes\.lr`"),
        ('preset = "tiny"\n[scenes]\nsteps = 1\nbeta = inf', r"at `\$\.scenes\.beta`"),
        ('preset = "tiny"\n[clips]\nbetas = [0.9, 1.0]', r"at `\$\.clips\.betas\[\.\.\.\]`|betas\[1\]"),
        ("preset = = 3", "Invalid"),
        ("preset = \udcff", "utf-8"),
    ],
)
def test_configs_that_cannot_be(text: str, message: str, tmp_path: Path):
    path = tmp_path / "run.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(EmotionError, match=message) as error:
        load_config(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_config_as_editors_of_windows_save_it(tmp_path: Path):
    path = tmp_path / "run.toml"
    path.write_text('preset = "tiny"\r\n[scenes]\r\nsteps = 3\r\n', encoding="utf-8-sig", newline="")
    config = load_config(path)
    assert config.scenes is not None
    assert config.scenes.steps == 3


def test_an_unknown_preset(call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = tmp_path / "run.toml"
    config.write_text('preset = "giant"\n[scenes]\nsteps = 1')
    assert call(tmp_path / "run", config=config) == 2
    assert "preset 'giant': expected one of ['other', 'tiny']" in one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_the_command_line_ends_with_status_2_and_one_line(tmp_path: Path):
    argv = ["--config", str(tmp_path / "no.toml"), "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train" / "pretrain.py"), *argv],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"emotion-train pretrain: error: config {tmp_path / 'no.toml'}: No such file or directory; "
        "give the path of a TOML file, or one of emotionclip, nano, smoke, smoke-clips, smoke-ranks\n"
    )


def test_the_configs_that_come_with_this_can_be_run():
    paths = sorted((ROOT / "train" / "configs").glob("*.toml"))
    assert paths
    for path in paths:
        assert load_config(path).preset in PRESETS
