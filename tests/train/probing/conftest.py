"""A small checkpoint, small data sets, and what fit_probe.py makes of them, each once a session."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from by_hand import Fitted
from command import Command
from labelled_trees import bold_tree, emotic_tree, liris_tree, meld_tree, table_file
from small_model import SMALL

from emotion_train.checkpoint import save_checkpoint
from emotion_train.model import EmotionCLIP

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def evaluate() -> Command:
    """The command."""
    return Command("evaluate")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights whose embeddings tell colours apart."""
    torch.manual_seed(0)
    config = replace(SMALL, subject="sap", subject_bias=False, text_vocab=49408)
    path = tmp_path_factory.mktemp("checkpoint") / "small.pt"
    save_checkpoint(path, config=config, state={"model": EmotionCLIP(config).state_dict()})
    return path


@pytest.fixture(scope="session")
def fit(
    fit_probe: Command, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Fitted]:
    """Fits a probe on a data set through the command line."""

    def run(name: str, data: Path, *options: str) -> Fitted:
        out = tmp_path_factory.mktemp("out") / name
        argv = ["--dataset", name, "--data", str(data), "--checkpoint", str(checkpoint), "--out", str(out)]
        assert fit_probe.main([*argv, "--resamples", "50", *options]) == 0
        return Fitted(data, out, json.loads((out / "report.json").read_text()))

    return run


@pytest.fixture(scope="session")
def meld(fit: Callable[..., Fitted], tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return fit("meld", meld_tree(tmp_path_factory.mktemp("meld")))


@pytest.fixture(scope="session")
def bold(fit: Callable[..., Fitted], tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return fit("bold", bold_tree(tmp_path_factory.mktemp("bold")), "--seeds", "2")


@pytest.fixture(scope="session")
def emotic(fit: Callable[..., Fitted], tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return fit("emotic", emotic_tree(tmp_path_factory.mktemp("emotic")))


@pytest.fixture(scope="session")
def liris(fit: Callable[..., Fitted], tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return fit("liris", liris_tree(tmp_path_factory.mktemp("liris")))


@pytest.fixture(scope="session")
def table(fit: Callable[..., Fitted], tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return fit("table", table_file(tmp_path_factory.mktemp("table")), "--c", "1", "30")
