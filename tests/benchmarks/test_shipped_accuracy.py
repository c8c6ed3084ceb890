"""The shipped bundle is worth what its model card says: measured again, through the whole runtime."""

import json
from pathlib import Path

import numpy as np
import pytest

import bench_accuracy
from emotion_bench import through_runtime
from emotion_bench.accuracy_sets import Plan
from emotion_runtime.bundle import load_bundle
from emotion_runtime.runtime import EmotionRuntime
from emotion_train.scenes.faces import load_faces

pytestmark = pytest.mark.slow

ONE_POINT = 0.01


@pytest.mark.slow
def test_300_faces_through_the_whole_runtime(shared_data: Path):
    """One minute: frames in, events out, no torch between them."""
    recorded = json.loads((bench_accuracy.RESULTS / "nano" / "accuracy.json").read_text())
    manifest = load_bundle("nano").manifest
    assert manifest.checkpoint_sha256 == recorded["bundle"]["checkpoint"], "measure the new bundle"
    everyone = load_faces(shared_data / "data" / "fer2013_plus.npz", "test").by_majority()
    faces = through_runtime.subset(everyone.take(np.flatnonzero(everyone.clear)))
    plan = Plan(faces, manifest.preprocess, manifest.clip_frames, manifest.clip_seconds, bench_accuracy.SEED)
    with EmotionRuntime(backend="cpu") as runtime:
        measured = through_runtime.accuracy(runtime, plan)
    card = recorded["through_runtime"]
    assert measured["persons"] == card["persons"] == through_runtime.SUBSET
    assert abs(measured["accuracy"] - card["accuracy"]) <= ONE_POINT
    assert abs(measured["found"] - card["found"]) <= ONE_POINT
