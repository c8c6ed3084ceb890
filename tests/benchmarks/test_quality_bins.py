"""Accuracy by quality of the view: who is counted in which bin, and what is measured in it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_bench import quality_bins
from emotion_bench.candidates import Candidate
from emotion_bench.quality_bins import BINS, bin_names, measure, quality_png, table
from emotion_runtime.bundle import load_bundle
from emotion_runtime.manifest import QualityLimits
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.views import Condition, shrunk

COUNT = 40


class _Nothing:
    """An encoder whose features are all alike."""

    spec: PreprocessSpec = load_bundle("nano").manifest.preprocess

    def features(
        self, images: NDArray[np.uint8], patch_weights: NDArray[np.float32], kind: str
    ) -> NDArray[np.float32]:
        del patch_weights, kind
        return np.ones((len(images), 1), np.float32)


def anger(features: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.tile(0.8 * np.eye(7)[0] + 0.2 / 7, (len(features), 1))


def faces() -> Faces:
    images = np.random.default_rng(0).integers(0, 255, (COUNT, 48, 48), dtype=np.uint8)
    return Faces.of_labels(images, np.arange(COUNT) % 2)  # every second one is angry


def test_bins_have_names_for_both_ends():
    assert bin_names((16, 24, 32)) == ["under 16", "16 to 24", "24 to 32", "32 or more"]


def test_every_view_is_within_or_outside_the_limits_and_in_one_bin_of_what_is_lifted():
    lifted = QualityLimits(head_px=0, sharpness=0, inside=0, frontal=0)
    result = measure(Candidate("all angry", _Nothing(), anger), faces(), lifted, seed=0)
    assert (result["within"]["views"], result["outside"]["views"]) == (COUNT, 0)
    for rows in result["bins"].values():
        assert sum(row["views"] for row in rows) == COUNT
    limits = QualityLimits(head_px=40, sharpness=0.5, inside=0.9)
    result = measure(Candidate("all angry", _Nothing(), anger), faces(), limits, seed=0)
    assert result["within"]["views"] + result["outside"]["views"] == COUNT
    assert 0 < result["within"]["views"] < COUNT
    for field, rows in result["bins"].items():
        good = sum(row["views"] for row, least in zip(rows, (0, *BINS[field]), strict=True) if least > 0)
        assert good >= result["within"]["views"] - rows[0]["views"]


def test_the_calibration_error_is_the_gap_between_confidence_and_votes(monkeypatch: pytest.MonkeyPatch):
    view = shrunk(100).view
    assert view is not None
    monkeypatch.setattr(quality_bins, "_varied", Condition(view=view).view)
    lifted = QualityLimits(head_px=0, sharpness=0, inside=0, frontal=0)
    row = measure(Candidate("all angry", _Nothing(), anger), faces(), lifted, seed=0)["within"]
    confidence = 0.8 + 0.2 / 7
    assert row["accuracy"] == row["votes"] == 0.5
    assert row["confidence"] == pytest.approx(confidence, abs=1e-4)
    assert row["ece"] == pytest.approx(confidence - 0.5, abs=1e-4)


def test_the_report_has_a_row_per_bin_and_a_plot_even_where_bins_are_empty():
    limits = QualityLimits(head_px=1000)
    result = measure(Candidate("all angry", _Nothing(), anger), faces(), limits, seed=0)
    assert result["within"]["accuracy"] is None
    assert len(table(result).splitlines()) == 2 + sum(len(edges) + 1 for edges in BINS.values()) + 2
    assert quality_png(result, "made").startswith(b"\x89PNG")
