import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score
from small_model import SMALL, build

from emotion_runtime.errors import EmotionError
from emotion_train.data.labels import EKMAN
from emotion_train.data.scene_sets import Clip
from emotion_train.probe import (
    FeatureSet,
    expected_calibration_error,
    extract,
    fit_logistic,
    fit_temperature,
    probabilities,
    score,
    swap_figures,
)


def random_logits(count: int, seed: int = 0) -> NDArray[np.float64]:
    return 2 * np.random.default_rng(seed).standard_normal((count, 7))


# --- figures


def test_calibration_error_by_hand():
    """15 bins: .95 and .97 share the last one, .60 and .55 lie in two of their own."""
    confidence, right = [0.95, 0.97, 0.6, 0.55], [True, False, True, True]
    probability = np.zeros((4, 7))
    for row, value in enumerate(confidence):
        probability[row] = (1 - value) / 6
        probability[row, row] = value
    labels = np.array([row if hit else 6 for row, hit in enumerate(right)])
    # Last bin: two of four, accuracy 0.5, confidence 0.96; the others: one of four each, accuracy 1.
    expected = 0.5 * abs(0.5 - 0.96) + 0.25 * (1 - 0.6) + 0.25 * (1 - 0.55)
    assert expected_calibration_error(probability, labels) == pytest.approx(expected)


def test_certainty_is_calibrated_when_it_is_right():
    assert expected_calibration_error(np.eye(7), np.arange(7)) == 0
    assert expected_calibration_error(np.eye(7), (np.arange(7) + 1) % 7) == 1


def test_scores_are_scikit_learns():
    rng = np.random.default_rng(1)
    labels = rng.choice(7, 300, p=[0.3, 0.02, 0.08, 0.2, 0.2, 0.1, 0.1])
    probability = probabilities(random_logits(300) + 2 * np.eye(7)[labels])
    predicted = probability.argmax(axis=1)
    figures = score(probability, labels)
    assert figures["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    for name, recall in zip(EKMAN, recall_score(labels, predicted, average=None), strict=True):
        assert figures[f"recall_{name}"] == pytest.approx(recall)
    assert figures["ece"] == expected_calibration_error(probability, labels)


def test_a_class_that_is_not_there_does_not_count():
    figures = score(np.eye(7)[[0, 0, 3]], np.array([0, 3, 3]))
    assert figures["balanced_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert "recall_fear" not in figures


def test_probabilities_are_a_softmax():
    logits = random_logits(5)
    expected = torch.softmax(torch.from_numpy(logits) / 2.5, dim=1).numpy()
    np.testing.assert_allclose(probabilities(logits, 2.5), expected)
    assert np.isfinite(probabilities(np.array([[1e4, 0.0, -1e4]]))).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float):
    logits = random_logits(20000)
    noise = np.random.default_rng(2).gumbel(size=logits.shape)
    labels = (logits / temperature + noise).argmax(axis=1)  # draws from the softmax
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_swap_figures_of_a_table_made_by_hand():
    table = [  # answer with a as subject, with b as subject, label of a, label of b
        (0, 1, 0, 1),  # follows the subject
        (0, 0, 0, 1),  # blind to it: one right, one the neighbour's
        (1, 0, 0, 1),  # takes each for the other
        (2, 3, 0, 1),  # wrong, and differently
    ]
    first, second, a, b = np.array(table).T
    assert swap_figures(first, second, a, b) == {
        "changed": 3 / 4,
        "own": 3 / 8,
        "other": 3 / 8,
        "both_right": 1 / 4,
    }


# --- features and fit


def test_features_are_the_models_video_features_of_unit_length():
    model = build("sap")
    rng = np.random.default_rng(0)
    size, patches = SMALL.preprocess.size, SMALL.preprocess.patches
    clips = [
        Clip(
            rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8),
            rng.random((2, patches), dtype=np.float32),
            label,
        )
        for label in (3, 0, 6)
    ]
    model.train()  # dropout must not act
    features = extract(model, iter(clips), batch=2)
    assert features.labels.tolist() == [3, 0, 6]
    assert features.features.shape == (3, SMALL.embed_dim)
    mean, std = np.array(SMALL.preprocess.mean), np.array(SMALL.preprocess.std)
    for clip, row in zip(clips, features.features, strict=True):
        pixels = ((clip.images / 255 - mean) / std).transpose(0, 3, 1, 2)
        frames = torch.from_numpy(pixels).float()[[0, 0, 0, 0, 1, 1, 1, 1]][None]  # 2 encoded, clips of 8
        weights = torch.from_numpy(clip.patch_weights)[[0, 0, 0, 0, 1, 1, 1, 1]][None]
        with torch.no_grad():
            video = model.eval().encode_video(frames, weights)[0].numpy()
        np.testing.assert_allclose(row, video / np.linalg.norm(video), atol=1e-5)


def test_no_clips():
    with pytest.raises(EmotionError, match="no clip to encode"):
        extract(build("sap"), iter(()))


def blobs(classes: int) -> FeatureSet:
    rng = np.random.default_rng(0)
    labels = np.arange(20 * classes) % classes
    features = np.eye(8, dtype=np.float32)[labels] + 0.05 * rng.standard_normal((len(labels), 8), np.float32)
    return FeatureSet(features / np.linalg.norm(features, axis=1, keepdims=True), labels)


def test_the_probe_separates_what_can_be_separated():
    train = blobs(7)
    weight, bias = fit_logistic(train, c=10.0, seed=0)
    assert weight.shape == (7, 8)
    assert weight.dtype == bias.dtype == np.float32
    assert ((train.features @ weight.T + bias).argmax(axis=1) == train.labels).all()


def test_a_probe_without_a_class_is_refused():
    """Its rows would be numbered anew, and every name after the missing one would be wrong."""
    with pytest.raises(EmotionError, match="no clip of surprise, neutral to fit the probe on"):
        fit_logistic(blobs(5), c=1.0, seed=0)
