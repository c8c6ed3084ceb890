"""Real faces and sentences, and a small copy of both in the layout that the scripts read."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import Command
from numpy.typing import NDArray
from small_model import SMALL

from emotion_train.scenes.faces import Faces, load_faces

ROOT = Path(__file__).resolve().parents[2]
FACES_OF_A_CLASS = {"train": 24, "val": 6, "test": 6}
SENTENCES_OF_A_CLASS = 120
# Columns of the votes for angry, disgust, fear, happy, neutral, sad and surprise, as the archive names them.
VOTE_OF_CLASS = np.array([4, 5, 6, 1, 0, 3, 2])

TINY_CONFIG = """
preset = "tiny"
seed = 3
workers = 0
save_every = 600

[text_warmup]
steps = 4
batch = 8

[stem_warmup]
steps = 4
batch = 8
size = 32

[scenes]
steps = 4
scenes_per_batch = 3
distinct_frames = [1, 2]
sentence_confidence = 0.2
evaluate_every = 3
"""


@pytest.fixture(scope="session")
def archive(shared_data: Path) -> Path:
    return shared_data / "data" / "fer2013_plus.npz"


@pytest.fixture(scope="session")
def sentence_folder(shared_data: Path) -> Path:
    return shared_data / "data" / "goemotions_ekman"


@pytest.fixture(scope="session")
def real_faces(archive: Path) -> Faces:
    """The test split."""
    return load_faces(archive, "test")


@pytest.fixture(scope="session")
def small_data(archive: Path, sentence_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `--data` takes, with a few faces and sentences of every class."""
    root = tmp_path_factory.mktemp("small")
    sentences = root / "data" / "goemotions_ekman"
    sentences.mkdir(parents=True)
    (sentences / "labels.txt").write_text((sentence_folder / "labels.txt").read_text())
    taken: Counter[str] = Counter()
    with (sentences / "train.tsv").open("w") as out:
        for line in (sentence_folder / "train.tsv").read_text().splitlines(keepends=True):
            label = line.split("\t")[1]
            taken[label] += 1
            if taken[label] <= (20 if "," in label else SENTENCES_OF_A_CLASS):
                out.write(line)
    with np.load(archive) as real:
        parts = {name: real[name] for name in ("classes", "vote_names")}
        for split, count in FACES_OF_A_CLASS.items():
            columns = {part: real[f"{split}_{part}"] for part in ("bytes", "offsets", "labels", "votes")}
            parts |= {f"{split}_{name}": part for name, part in _first_of_each_class(columns, count).items()}
    np.savez(root / "data" / "fer2013_plus.npz", **parts)
    return root


@pytest.fixture(scope="session")
def pretrain() -> Command:
    """The command, with presets small enough for a test."""
    tiny = replace(SMALL, stem="conv", subject="shared", subject_bias=True, text_vocab=49408)
    presets = {"tiny": tiny, "other": replace(tiny, subject_bias=False, vision_layers=2)}
    return Command("pretrain", presets)


@pytest.fixture(scope="session")
def fit_probe() -> Command:
    """The command."""
    return Command("fit-probe")


@pytest.fixture(scope="session")
def tiny_run(pretrain: Command, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of every stage that nothing stopped, with its config beside it."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    config = folder.with_name("tiny.toml")
    config.write_text(TINY_CONFIG)
    argv = ["--config", str(config), "--data", str(small_data), "--out", str(folder)]
    assert pretrain.main(argv) == 0
    return folder


def _first_of_each_class(
    columns: dict[str, NDArray[np.generic]], count: int
) -> dict[str, NDArray[np.generic]]:
    """Return the first faces of each class that most people give the label of FER2013."""
    encoded, offsets, labels, votes = columns.values()
    fitting = np.diff(offsets) > 0
    fitting &= VOTE_OF_CLASS[labels] == votes.argmax(axis=1)
    rows = np.concatenate([np.flatnonzero(fitting & (labels == c))[:count] for c in np.unique(labels)])
    pictures = [encoded[offsets[row] : offsets[row + 1]] for row in rows]
    return {
        "bytes": np.concatenate(pictures),
        "offsets": np.cumsum([0, *(len(picture) for picture in pictures)]),
        "labels": labels[rows],
        "votes": votes[rows],
    }
