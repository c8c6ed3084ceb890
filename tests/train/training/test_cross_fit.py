"""Predictions of the votes on each training face by networks that did not see it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from emotion_runtime.errors import EmotionError
from emotion_train import cli
from emotion_train.language.labels import EKMAN
from emotion_train.scenes.faces import Faces, one_hot
from emotion_train.training.cross_fit import (
    CrossFit,
    _augmented,
    cross_fitted_votes,
    load_predictions,
    save_predictions,
)

TINY = CrossFit(folds=2, epochs=30, batch=16, lr=5e-3, channels=(4, 4, 8, 8))


def bright_and_dark(count: int, seed: int = 0) -> Faces:
    """Faces that are bright on the left, which everybody calls anger, or below, which they call fear."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    images = rng.integers(0, 60, (count, 48, 48))
    images[labels == 0, :14] += 150
    images[labels == 1, 34:] += 150
    return Faces.of_labels(images.astype(np.uint8), labels.astype(np.int64))


@pytest.mark.slow
def test_a_face_is_predicted_by_a_network_that_did_not_see_it():
    faces = bright_and_dark(96)
    # Of a few faces everybody said the opposite of what can be seen: a network that saw them would know.
    wrong = np.arange(0, 96, 12)
    votes = faces.votes.copy()
    votes[wrong] = one_hot(1 - faces.labels[wrong])
    told: list[str] = []
    predicted = cross_fitted_votes(
        Faces(faces.images, faces.labels, votes, faces.clear), TINY, torch.device("cpu"), told.append
    )
    np.testing.assert_allclose(predicted.sum(axis=1), 1, atol=1e-5)
    assert (predicted.argmax(axis=1) == faces.labels).mean() > 0.9
    assert (predicted[wrong].argmax(axis=1) == faces.labels[wrong]).mean() > 0.7
    assert len(told) == 2


def test_augmented_faces_stay_images():
    torch.manual_seed(0)
    images = torch.full((64, 48, 48), 255, dtype=torch.uint8)
    images[:, :, :24] = 0
    pixels = _augmented(images)
    assert pixels.shape == (64, 1, 48, 48)
    assert torch.isfinite(pixels).all()
    assert pixels.abs().max() < 3
    left, right = pixels[..., :12].mean((1, 2, 3)), pixels[..., 36:].mean((1, 2, 3))
    assert 0.25 < (left > right).float().mean() < 0.75  # about half of them are mirrored


def test_predictions_belong_to_their_faces(tmp_path: Path):
    faces = bright_and_dark(6)
    predicted = np.random.default_rng(1).dirichlet(np.ones(len(EKMAN)), 6).astype(np.float32)
    save_predictions(tmp_path / "p.npz", faces, predicted)
    np.testing.assert_array_equal(load_predictions(tmp_path / "p.npz", faces), predicted)
    with pytest.raises(EmotionError, match="other faces"):
        load_predictions(tmp_path / "p.npz", bright_and_dark(6, seed=2))
    with pytest.raises(EmotionError, match="cannot be read"):
        load_predictions(tmp_path / "missing.npz", faces)
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(EmotionError, match="cannot be read"):
        load_predictions(tmp_path / "bad.npz", faces)


def test_too_many_folds_are_refused():
    with pytest.raises(EmotionError, match="folds"):
        cross_fitted_votes(bright_and_dark(3), CrossFit(folds=5, epochs=1), torch.device("cpu"), print)


def test_mixed_votes_are_the_weighted_mean():
    faces = bright_and_dark(4)
    others = np.full((4, 7), 1 / 7, np.float32)
    mixed = faces.mixed_with(others, 0.25).votes
    np.testing.assert_allclose(mixed, 0.75 * faces.votes + 0.25 / 7, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "--epochs 0: expected 1 or more"),
        (["--seed", "-1"], "--seed -1: expected 0 or more"),
        (["--out", "."], "--out . is a folder: expected a file"),
        (["--out", f"{__file__}/p.npz"], "there is a file of this name; give another folder"),
    ],
)
def test_mistakes_are_found_before_the_faces_are_read(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    """Training takes hours on a CPU; here there are no faces, which is found after these."""
    out = [] if "--out" in options else ["--out", "p.npz"]
    assert cli.main(["predict-votes", "--data", "nowhere", *out, *options]) == 2
    assert message in capsys.readouterr().err
