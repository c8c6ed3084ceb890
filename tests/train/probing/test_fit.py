"""What is chosen where, and what cannot be fitted."""

import logging
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from feature_sets import MULTI, NAMES, SINGLE, VALUES, blobs
from sklearn.metrics import average_precision_score

from emotion_runtime.errors import EmotionError
from emotion_train.datasets.base import Task
from emotion_train.probing.calibration import fit_temperature
from emotion_train.probing.cards import as_linear_head
from emotion_train.probing.classifiers import fit_logistic, fit_one_vs_rest
from emotion_train.probing.features import FeatureSet
from emotion_train.probing.fit import TaskHead, fit_task
from emotion_train.probing.protocol import C_GRID, PROTOCOLS, SEED, protocol_of

TRAIN, VAL = blobs(60, noise=0.8), blobs(400, noise=0.8, name="val", seed=1)


def fit(task: Task, train: FeatureSet = TRAIN, val: FeatureSet = VAL, **options: Any) -> TaskHead:
    return fit_task(task, train, val, **({"grid": (1.0,), "seed": 0} | options))


def with_targets(part: FeatureSet, task: Task, targets: np.ndarray) -> FeatureSet:
    return replace(part, targets={**part.targets, task.name: targets})


def test_constants_of_the_protocol():
    """The table of the facts file, row by row."""
    assert SEED == 2022
    assert {name: p.c for name, p in PROTOCOLS.items()} == {
        "bold": 3.16,
        "moviegraphs": 10,
        "meld": 8,
        "emotic": 2.5,
        "liris": None,  # Ridge only
        "table": None,
        "scenes": None,
    }
    assert {name for name, p in PROTOCOLS.items() if p.features == "image"} == {"emotic"}
    assert {name for name, p in PROTOCOLS.items() if p.smoothed} == {"liris"}
    assert {name: p.measured for name, p in PROTOCOLS.items()} == {
        "bold": ("val",),
        "moviegraphs": ("val", "test"),
        "meld": ("dev", "test"),
        "emotic": ("val", "test"),
        "liris": ("test",),
        "table": ("val", "test"),
        "scenes": ("one_person", "two_or_three"),
    }


def test_an_unknown_data_set_is_named():
    with pytest.raises(EmotionError, match="unknown data set 'aff-wild': choose one of bold, moviegraphs"):
        protocol_of("aff-wild")


def test_the_regularisation_of_best_validation_accuracy_wins(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "emotion_train")
    head = fit(SINGLE, grid=C_GRID)
    labels = VAL.targets["emotion"]
    accuracies = {}
    for c in C_GRID:
        weight, bias = fit_logistic(TRAIN.features, TRAIN.targets["emotion"], c=c, seed=0)
        accuracies[c] = float(((VAL.features @ weight.T + bias).argmax(axis=1) == labels).mean())
    assert len(set(accuracies.values())) > 1
    assert accuracies[head.c] == max(accuracies.values())
    assert len(caplog.messages) == len(C_GRID)
    assert head.temperature == fit_temperature(head.logits(VAL.features), labels)
    assert (head.activation, head.tuned_on) == ("softmax", "val")


def test_of_several_labels_the_mean_precision_decides():
    head = fit(MULTI, grid=C_GRID)
    maps = {}
    for c in C_GRID:
        weight, bias = fit_one_vs_rest(TRAIN.features, TRAIN.targets["emotions"], c=c, seed=0)
        scores = VAL.features @ weight.T + bias
        maps[c] = np.mean(
            [average_precision_score(VAL.targets["emotions"][:, n], scores[:, n]) for n in range(4)]
        )
    assert maps[head.c] == max(maps.values())
    assert head.activation == "sigmoid"
    assert head.temperature == fit_temperature(head.logits(VAL.features), VAL.targets["emotions"], "sigmoid")


def test_a_head_of_one_label_abstains_where_a_tenth_of_the_tuning_set_is_less_sure():
    """By the calibrated probabilities, as the runtime compares them."""
    head = fit(SINGLE)
    scaled = (VAL.features.astype(float) @ head.weight.T + head.bias) / head.temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    sure = np.sort((powers / powers.sum(axis=1, keepdims=True)).max(axis=1))
    place = 0.1 * (len(sure) - 1)  # between the two samples about the tenth part
    low = int(place)
    assert head.abstain == pytest.approx(sure[low] + (place - low) * (sure[low + 1] - sure[low]), abs=1e-9)
    uncalibrated = np.exp(scaled * head.temperature)
    assert abs(head.temperature - 1) > 0.05
    assert np.quantile((uncalibrated / uncalibrated.sum(1, keepdims=True)).max(1), 0.1) != pytest.approx(
        head.abstain, abs=1e-3
    )
    card = as_linear_head(head, {}, "ab" * 32, "video", "bold").card
    assert (card.abstain, card.experimental) == (head.abstain, False)
    assert fit(MULTI).abstain == fit(VALUES).abstain == 0


def test_predictions_follow_the_formula_of_bundles():
    head = fit(SINGLE)
    scaled = (VAL.features.astype(float) @ head.weight.T + head.bias) / head.temperature
    powers = np.exp(scaled)
    np.testing.assert_allclose(head.predictions(VAL.features), powers / powers.sum(axis=1, keepdims=True))
    values = fit(VALUES)
    assert (values.activation, values.temperature, values.c) == ("identity", 1, None)
    np.testing.assert_allclose(
        values.predictions(VAL.features), VAL.features.astype(float) @ values.weight.T + values.bias
    )


@pytest.mark.parametrize(
    ("task", "where", "targets", "said"),
    [
        (SINGLE, "train", np.full(60, 2), "train holds a single class of emotion, fear: expected rows of"),
        (SINGLE, "train", np.arange(60) % 2, "there are no clips of fear, calm to fit the probe on"),
        (SINGLE, "train", np.arange(60) % 5, "targets of emotion are from 0 to 4: expected indices of its 4"),
        (VALUES, "train", np.full((60, 2), np.nan), "train: 60 of 60 rows have a target of vad that is NaN"),
        (VALUES, "val", np.where(np.arange(800) == 5, np.inf, 0).reshape(400, 2), "val: 1 of 400 rows"),
        (MULTI, "val", np.full((400, 4), np.nan), "val: 400 of 400 rows have a target of emotions"),
    ],
)
def test_targets_that_cannot_be_learned_from(task: Task, where: str, targets: np.ndarray, said: str):
    parts = {"train": TRAIN, "val": VAL}
    parts[where] = with_targets(parts[where], task, targets)
    with pytest.raises(EmotionError) as caught:
        fit(task, *parts.values())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["train", "val"])
def test_an_empty_split(where: str):
    empty = FeatureSet(where, np.zeros((0, 8), np.float32), {"emotion": np.zeros(0, np.int64)}, (), {})
    parts = {"train": TRAIN, "val": VAL} | {where: empty}
    with pytest.raises(EmotionError, match=f"^{where} is empty: expected rows to fit or measure emotion"):
        fit(SINGLE, *parts.values())


def test_a_class_without_examples_is_named_and_predicted_constantly():
    targets = TRAIN.targets["emotions"].copy()
    targets[:, NAMES.index("fear")] = 0
    head = fit(MULTI, with_targets(TRAIN, MULTI, targets))
    assert len(head.notes) == 1
    assert (
        "all or none of the rows of train are examples of fear: its prediction is constant" in head.notes[0]
    )
    predictions = head.predictions(VAL.features)
    assert np.ptp(predictions[:, NAMES.index("fear")]) == 0
    assert (np.ptp(predictions, axis=0) > 0).sum() == 3


def test_a_solver_that_did_not_converge_is_noted(monkeypatch: pytest.MonkeyPatch):
    assert fit(SINGLE).notes == ()
    monkeypatch.setattr("emotion_train.probing.classifiers.MAX_ITER", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (note,) = fit(SINGLE).notes
    assert "the solver stopped after" in note


def test_a_temperature_out_of_bounds_is_noted():
    """On val, what is likeliest is always wrong: no temperature is high enough."""
    wrong = with_targets(VAL, SINGLE, (fit(SINGLE).logits(VAL.features).argmax(axis=1) + 1) % 4)
    (note,) = fit(SINGLE, TRAIN, wrong).notes
    assert "the best temperature on val is out of bounds: 20.1 is used" in note


def test_the_set_that_decides_on_c_is_remembered():
    assert fit(SINGLE).chosen_on is None
    assert fit(SINGLE, grid=(0.1, 1.0)).chosen_on == "val"
