"""The bank of 26 categories: what of it can be measured on faces of seven emotions, by scikit-learn."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from small_model import SMALL

from emotion_train.datasets.bold import CATEGORIES
from emotion_train.heads import LinearHead, load_head, save_head
from emotion_train.language.labels import EKMAN
from emotion_train.language.phrases import CATEGORY_PHRASES
from emotion_train.model import EmotionCLIP
from emotion_train.probing.features import FeatureSet
from emotion_train.probing.scene_probe import category_metrics
from emotion_train.probing.zero_shot import zero_shot_head, zero_shot_weight

# Position in EKMAN of the emotion that a category means.
MEANS = {"anger": 0, "aversion": 1, "fear": 2, "happiness": 3, "sadness": 4, "surprise": 5}


@pytest.fixture(scope="module")
def model() -> EmotionCLIP:
    torch.manual_seed(0)
    config = replace(SMALL, subject="sap", subject_bias=False, text_vocab=49408, text_layers=1)
    return EmotionCLIP(config).eval()


@pytest.fixture(scope="module")
def bank(model: EmotionCLIP) -> LinearHead:
    return zero_shot_head(model, "ab" * 32, {}, phrases=CATEGORY_PHRASES, experimental=True)


def some_features(classes: int = 7) -> FeatureSet:
    """90 features about nothing; `classes` of the emotions are there."""
    rng = np.random.default_rng(1)
    features = rng.standard_normal((90, SMALL.embed_dim))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels = np.arange(90) % classes
    return FeatureSet("one_person", features.astype(np.float32), {"emotion": labels}, ("",) * 90, {})


def test_the_categories_are_those_of_the_data_sets(bank: LinearHead):
    assert len(bank.card.labels) == 26
    assert {label.lower() for label in bank.card.labels} == {name.lower() for name in CATEGORIES}


def test_those_with_labelled_faces_are_measured_as_scikit_learn_does(model: EmotionCLIP, bank: LinearHead):
    part = some_features()
    metrics = category_metrics(zero_shot_weight(model, CATEGORY_PHRASES), part)
    assert set(metrics) == {f"one_person_auc_{name}" for name in MEANS}
    labels = part.targets["emotion"]
    for name, emotion in MEANS.items():
        scores = part.features.astype(np.float64) @ bank.weight[bank.card.labels.index(name)]
        expected = roc_auc_score(labels == emotion, scores)
        assert metrics[f"one_person_auc_{name}"] == pytest.approx(expected, abs=1e-9), name
    assert len({round(value, 6) for value in metrics.values()}) == len(MEANS)
    assert EKMAN[MEANS["aversion"]] == "disgust"


def test_what_no_face_shows_is_left_out_of_the_card(model: EmotionCLIP, bank: LinearHead, tmp_path: Path):
    """NaN is no number of JSON: a card that held it could not be read again."""
    three = some_features(classes=3)  # anger, disgust, fear
    metrics = category_metrics(zero_shot_weight(model, CATEGORY_PHRASES), three)
    assert set(metrics) == {f"one_person_auc_{name}" for name in ("anger", "aversion", "fear")}
    card = msgspec.structs.replace(bank.card, metrics=metrics)
    save_head(tmp_path, "categories", replace(bank, card=card))
    assert load_head(tmp_path, "categories").card == card


def test_the_bank_is_experimental_and_the_other_is_not(model: EmotionCLIP, bank: LinearHead):
    assert bank.card.experimental
    assert bank.card.kind == "zero_shot"
    assert not zero_shot_head(model, "", {}).card.experimental
    np.testing.assert_allclose(np.linalg.norm(bank.weight, axis=1), 1, atol=1e-5)
