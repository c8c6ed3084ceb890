"""Checkpoints of epochs, the best by a probe, and the latest that can be read."""

import json
import logging
from pathlib import Path

import pytest
from small_model import SMALL

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import load_checkpoint, save_checkpoint
from emotion_train.training.checkpoints import BEST, LATEST, Checkpoints, latest_readable


class Saved:
    """A run that saves the number of its epoch."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.folder, self.epoch = folder, 0
        self.checkpoints = Checkpoints(folder, self.write, **{"keep_last": 2, **options})

    def write(self, path: Path) -> None:
        save_checkpoint(path, config=SMALL, state={"epoch": self.epoch})

    def end_epoch(self, **metrics: float) -> None:
        self.epoch += 1
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps({"stage": "clips", "step": self.epoch, **metrics}) + "\n")
        self.checkpoints.save()
        self.checkpoints.end_epoch(self.epoch, metrics)


def epoch_in(path: Path) -> int:
    return int(load_checkpoint(path)["epoch"])


def test_the_last_epochs_are_kept(tmp_path: Path):
    run = Saved(tmp_path)
    for _ in range(4):
        run.end_epoch(loss=1.0)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["checkpoint.pt", "epoch-0003.pt", "epoch-0004.pt", "log.jsonl"]
    assert [epoch_in(tmp_path / name) for name in kept[:3]] == [4, 3, 4]
    run.epoch = 9
    run.checkpoints.save()  # within the next epoch
    assert [epoch_in(tmp_path / name) for name in kept[:3]] == [9, 3, 4]


def test_no_epochs_are_kept_if_none_shall_be(tmp_path: Path):
    run = Saved(tmp_path, keep_last=0)
    run.end_epoch(loss=1.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "log.jsonl"]


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [("val_map", [0.2, 0.4, 0.3, 0.4], 2), ("val_mse", [0.4, 0.2, 0.1, 0.3], 3)],
)
def test_the_best_epoch_is_kept_also_over_a_resumption(
    name: str, values: list[float], best: int, tmp_path: Path
):
    run = Saved(tmp_path, metric=name)
    for value in values[:2]:
        run.end_epoch(**{"val_other": -run.epoch, name: value})
    again = Saved(tmp_path, metric=name)
    again.epoch = 2
    for value in values[2:]:
        again.end_epoch(**{"val_other": -run.epoch, name: value})
    # Of two equal values the later: it was trained for longer.
    expected = max(i for i, value in enumerate(values, start=1) if value == values[best - 1])
    assert epoch_in(tmp_path / BEST) == expected


def test_without_a_name_the_first_metric_of_the_probe_decides(tmp_path: Path):
    run = Saved(tmp_path)
    run.end_epoch(loss=1.0, val_map=0.4, val_auc=0.1)
    run.end_epoch(loss=1.0)  # not evaluated
    run.end_epoch(loss=1.0, val_map=0.3, val_auc=0.9)
    assert epoch_in(tmp_path / BEST) == 1


def test_a_metric_that_is_undefined_after_an_epoch_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = Saved(tmp_path, metric="val_pcc")
    run.end_epoch(val_mse=0.1, val_pcc=0.2)
    run.end_epoch(val_mse=0.1)
    assert epoch_in(tmp_path / BEST) == 1
    assert "metric val_pcc is undefined after epoch 2" in caplog.text
    run.end_epoch(val_mse=0.1, val_pcc=0.3)
    assert epoch_in(tmp_path / BEST) == 3


def test_the_latest_that_can_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert latest_readable(tmp_path) is None
    run = Saved(tmp_path)
    for _ in range(3):
        run.end_epoch(loss=1.0)
    assert latest_readable(tmp_path)[0].name == LATEST
    for damaged, left in ((LATEST, "epoch-0003.pt"), ("epoch-0003.pt", "epoch-0002.pt")):
        path = tmp_path / damaged
        content = path.read_bytes()
        path.unlink()  # the other name of the same file stays whole
        path.write_bytes(content[:-100])
        with caplog.at_level(logging.WARNING):
            found = latest_readable(tmp_path)
        assert found[0].name == left
        assert f"{path} is incomplete" in caplog.text
    (tmp_path / "epoch-0002.pt").write_bytes(b"")
    with pytest.raises(EmotionError, match=r"no checkpoint in .* can be read; the last: .*epoch-0002"):
        latest_readable(tmp_path)
