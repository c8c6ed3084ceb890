"""Heads that show no label when they are uncertain, and experimental heads."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_runs import write_video

from emotion_runtime import EmotionRuntime
from emotion_runtime.bundle import load_bundle
from emotion_runtime.cli import main
from emotion_runtime.errors import EmotionError
from emotion_runtime.heads import load_head
from emotion_runtime.manifest import Head, write_manifest
from emotion_runtime.preprocess import patch_weights, subject_window
from emotion_runtime.timing import Timing
from emotion_runtime.types import Detections, Person

BOX = (20, 40, 60, 90)
RED_BGR, GREY_BGR, BLUE_BGR = (30, 20, 220), (120, 120, 120), (210, 40, 10)
Prediction = Callable[..., np.ndarray]


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "bundle.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def with_abstain(folder: Path, threshold: float) -> Path:
    edit(folder, lambda manifest: manifest["heads"]["probe"].update(abstain=threshold))
    return folder


def people(folder: Path, colors: list[tuple[int, int, int]], smoothing: float = 0.8) -> list[Person]:
    """Run one person through the runtime, 10 frames per second, each frame in one colour."""

    def detect(_: np.ndarray) -> Detections:
        return Detections(np.array([BOX], np.float32), np.array([0.9], np.float32))

    runtime = EmotionRuntime(folder, detect, "cpu", timing=Timing(smoothing=smoothing))
    events = [
        runtime.step(np.full((160, 320, 3), color, np.uint8), index / 10)
        for index, color in enumerate(colors)
    ]
    return [person for event in events for person in event.persons]


def probabilities(folder: Path, prediction: Prediction, color: tuple[int, int, int]) -> np.ndarray:
    """Return the probabilities for a frame of one colour, by the formulas of the tiny bundle."""
    spec = load_bundle(folder).manifest.preprocess
    weights = patch_weights(BOX, subject_window(BOX, 160, 320, spec), spec)
    return prediction(np.array([*(channel / 255 for channel in reversed(color)), weights.mean()]))


@pytest.mark.parametrize("color", [RED_BGR, BLUE_BGR])
def test_label_below_the_threshold_is_not_shown(
    folder: Path, prediction: Prediction, color: tuple[int, int, int]
):
    expected = probabilities(folder, prediction, color)
    label = load_bundle(folder).manifest.heads["probe"].labels[int(expected.argmax())]
    for threshold, top in ((expected.max() - 0.03, label), (expected.max() + 0.01, None)):
        persons = people(with_abstain(folder, threshold), [color] * 8)
        assert persons[-1].state == "steady"
        for person in persons:
            assert person.top == (top if person.state == "steady" else None)
            assert list(person.emotions.values()) == pytest.approx(
                expected, abs=2e-3
            )  # probabilities are always given
            assert list(person.raw.values()) == pytest.approx(expected, abs=2e-3)


def test_smoothed_probability_decides(folder: Path):
    """A label is shown while its smoothed probability is high enough, from certain to uncertain and back."""
    colors = [RED_BGR] * 8 + [BLUE_BGR] * 16 + [RED_BGR] * 16
    without = people(folder, colors)
    shown = [person.emotions[person.top] for person in without if person.top]
    threshold = (min(shown) + max(shown)) / 2
    abstaining = people(with_abstain(folder, threshold), colors)
    tops = []
    for before, after in zip(without, abstaining, strict=True):
        assert (after.emotions, after.raw, after.state) == (before.emotions, before.raw, before.state)
        tops.append(after.top)
        if after.state == "steady":
            highest = max(after.emotions.values())
            assert after.top is None or after.emotions[after.top] >= threshold
            assert after.top or highest < threshold + Timing().hysteresis
            assert after.why == (None if after.top else "uncertain")
    assert None in tops[-30:]
    assert "anger" in tops
    raw = [p.raw[p.top] >= threshold for p in without if p.top]
    assert raw != [value >= threshold for value in shown]  # the raw probability would give another result


def test_head_has_the_threshold_of_the_manifest(folder: Path):
    assert load_head(load_bundle(with_abstain(folder, 0.375))).abstain == 0.375
    assert load_head(load_bundle(folder), "opposite").abstain == 0


# --- bundles


def test_bundle_without_a_threshold_loads(folder: Path):
    heads = json.loads((folder / "bundle.json").read_text())["heads"]
    before = {"kind", "file", "sha256", "labels", "activation", "temperature", "metrics"}
    for head in heads.values():
        assert set(head) == before  # as written before there was a threshold; the default is not written
    for name, head in load_bundle(folder).manifest.heads.items():
        assert (head.abstain, head.experimental) == (0.0, False), name
    assert all(person.top for person in people(folder, [GREY_BGR] * 8) if person.state == "steady")


def test_threshold_and_experimental_flag_survive_a_round_trip(folder: Path, tmp_path: Path):
    edit(folder, lambda manifest: manifest["heads"]["probe"].update(abstain=0.25, experimental=True))
    manifest = load_bundle(folder).manifest
    head = manifest.heads["probe"]
    assert isinstance(head, Head)
    assert (head.abstain, head.experimental) == (0.25, True)
    written = json.loads(write_manifest(manifest, tmp_path).read_text())["heads"]["probe"]
    assert (written["abstain"], written["experimental"]) == (0.25, True)


@pytest.mark.parametrize(("key", "value"), [("abstain", "high"), ("experimental", 1), ("uncertain", 0.5)])
def test_wrong_keys_and_types_are_rejected(folder: Path, key: str, value: object):
    edit(folder, lambda manifest: manifest["heads"]["probe"].update({key: value}))
    with pytest.raises(EmotionError, match=r"bundle\.json") as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)


# --- experimental heads


@pytest.fixture
def with_categories(folder: Path) -> Path:
    """Return the bundle with an experimental head beside its own two."""

    def add(manifest: dict) -> None:
        manifest["heads"]["categories"] = manifest["heads"]["opposite"] | {"experimental": True}

    edit(folder, add)
    return folder


@pytest.mark.parametrize(("head", "expected"), [(None, False), ("opposite", False), ("categories", True)])
def test_runtime_reports_whether_its_head_is_experimental(
    with_categories: Path, fixed_detector: Path, head: str | None, *, expected: bool
):
    assert EmotionRuntime(with_categories, fixed_detector, "cpu", head=head).experimental is expected


@pytest.mark.parametrize("default", [False, True])
def test_command_line_reports_an_experimental_head_in_one_line(
    with_categories: Path,
    fixed_detector: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    default: bool,
):
    flags = ["--head", "categories"]
    if default:
        edit(with_categories, lambda manifest: manifest.update(default_head="categories"))
        flags = []
    video, jsonl = write_video(tmp_path / "red.avi", 5), tmp_path / "out.jsonl"
    model = ["--bundle", str(with_categories), "--detector", str(fixed_detector), "--backend", "cpu"]
    argv = ["--source", str(video), *model, "--jsonl", str(jsonl)]
    assert main([*argv, *flags]) == 0
    first, *_, summary = capsys.readouterr().err.splitlines()
    assert "is experimental: see the model card for its accuracy" in first
    assert first.startswith("emotion-runtime: the ")
    assert ("categories" in first) or default
    assert "None" not in first
    assert summary.startswith("emotion-runtime: 5 frames")
    assert main([*argv, "--head", "opposite"]) == 0
    *_, summary = capsys.readouterr().err.splitlines()
    assert "experimental" not in summary
    assert len(jsonl.read_text().splitlines()) == 1 + 5  # the first line is about the run
