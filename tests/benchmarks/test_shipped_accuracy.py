"""The shipped bundle is worth what its model card says: measured again, through the whole runtime."""

import json
from pathlib import Path

import numpy as np
import pytest

import bench_accuracy
from emotion_bench import through_runtime
from emotion_bench.accuracy_sets import Plan
from emotion_bench.report import RESULTS
from emotion_runtime.bundle import load_bundle
from emotion_runtime.runtime import EmotionRuntime
from emotion_train.scenes.faces import load_faces


# Of one and two people in turn.
@pytest.mark.parametrize(
    ("clips", "people"),
    [pytest.param(30, 45, marks=pytest.mark.slow), pytest.param(None, 300, marks=pytest.mark.nightly)],
)
def test_300_faces_through_the_whole_runtime(shared_data: Path, clips: int | None, people: int):
    """Frames in, events out, no torch between them: person by person what the model card's number counts."""
    recorded = json.loads((RESULTS / "nano" / "accuracy.json").read_text())
    manifest = load_bundle("nano").manifest
    assert manifest.checkpoint_sha256 == recorded["bundle"]["checkpoint"], "measure the new bundle"
    everyone = load_faces(shared_data / "data" / "fer2013_plus.npz", "test").by_majority()
    faces = through_runtime.subset(everyone.take(np.flatnonzero(everyone.clear)))
    plan = Plan(faces, manifest.preprocess, manifest.clip_frames, manifest.clip_seconds, bench_accuracy.SEED)
    with EmotionRuntime(backend="cpu") as runtime:
        measured = through_runtime.accuracy(runtime, plan, clips=clips)
    outcomes = recorded["through_runtime"]["outcomes"]
    assert len(outcomes) == recorded["through_runtime"]["persons"] == through_runtime.SUBSET
    assert measured["persons"] == people
    # Another processor rounds otherwise, which may tip one of a hundred over.
    assert sum(a != b for a, b in zip(measured["outcomes"], outcomes, strict=False)) <= max(1, people // 100)


def test_the_recorded_accuracy_is_that_of_the_recorded_outcomes():
    card = json.loads((RESULTS / "nano" / "accuracy.json").read_text())["through_runtime"]
    right, wrong, missed = (card["outcomes"].count(mark) for mark in "10-")
    assert right + wrong + missed == card["persons"]
    assert card["accuracy"] == pytest.approx(right / (right + wrong))
    assert card["found"] == pytest.approx((right + wrong) / card["persons"])
