"""Heads that give no label when they are unsure, and heads that are experimental."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_cli import write_video

from emotion_runtime import EmotionRuntime
from emotion_runtime.bundle import load_bundle
from emotion_runtime.cli import main
from emotion_runtime.errors import EmotionError
from emotion_runtime.heads import load_head
from emotion_runtime.manifest import Head, write_manifest
from emotion_runtime.pipeline import Timing
from emotion_runtime.preprocess import patch_weights, subject_window
from emotion_runtime.types import Detections, Person

BOX = (20, 40, 60, 90)
RED_BGR, GREY_BGR, BLUE_BGR = (30, 20, 220), (120, 120, 120), (210, 40, 10)
Answer = Callable[..., np.ndarray]


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
    """One person through the runtime, 10 frames a second, in pictures of one colour."""

    def detect(_: np.ndarray) -> Detections:
        return Detections(np.array([BOX], np.float32), np.array([0.9], np.float32))

    runtime = EmotionRuntime(folder, detect, "cpu", timing=Timing(smoothing=smoothing))
    events = [
        runtime.step(np.full((160, 320, 3), color, np.uint8), index / 10)
        for index, color in enumerate(colors)
    ]
    return [person for event in events for person in event.persons]


def probabilities(folder: Path, answer: Answer, color: tuple[int, int, int]) -> np.ndarray:
    """Of a picture of one colour, by the formulas of the tiny bundle."""
    spec = load_bundle(folder).manifest.preprocess
    weights = patch_weights(BOX, subject_window(BOX, 160, 320, spec), spec)
    return answer(np.array([*(channel / 255 for channel in reversed(color)), weights.mean()]))


@pytest.mark.parametrize("color", [RED_BGR, BLUE_BGR])
def test_a_label_under_the_threshold_is_not_given(folder: Path, answer: Answer, color: tuple[int, int, int]):
    expected = probabilities(folder, answer, color)
    label = load_bundle(folder).manifest.heads["probe"].labels[int(expected.argmax())]
    for threshold, top in ((expected.max() - 0.01, label), (expected.max() + 0.01, None)):
        persons = people(with_abstain(folder, threshold), [color] * 8)
        answered = [person for person in persons if person.emotions]
        assert answered
        for person in answered:
            assert person.top == top
            assert list(person.emotions.values()) == pytest.approx(expected, abs=2e-3)  # given all the same
            assert list(person.raw.values()) == pytest.approx(expected, abs=2e-3)


def test_it_is_the_smoothed_probability_that_decides(folder: Path):
    """From sure to unsure and back: a label is given when what is shown of it reaches the threshold."""
    colors = [RED_BGR] * 8 + [BLUE_BGR] * 16 + [RED_BGR] * 16
    sure = people(folder, colors)
    shown = [person.emotions[person.top] for person in sure if person.top]
    threshold = (min(shown) + max(shown)) / 2
    unsure = people(with_abstain(folder, threshold), colors)
    given = []
    for before, after in zip(sure, unsure, strict=True):
        assert (after.emotions, after.raw, after.state) == (before.emotions, before.raw, before.state)
        taken_back = threshold - Timing().hysteresis
        least = taken_back if given and given[-1] is not None else threshold
        likely = before.top is not None and before.emotions[before.top] >= least
        assert after.top == (before.top if likely else None)
        given.append(after.top)
    assert None in given[-30:]
    assert "anger" in given
    raw = [p.raw[p.top] >= threshold for p in sure if p.top]
    assert raw != [value >= threshold for value in shown]  # the raw one would decide otherwise


def test_the_head_of_a_bundle_has_the_manifests_threshold(folder: Path):
    assert load_head(load_bundle(with_abstain(folder, 0.375))).abstain == 0.375
    assert load_head(load_bundle(folder), "opposite").abstain == 0


# --- bundles


def test_a_bundle_of_before_says_nothing_of_it_and_loads(folder: Path):
    heads = json.loads((folder / "bundle.json").read_text())["heads"]
    before = {"kind", "file", "sha256", "labels", "activation", "temperature", "metrics"}
    for head in heads.values():
        assert set(head) == before  # as written before there was a threshold; and none is written now
    for name, head in load_bundle(folder).manifest.heads.items():
        assert (head.abstain, head.experimental) == (0.0, False), name
    assert all(person.top for person in people(folder, [GREY_BGR] * 8) if person.emotions)


def test_threshold_and_note_survive_the_disk(folder: Path, tmp_path: Path):
    edit(folder, lambda manifest: manifest["heads"]["probe"].update(abstain=0.25, experimental=True))
    manifest = load_bundle(folder).manifest
    head = manifest.heads["probe"]
    assert isinstance(head, Head)
    assert (head.abstain, head.experimental) == (0.25, True)
    written = json.loads(write_manifest(manifest, tmp_path).read_text())["heads"]["probe"]
    assert (written["abstain"], written["experimental"]) == (0.25, True)


@pytest.mark.parametrize(("key", "value"), [("abstain", "high"), ("experimental", 1), ("unsure", 0.5)])
def test_other_words_for_it_are_refused(folder: Path, key: str, value: object):
    edit(folder, lambda manifest: manifest["heads"]["probe"].update({key: value}))
    with pytest.raises(EmotionError, match=r"bundle\.json") as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)


# --- experimental heads


@pytest.fixture
def with_categories(folder: Path) -> Path:
    """The bundle with an experimental head beside its own two."""

    def add(manifest: dict) -> None:
        manifest["heads"]["categories"] = manifest["heads"]["opposite"] | {"experimental": True}

    edit(folder, add)
    return folder


@pytest.mark.parametrize(("head", "expected"), [(None, False), ("opposite", False), ("categories", True)])
def test_a_runtime_knows_whether_its_head_is_experimental(
    with_categories: Path, fixed_detector: Path, head: str | None, *, expected: bool
):
    assert EmotionRuntime(with_categories, fixed_detector, "cpu", head=head).experimental is expected


@pytest.mark.parametrize("default", [False, True])
def test_the_command_line_says_so_in_one_line(
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
    first, summary = capsys.readouterr().err.splitlines()
    assert "experimental: the model card says what it is worth" in first
    assert first.startswith("emotion-runtime: head")
    assert ("categories" in first) or default
    assert "None" not in first
    assert summary.startswith("emotion-runtime: 5 frames")
    assert main([*argv, "--head", "opposite"]) == 0
    (summary,) = capsys.readouterr().err.splitlines()
    assert "experimental" not in summary
    assert len(jsonl.read_text().splitlines()) == 5
