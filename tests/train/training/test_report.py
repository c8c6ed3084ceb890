"""The report of a run: one file, whole, with its curves."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import torch
from small_model import build

from emotion_train.training.config import PretrainConfig
from emotion_train.training.parallel import World
from emotion_train.training.report import run_facts, write_report
from emotion_train.training.run_data import RunData
from emotion_train.training.stage_config import Clips

CONFIG = PretrainConfig(preset="vit-b-32", clips=Clips(beta=7.5, head_lr=3e-7))


def write_log(run: Path, steps: int, **figures: float) -> None:
    with (run / "log.jsonl").open("a") as log:
        for step in range(steps):
            entry = {"stage": "clips", "step": step, "loss": 3 - step / steps, "lr": 1e-3, "retrieval": 0.1}
            entry |= {"rows_per_s": 50.0, "waited": 0.02} | figures
            log.write(json.dumps(entry) + "\n")


def test_it_stands_alone_and_shows_every_curve_that_there_is(tmp_path: Path):
    write_log(tmp_path, 60, grad_norm=0.5, scale=14.3)
    with (tmp_path / "log.jsonl").open("a") as log:
        entry = {"stage": "clips", "step": 60, "loss": 2.0, "lr": 1e-4, "retrieval": 0.2, "val_accuracy": 0.4}
        log.write(json.dumps(entry | {"rows_per_s": 50.0, "waited": 0.02}) + "\n")
    page = write_report(tmp_path, facts={"start": "CLIP <b>"}, config=CONFIG).read_text()
    HTMLParser().feed(page)
    # Nothing is fetched: no scripts, and every reference points into the page (xmlns names are no links).
    assert not re.findall(r"<script|<link|<img|(?:src|href)=\"(?!#)", page)
    assert "CLIP &lt;b&gt;" in page
    assert "median 50.0 rows a second; 2.0% of the time waiting for data" in page
    for title in (
        "Loss",
        "Learning rate",
        "Norm of the gradient",
        "Inverse temperature",
        "Accuracy in the batch",
        "Validation",
    ):
        assert f"<!-- {title} -->" in page, title  # matplotlib notes the text that it draws as paths


def test_a_stage_shows_only_what_it_has(tmp_path: Path):
    write_log(tmp_path, 5)
    page = write_report(tmp_path, facts={}, config=CONFIG).read_text()
    assert "<!-- Loss -->" in page
    assert "<!-- Validation -->" not in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "report.html"]


def test_it_states_what_a_paper_needs(tmp_path: Path):
    facts = run_facts(CONFIG, build("sap"), RunData("shards", "f" * 64), World(size=2), "CLIP laion2b_e16")
    assert facts["data"] == "shards (ffffffffffff)"
    assert facts["batch"] == "256 clips (128 per process), 25 epochs"
    assert facts["peak learning rates"] == "matrices 1e-08, gains and biases 5e-05, temporal matrices 3e-07"
    assert facts["beta"] == "7.5, KL official"
    assert f"torch {torch.__version__}" in facts["environment"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(, commit .{7,})?", facts["version"])
    write_log(tmp_path, 5)
    page = write_report(tmp_path, facts=facts, config=CONFIG).read_text()
    assert "&quot;head_lr&quot;: 3e-7" in page  # the whole configuration
