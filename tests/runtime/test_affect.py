"""Valence, arousal and dominance: the regression head of a bundle, from the manifest to the event."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from emotion_runtime import EmotionRuntime
from emotion_runtime.bundle import load_bundle, sha256_of
from emotion_runtime.errors import EmotionError
from emotion_runtime.heads import load_affect_head, load_head
from emotion_runtime.types import Detections, Person

LABELS = ["valence", "arousal"]
WEIGHT = np.array([[2, -1, 0.5, 0], [0, 3, -2, 1]], np.float32)
BIAS = np.array([5, 4.5], np.float32)
RAMP = (0.1, 0.2, 0.3, 0.4)  # weights of the tiny temporal encoder
SPACING, TIME_CONSTANT = 0.2, 0.8  # seconds between two encodings; default smoothing
BOX = (20, 40, 60, 90)


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny bundle with an affect head."""
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    save_file({"weight": WEIGHT, "bias": BIAS}, copy / "affect.safetensors")
    head = {
        "kind": "probe",
        "file": "affect.safetensors",
        "sha256": sha256_of(copy / "affect.safetensors"),
        "labels": LABELS,
        "activation": "identity",
        "temperature": 1.0,
        "metrics": {},
    }

    def add(manifest: dict) -> None:
        manifest["heads"]["vad"] = head
        manifest["affect_head"] = "vad"

    edit(copy, add)
    return copy


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "bundle.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def frame(gray: int) -> np.ndarray:
    return np.full((160, 320, 3), gray, np.uint8)


def people(folder: Path, grays: list[int]) -> list[Person]:
    """Run one person through the runtime, 10 frames per second, each frame in one grey."""

    def detect(_: np.ndarray) -> Detections:
        return Detections(np.array([BOX], np.float32), np.array([0.9], np.float32))

    runtime = EmotionRuntime(folder, detect, "cpu")
    events = [runtime.step(frame(gray), index / 10) for index, gray in enumerate(grays)]
    return [person for event in events for person in event.persons]


def values_of(embeddings: list[np.ndarray]) -> np.ndarray:
    """Return the values of the affect head for a clip, computed in plain steps."""
    clip = [embeddings[0]] * (len(RAMP) - len(embeddings)) + embeddings[-len(RAMP) :]
    feature = [sum(weight * e[i] for weight, e in zip(RAMP, clip, strict=True)) for i in range(4)]
    length = math.sqrt(sum(x * x for x in feature))
    return np.array(
        [sum(w * x / length for w, x in zip(row, feature, strict=True)) for row in WEIGHT.tolist()]
    ) + BIAS.astype(float)


def test_values_follow_the_formula_and_are_smoothed(folder: Path):
    grays = [200] * 5 + [40] * 2  # encoded when confirmed at 0.2 s, then every 0.2 s
    persons = people(folder, grays)
    last = persons[-1]
    covered = mean_patch_weight(folder)
    first, second, third = (np.array([g / 255] * 3 + [covered]) for g in (200, 200, 40))
    steps = [values_of([first]), values_of([first, second]), values_of([first, second, third])]
    expected = steps[0]
    for step in steps[1:]:
        expected = step + math.exp(-SPACING / TIME_CONSTANT) * (expected - step)
    assert not np.allclose(steps[-1], expected, atol=0.01)  # the smoothing has an effect
    assert (last.valence, last.arousal) == pytest.approx(tuple(expected), abs=2e-3)
    assert last.dominance is None  # no such label
    assert sum(last.emotions.values()) == pytest.approx(1)


def mean_patch_weight(folder: Path) -> float:
    """Return the mean patch weight of BOX in its window, counted pixel by pixel."""
    spec = load_bundle(folder).manifest.preprocess
    assert spec.subject_scale is not None
    side = round(spec.subject_scale * math.sqrt(40 * 50))
    left, top = round(40 - side / 2), round(65 - side / 2)
    scale = spec.size / side
    inside = 0
    for y in range(spec.size):
        for x in range(spec.size):
            right = math.floor((20 - left) * scale) <= x < math.ceil((60 - left) * scale)
            inside += right and math.floor((40 - top) * scale) <= y < math.ceil((90 - top) * scale)
    return inside / spec.size**2


def test_values_are_none_before_the_first_encoding_and_without_a_head(folder: Path, tiny_bundle: Path):
    def has_values(person: Person) -> bool:
        values = (person.valence, person.arousal)
        assert (values == (None, None)) == (not person.emotions)
        return values != (None, None)

    persons = people(folder, [100] * 6)
    assert any(has_values(person) for person in persons)
    for person in people(tiny_bundle, [100] * 6):
        assert (person.valence, person.arousal, person.dominance) == (None, None, None)


def test_bundle_without_the_key_has_no_affect_head(tiny_bundle: Path, folder: Path):
    manifest = json.loads((tiny_bundle / "bundle.json").read_text())
    edit(folder, lambda changed: (changed.pop("affect_head"), changed["heads"].pop("vad")))
    assert load_affect_head(load_bundle(folder)) is None
    assert manifest.get("affect_head") is None


def test_affect_head_cannot_be_used_as_emotion_head(folder: Path):
    bundle = load_bundle(folder)
    affect = load_affect_head(bundle)
    assert affect is not None
    np.testing.assert_array_equal(affect.weight, WEIGHT)
    with pytest.raises(EmotionError, match=r"head 'vad' of bundle tiny predicts values.*probe, opposite$"):
        load_head(bundle, "vad")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"affect_head": "mood"}, "affect head 'mood' is not one of its heads (probe, opposite, vad)"),
        ({"affect_head": "probe"}, "affect head 'probe' has the activation softmax"),
        ({"default_head": "vad"}, "default head 'vad' is a regression"),
        ({"labels": ["valence", "joy"]}, "labels valence, joy, expected identity and some of valence"),
        ({"temperature": 2.0}, "head vad: temperature 2.0, expected 1 for a regression"),
    ],
)
def test_invalid_affect_head_in_the_manifest(folder: Path, changes: dict, message: str):
    def change(manifest: dict) -> None:
        for key, value in changes.items():
            (manifest if key in manifest else manifest["heads"]["vad"])[key] = value

    edit(folder, change)
    with pytest.raises(EmotionError) as caught:
        load_bundle(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
