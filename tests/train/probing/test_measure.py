"""Figures of a head on a set, what is left out of them, and how they differ over seeds."""

from dataclasses import replace

import numpy as np
import pytest
from feature_sets import MULTI, NAMES, SINGLE, VALUES, blobs
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    r2_score,
    roc_auc_score,
)

from emotion_runtime.errors import EmotionError
from emotion_runtime.heads import activate
from emotion_train.datasets.base import Task
from emotion_train.probing.bootstrap import cluster_indices
from emotion_train.probing.calibration import fit_temperature
from emotion_train.probing.cards import card_metrics
from emotion_train.probing.features import FeatureSet
from emotion_train.probing.fit import TaskHead, fit_task
from emotion_train.probing.measure import HeadResult, MeasureOptions, calibrated, measure, spread
from emotion_train.probing.protocol import Protocol
from emotion_train.probing.run import FitOptions, run_protocol

TRAIN = blobs(120, noise=0.6)
VAL = blobs(200, noise=0.6, name="val", seed=1)
TEST = blobs(160, noise=0.6, name="test", seed=2, size=4)
OPTIONS = MeasureOptions(0, resamples=200)


def head(task: Task) -> TaskHead:
    return fit_task(task, TRAIN, VAL, grid=(1.0,), seed=0)


def one(task: Task, part: FeatureSet = TEST, options: MeasureOptions = OPTIONS) -> HeadResult:
    (measured,) = measure(head(task), part, part.name, options)
    return measured


def with_targets(task: Task, targets: np.ndarray) -> FeatureSet:
    return replace(TEST, targets={**TEST.targets, task.name: targets})


def test_single_labels():
    measured = one(SINGLE)
    labels, predictions = TEST.targets["emotion"], head(SINGLE).logits(TEST.features).argmax(axis=1)
    metrics = measured.metrics
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predictions))
    assert metrics["weighted_f1"] == pytest.approx(f1_score(labels, predictions, average="weighted"))
    assert measured.support == (40, 40, 40, 40)
    assert (measured.samples, measured.groups) == (160, 40)
    # A resample has fewer different samples, so that its calibration error is larger: no interval.
    assert metrics.keys() - measured.intervals.keys() == {"ece", "ece_unscaled"}
    for name in ("accuracy", "weighted_f1", "recall_joy"):
        low, high = measured.intervals[name]
        assert low < metrics[name] < high
    assert metrics["ece"] != metrics["ece_unscaled"]  # by the temperature of val


def test_several_labels():
    measured = one(MULTI)
    truth, scores = TEST.targets["emotions"], head(MULTI).logits(TEST.features)
    assert measured.metrics["map"] == pytest.approx(average_precision_score(truth, scores, average="macro"))
    assert measured.metrics["auc"] == pytest.approx(roc_auc_score(truth, scores, average="macro"))
    right = [truth[row, scores[row].argmax()] for row in range(160)]
    assert measured.metrics["top1"] == pytest.approx(np.mean(right))


def test_values():
    measured = one(VALUES)
    predictions = head(VALUES).predictions(TEST.features)
    expected = r2_score(TEST.targets["vad"], predictions, multioutput="uniform_average")
    assert measured.metrics["r2"] == pytest.approx(expected)
    assert measured.metrics["mse_arousal"] == pytest.approx(
        ((predictions - TEST.targets["vad"])[:, 1] ** 2).mean()
    )


def test_groups_widen_intervals_where_they_hang_together():
    part = blobs(40, noise=0.9, name="test", seed=3)
    tenfold = FeatureSet(
        "test",
        np.repeat(part.features, 10, axis=0),
        {"emotion": np.repeat(part.targets["emotion"], 10)},
        tuple(np.repeat(part.groups, 10)),
        {},
    )
    single = replace(tenfold, groups=tuple(map(str, range(400))))
    widths = [
        float(np.diff(one(SINGLE, each, MeasureOptions(0)).intervals["accuracy"])[0])
        for each in (part, tenfold, single)
    ]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)  # the same 40 groups
    assert widths[2] == pytest.approx(widths[0] / np.sqrt(10), rel=0.2)


def test_a_class_without_examples_is_left_out_of_the_means_and_named():
    truth = TEST.targets["emotions"].copy()
    truth[:, NAMES.index("joy")] = 0
    measured = one(MULTI, with_targets(MULTI, truth))
    assert np.isnan(measured.metrics["ap_joy"])
    assert np.isnan(measured.intervals["ap_joy"]).all()
    others = [measured.metrics[f"ap_{name}"] for name in NAMES if name != "joy"]
    assert measured.metrics["map"] == pytest.approx(np.mean(others))
    assert measured.notes == ("no examples, so left out of the means over classes: joy",)


def test_resamples_without_a_rare_class_do_not_widen_the_interval():
    """One example of joy: 37 % of the resamples lack it, and their mean would be one of other classes."""
    truth = TEST.targets["emotions"].copy()
    truth[:, NAMES.index("joy")] = np.arange(160) == 7
    part = replace(with_targets(MULTI, truth), groups=tuple(map(str, range(160))))
    measured = one(MULTI, part, MeasureOptions(0))
    low, high = measured.intervals["map"]
    others = [measured.intervals[f"ap_{name}"] for name in NAMES if name != "joy"]
    best = (sum(top for _, top in others) + measured.intervals["ap_joy"][1]) / 4
    assert low < measured.metrics["map"] < high < best + 0.02


def test_a_class_that_everybody_has():
    truth = TEST.targets["emotions"].copy()
    truth[:, NAMES.index("joy")] = 1
    measured = one(MULTI, with_targets(MULTI, truth))
    assert measured.metrics["ap_joy"] == 1
    others = [measured.metrics[f"auc_{name}"] for name in NAMES if name != "joy"]
    assert measured.metrics["auc"] == pytest.approx(np.mean(others))
    assert "in every example, so left out of the mean AUC: joy" in measured.notes


def test_a_set_of_one_class_is_measured_and_says_so():
    measured = one(SINGLE, with_targets(SINGLE, np.full(160, 3)))
    assert "contains a single class, calm: its metrics are not informative" in measured.notes
    assert measured.metrics["accuracy"] == measured.metrics["balanced_accuracy"]


def test_a_set_without_any_label_has_no_mean():
    measured = one(MULTI, with_targets(MULTI, np.zeros((160, 4), np.float32)))
    assert np.isnan(measured.metrics["map"])
    assert "undefined on this set: map, auc" in measured.notes


def test_few_groups_are_warned_of():
    few = replace(TEST, groups=("a",) * 80 + ("b",) * 80)
    assert "intervals over only 2 groups are too narrow to be reliable" in one(SINGLE, few).notes
    assert not one(SINGLE, few, MeasureOptions(0, resamples=0)).intervals


def test_classes_of_few_groups_are_named():
    """20 groups of joy are enough; 3 of fear, in which there are 12 examples, are not."""
    groups = np.repeat(np.arange(40), 4)
    truth = np.where(groups < 20, NAMES.index("joy"), NAMES.index("calm"))
    truth[groups >= 37] = NAMES.index("fear")
    note = "fewer than 20 groups have an example of fear (3), calm (17): intervals of these classes"
    part = replace(with_targets(SINGLE, truth), groups=tuple(map(str, groups)))
    assert len([each for each in one(SINGLE, part).notes if each.startswith(note)]) == 1
    assert not any("groups" in each for each in one(SINGLE, part, MeasureOptions(0, resamples=0)).notes)
    several = with_targets(MULTI, np.eye(4, dtype=np.float32)[truth])
    assert any(each.startswith(note) for each in one(MULTI, replace(several, groups=part.groups)).notes)
    assert not any("groups" in each for each in one(SINGLE).notes)


def test_bad_targets_are_refused_before_they_are_measured():
    with pytest.raises(EmotionError, match="test: 160 of 160 rows have a target of vad that is NaN"):
        one(VALUES, with_targets(VALUES, np.full((160, 2), np.nan)))


def test_on_the_set_of_its_temperature_each_half_has_that_of_the_other():
    fitted = head(SINGLE)
    part = blobs(200, noise=0.6, name="val", seed=1, size=4)
    clusters = cluster_indices(part.groups)
    predictions, notes = calibrated(fitted, part, clusters, seed=3)
    assert "each half of the groups of val" in notes[0]
    logits, labels = fitted.logits(part.features), part.targets["emotion"]
    temperatures = np.empty(200)
    for row in range(200):  # the temperature that turns the logits into the prediction
        low, high = predictions[row].argmin(), predictions[row].argmax()
        gap = logits[row, high] - logits[row, low]
        temperatures[row] = gap / np.log(predictions[row, high] / predictions[row, low])
    found = np.unique(temperatures.round(6))
    assert len(found) == 2
    for temperature in found:
        rows = np.abs(temperatures - temperature) < 1e-5
        assert len(set(clusters[rows]) & set(clusters[~rows])) == 0
        assert 80 <= rows.sum() <= 120
        assert temperature == pytest.approx(fit_temperature(logits[~rows], labels[~rows]), abs=1e-4)
    other, notes = calibrated(fitted, TEST, cluster_indices(TEST.groups), seed=3)
    np.testing.assert_array_equal(
        other, activate(fitted.logits(TEST.features), "softmax", fitted.temperature)
    )
    assert notes == ()


def test_metrics_of_the_set_that_chose_c_are_noted_as_optimistic():
    chosen = fit_task(SINGLE, TRAIN, VAL, grid=(0.3, 1.0), seed=0)
    notes = {part.name: measure(chosen, part, part.name, OPTIONS)[0].notes for part in (VAL, TEST)}
    assert "C was chosen on val itself, so these metrics are optimistic" in notes["val"]
    assert notes["test"] == ()


def test_a_set_of_one_group_cannot_be_halved():
    part = replace(VAL, groups=("film",) * 200)
    predictions, notes = calibrated(head(SINGLE), part, cluster_indices(part.groups), seed=0)
    assert "whose single group cannot be split in two" in notes[0]
    assert np.isfinite(predictions).all()


def test_spread_by_hand():
    runs = [{"test": {"accuracy": 0.5}}, {"test": {"accuracy": 0.75}}]
    found = spread(runs)["test"]["accuracy"]
    assert found == {"mean": 0.625, "std": pytest.approx(0.125 * np.sqrt(2))}


def test_each_seed_has_its_own_draws_and_the_first_ones_heads_are_kept():
    def load_set(name: str, seed: int) -> FeatureSet:
        number = {"train": 0, "val": 1, "test": 2}[name]
        return blobs(80, noise=0.8, name=name, seed=10 * seed + number)

    protocol = Protocol("train", "val", ("val", "test"), c=1.0)
    outcome = run_protocol([SINGLE], protocol, load_set, FitOptions((1, 2, 3), (1.0,), 50))
    accuracies = []
    for seed in (1, 2, 3):
        alone = fit_task(SINGLE, load_set("train", seed), load_set("val", seed), grid=(1.0,), seed=seed)
        part = load_set("test", seed)
        accuracies.append((alone.logits(part.features).argmax(axis=1) == part.targets["emotion"]).mean())
        if seed == 1:
            np.testing.assert_array_equal(outcome.heads[0].weight, alone.weight)
    # Sets of several tasks say in their names which one was measured.
    first = {result.name: result.metrics for result in outcome.measured}["test_emotion"]
    assert first["accuracy"] == pytest.approx(accuracies[0])
    over = outcome.spread["test_emotion"]["accuracy"]
    assert over["mean"] == pytest.approx(np.mean(accuracies))
    assert over["std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert over["std"] > 0


def test_metrics_of_rows_that_the_head_was_fitted_on_are_called_so_and_are_not_on_its_card():
    for task in (SINGLE, MULTI, VALUES):
        fitted, unseen = one(task, TRAIN), one(task)
        assert any("fitted on these rows" in note for note in fitted.notes)
        assert not any("fitted on these rows" in note for note in unseen.notes)
        metrics = card_metrics([fitted, unseen], task)
        assert metrics
        assert all(name.startswith("test_") for name in metrics)
