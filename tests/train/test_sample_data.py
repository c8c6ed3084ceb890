"""The sample data has the layout that the loaders of the real data read."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from emotion_runtime.sources import open_source
from emotion_train import cli
from emotion_train.language.goemotions import load_sentences
from emotion_train.scenes.faces import load_faces

SCRIPT = Path(__file__).resolve().parents[2] / "train" / "examples" / "make_data.py"


@pytest.mark.slow
def test_loaders_read_it(tmp_path: Path):
    assert runpy.run_path(str(SCRIPT))["main"]([str(tmp_path)]) == 0
    faces = load_faces(tmp_path / "data" / "fer2013_plus.npz", "train")
    assert faces.images.shape == (420, 48, 48)
    assert np.bincount(faces.labels).tolist() == [60] * 7
    assert (
        cli.main(["prepare-faces", "--folder", str(tmp_path / "faces"), "--out", str(tmp_path / "own")]) == 0
    )
    own = load_faces(tmp_path / "own" / "data" / "fer2013_plus.npz", "train")
    assert sorted(map(bytes, own.images)) == sorted(map(bytes, faces.images))
    assert np.bincount(own.labels).tolist() == [60] * 7
    assert faces.images.std(axis=(1, 2)).min() > 10  # no empty crop
    sentences = load_sentences(tmp_path / "data" / "goemotions_ekman", "train")
    assert np.bincount(sentences.labels).tolist() == [18] * 7
    with open_source(tmp_path / "videos" / "demo.mp4") as source:
        assert sum(1 for _ in source) == 750
    assert (tmp_path / "captions" / "demo.vtt").read_text().count("-->") == 7
