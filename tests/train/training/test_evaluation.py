"""Probes on a labelled data set while clips are trained, through pretrain.py."""

import json
from pathlib import Path

import pytest
from command import Command
from made_shards import write_set
from small_model import build
from tiny_run import CLIPS, TINY, write_table

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import model_from_checkpoint
from emotion_train.model import PRESETS
from emotion_train.training.config import Probe
from emotion_train.training.evaluation import dataset_evaluation


@pytest.fixture
def pretrain_script(pretrain: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """With the real presets; the other tests' are tiny."""
    monkeypatch.setattr(pretrain, "presets", PRESETS)
    return pretrain


def test_every_epoch_is_probed_as_fit_probe_would(
    pretrain_script: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    table = write_table(tmp_path / "own")
    write_set(tmp_path / "shards")
    config = tmp_path / "run.toml"
    probe = f'\n[probe]\ndataset = "table"\ndata = "{table}"\n'
    config.write_text(TINY + CLIPS.format(batch=8) + probe)
    argv = ["--config", str(config), "--data", str(tmp_path / "shards"), "--out", str(tmp_path / "run")]
    assert pretrain_script.main(argv) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "val_accuracy" in entry] == [1, 3]  # two steps an epoch
    assert log[-1]["val_accuracy"] == 1.0
    # The last look is of the model that was saved.
    model = model_from_checkpoint(tmp_path / "run" / "checkpoint.pt")
    again = dataset_evaluation(model, Probe("table", str(table)))()
    assert {k: v for k, v in log[-1].items() if k.startswith("val_")} == pytest.approx(again, abs=1e-5)
    assert "<!-- Validation -->" in (tmp_path / "run" / "report.html").read_text()
    assert "emotion-train fit-probe --dataset NAME" in capsys.readouterr().err


def test_a_metric_that_no_probe_has_is_refused_before_the_first_step(tmp_path: Path):
    probe = Probe("table", str(write_table(tmp_path / "own")), metric="val_acc")
    with pytest.raises(EmotionError, match=r"\[probe\] metric 'val_acc' is unknown: expected one of val_acc"):
        dataset_evaluation(build("sap"), probe)


def test_a_data_set_that_is_not_there_is_said_before_the_first_step(
    pretrain_script: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_set(tmp_path / "shards")
    config = tmp_path / "run.toml"
    config.write_text(
        TINY + CLIPS.format(batch=8) + f'\n[probe]\ndataset = "bold"\ndata = "{tmp_path}/nowhere"\n'
    )
    argv = ["--config", str(config), "--data", str(tmp_path / "shards"), "--out", str(tmp_path / "run")]
    assert pretrain_script.main(argv) == 2
    assert f"folder {tmp_path}/nowhere does not exist" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.mark.parametrize("name", ["scenes", "bolt"])
def test_only_data_sets_that_can_be_read_are_probed(name: str):
    message = (
        f"\\[probe\\] dataset '{name}' cannot be probed while clips are trained: .*expected one of bold, "
    )
    with pytest.raises(EmotionError, match=message) as refusal:
        dataset_evaluation(build("sap"), Probe(name, "data"))
    listed = str(refusal.value).partition("expected one of ")[2]
    assert "scenes" not in listed
    assert ("`emotion-train fit-probe --dataset scenes`" in str(refusal.value)) == (name == "scenes")
