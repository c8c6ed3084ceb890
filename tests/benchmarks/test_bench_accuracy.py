"""The benchmark of accuracy: its sets are what they are called, its figures are those of others."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score

import bench_accuracy
import result_tables
from emotion_bench import accuracy, through_runtime
from emotion_bench.accuracy_page import page, sets_part, targets
from emotion_bench.accuracy_sets import CORRUPTIONS, Plan, aligned_faces, clean, scenes
from emotion_bench.candidates import of_bundle
from emotion_bench.predictions import Predictions
from emotion_bench.report import RESULTS
from emotion_runtime.bundle import load_bundle
from emotion_runtime.types import EmotionEvent, Person
from emotion_train.scenes.faces import Faces, load_faces
from emotion_train.scenes.people import face_box
from emotion_train.scenes.sets import PersonClip, RenderedClip

SPEC = load_bundle("nano").manifest.preprocess
NO_FEATURES = np.zeros((0, 1), np.float32)


@pytest.fixture(scope="module")
def faces(shared_data: Path) -> Faces:
    everyone = load_faces(shared_data / "data" / "fer2013_plus.npz", "test")
    return everyone.take(np.random.default_rng(0).permutation(len(everyone.labels))[:24])


def plan_of(faces: Faces, frames: int = 1) -> Plan:
    return Plan(faces, SPEC, frames, 1.6, 3)


# --- answers


def test_predictions_equal_those_of_the_graphs(faces: Faces):
    clips = [clip for _, clip in scenes(plan_of(faces, 2))][:3]
    bundle = load_bundle("nano")
    frame, temporal = (
        onnxruntime.InferenceSession(str(bundle.graph_path(name)))
        for name in ("frame_encoder", "temporal_encoder")
    )
    expected = []
    for clip in clips:
        fed = {"images": clip.images, "frame_index": np.arange(2), "patch_weights": clip.patch_weights}
        first, second = frame.run(None, fed)[0]
        ring = np.stack([first] * 4 + [second] * 4)[None]
        expected.append(temporal.run(None, {"embeddings": ring})[0][0])
    candidate = of_bundle("nano")
    found = candidate.predictions(enumerate(clips)).probabilities
    np.testing.assert_allclose(found, candidate.head(np.stack(expected)), atol=1e-5)


def test_predictions_keep_the_order_of_clips_over_batches(faces: Faces):
    clips = list(scenes(plan_of(faces)))
    candidate = of_bundle("nano")
    together = candidate.predictions(clips)
    alone = np.concatenate([candidate.predictions([clip]).probabilities for clip in clips])
    np.testing.assert_allclose(together.probabilities, alone, atol=1e-5)
    assert together.labels.tolist() == [clip.label for _, clip in clips]
    assert together.group.tolist() == [group for group, _ in clips]


# --- sets


def test_every_face_is_in_the_scenes_once_with_its_own_label(faces: Faces):
    seen = sorted(
        person.face for rendered in plan_of(faces).rendered_clips() for person in rendered.scene.people
    )
    assert seen == list(range(24))
    for rendered in plan_of(faces).rendered_clips():
        for person in rendered.scene.people:
            assert plan_of(faces).label(person) == faces.labels[person.face]


def test_an_aligned_face_is_the_crop_and_nothing_else(faces: Faces):
    """At the size that heads have in a window, so with the mean colour around it."""
    grey = tuple(round(255 * value) for value in SPEC.mean)
    for row, (_, clip) in enumerate(aligned_faces(plan_of(faces))):
        square = Image.fromarray(np.repeat(faces.images[row][..., None], 3, axis=2))
        fits = []
        for side in range(48, 90):
            canvas = Image.new("RGB", (side, side), grey)
            canvas.paste(square, ((side - 48) // 2 + (side - 48) % 2,) * 2)
            shown = np.asarray(canvas.resize((SPEC.size, SPEC.size), Image.Resampling.BICUBIC)).astype(int)
            fits.append(np.abs(shown - clip.images[0])[2:-2, 2:-2].max())
        assert min(fits) <= 1
        assert 1.3 * 0.78 * 48 < 48 + int(np.argmin(fits)) < 90  # wider than the face that is in it
        assert clip.label == faces.labels[row]
        assert clip.patch_weights.max() == 1


def picture_of(faces: Faces, name: str) -> tuple[RenderedClip, NDArray[np.float64]]:
    rendered = next(plan_of(faces).rendered_clips((1,), change=CORRUPTIONS.get(name, clean)))
    return rendered, rendered.frames[0].astype(np.float64)


def test_each_corruption_does_what_its_name_says(faces: Faces):
    (rendered, plain) = picture_of(faces, "clean")
    person = rendered.scene.people[0]
    x1, y1, x2, y2 = face_box(person, 0.0)
    assert len(CORRUPTIONS) == 9
    bright = picture_of(faces, "brightness: 40 % or 170 %")[1]
    factor = 1.7 if person.face % 2 == 0 else 0.4
    np.testing.assert_allclose(bright, np.clip(plain * factor, 0, 255), atol=1.7)
    flat = picture_of(faces, "contrast: 35 %")[1]
    np.testing.assert_allclose(flat, 128 + 0.35 * (plain - 128), atol=1.5)
    warm = picture_of(faces, "colour cast")[1]
    np.testing.assert_allclose(warm[..., 2], 0.55 * plain[..., 2], atol=1.5)
    noise = picture_of(faces, "noise: sigma 20 of 255")[1] - plain
    inside = (plain > 70) & (plain < 185)
    assert noise[inside].std() == pytest.approx(20, rel=0.1)
    blurred = picture_of(faces, "blur: sigma 2 px of a face of 80")[1]
    face = tuple(slice(round(low), round(high)) for low, high in ((y1, y2), (x1, x2)))
    edges = [np.abs(np.diff(picture[face], axis=1)).mean() for picture in (plain, blurred)]
    assert edges[1] < 0.75 * edges[0]
    packed = picture_of(faces, "JPEG, quality 30")[1]
    assert 0.2 < np.abs(packed - plain).mean() < 12
    small = picture_of(faces, "face of 24 px")[0].scene.people[0]
    assert (person.side, small.side) == (80.0, 24.0)
    assert abs(picture_of(faces, "head tilted 20 degrees")[0].scene.people[0].tilt) == 20
    half = picture_of(faces, "half of the face covered")[1]
    changed = np.abs(half - plain).max(axis=2)[face] > 3
    assert 0.35 < changed.mean() < 0.75


# --- metrics


def test_metrics_equal_scikit_learn():
    rng = np.random.default_rng(0)
    labels, probability = rng.integers(0, 7, 300), rng.dirichlet(np.ones(7), 300)
    result = accuracy.metrics(probability, labels)
    predicted = probability.argmax(1)
    assert result["accuracy"]["value"] == pytest.approx(accuracy_score(labels, predicted), abs=1e-4)
    balanced = balanced_accuracy_score(labels, predicted)
    assert result["balanced_accuracy"]["value"] == pytest.approx(balanced, abs=1e-4)
    assert result["accuracy"]["low"] < result["accuracy"]["value"] < result["accuracy"]["high"]
    assert result["samples"] == 300


def test_predictions_under_the_threshold_are_not_given():
    probability = np.array([[0.9, 0.1], [0.6, 0.4], [0.55, 0.45], [0.2, 0.8]])
    groups = np.array([1, 1, 2, 2])
    predictions = Predictions(np.array([0, 0, 1, 0]), probability, groups, np.arange(4), NO_FEATURES)
    result = accuracy.abstaining(predictions, 0.6)
    assert result["answered"] == 0.75
    assert result["accuracy_of_answered"] == pytest.approx(2 / 3, abs=1e-4)
    assert result["accuracy_of_the_rest"] == 0
    assert accuracy.by_people(predictions) == {"1": 1.0, "2": 0.0}


@dataclass
class Stub:
    """Predicts the true label, or a function of the pixels that ignores the subject."""

    rule: str

    def predictions(self, clips: Iterable[tuple[int, PersonClip]]) -> Predictions:
        given = list(clips)
        labels = np.array([clip.label for _, clip in given])
        if self.rule == "knows":
            chosen = labels
        else:  # sees the images, but not the patch weights
            chosen = np.array([int(clip.images.sum()) % 7 for _, clip in given])
        return Predictions(
            labels,
            np.eye(7)[chosen],
            np.array([group for group, _ in given]),
            np.array([clip.face for _, clip in given]),
            NO_FEATURES,
        )


def test_pairs_tell_whether_predictions_follow_the_subject(faces: Faces):
    knows = accuracy.pairs(Stub("knows"), plan_of(faces))  # type: ignore[arg-type] # a stand-in
    assert knows["right_singly"] == knows["pairs"] > 3
    for name in ("own_window", "same_window"):
        assert knows[name]["changed"]["value"] == knows[name]["both_right"]["value"] == 1
        assert knows[name]["other"]["value"] == 0
    blind = accuracy.pairs(Stub("blind"), plan_of(faces))  # type: ignore[arg-type] # a stand-in
    assert blind["same_window"]["changed"]["value"] == 0


# --- the whole runtime


def event(t: float, *persons: Person) -> EmotionEvent:
    return EmotionEvent(source="video", frame=0, t=t, persons=list(persons))


def person(number: int, top: str | None, raw: str, state: str = "steady") -> Person:
    sure = {"anger": 0.1, "fear": 0.1} | {raw: 0.9}
    return Person(  # type: ignore[call-arg]
        id=number, box=(0, 0, 9, 9), score=1.0, state=state, top=top, emotions=sure, raw=sure
    )


class Watched:
    """A runtime that saw what it is told."""

    def __init__(self, events: list[EmotionEvent]) -> None:
        self.events = events

    def follow(self, _: object) -> Iterator[tuple[None, EmotionEvent]]:
        return ((None, event) for event in self.events)


def test_label_changes_are_counted_per_person_and_minute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(through_runtime, "open_source", lambda _: open(tmp_path / "video", "w"))  # noqa: PTH123, SIM115
    watched = Watched(
        [
            event(-15, person(1, None, "fear", "warming")),  # the first label is not a change
            event(0, person(1, "anger", "anger")),
            event(15, person(1, "anger", "fear"), person(2, "fear", "fear")),
            event(30, person(1, None, "anger"), person(2, "fear", "fear", "lost")),
            event(45, person(1, "fear", "fear")),
        ]
    )
    counted = through_runtime.steadiness(watched, "video")  # type: ignore[arg-type]
    assert counted == {
        "person_minutes": 0.75,
        "raw_changes": 4.0,  # three of person 1 in 45 seconds
        "label_changes": pytest.approx(2 / 0.75, abs=0.01),
    }


# --- the report


@pytest.mark.slow
def test_a_run_writes_everything_that_docs_and_card_show(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "nano"
    options = ["--data", str(shared_data), "--faces", "16", "--frames", "1"]
    assert bench_accuracy.main([*options, "--out", str(out)]) == 0
    result = json.loads((out / "accuracy.json").read_text())
    assert result["test_faces"] == 16
    assert result["clear_faces"] == result["sets"]["scenes"]["samples"] <= 16
    assert {"confusion.png", "reliability.png", "quality.png", "accuracy.md"} <= {
        file.name for file in out.iterdir()
    }
    assert (out / "accuracy.md").read_text() == page(result)
    monkeypatch.setattr(result_tables, "RESULTS", tmp_path)
    (out / "failures.md").write_text("### What fails\n")
    shown = f"{100 * result['sets']['scenes']['accuracy']['value']:.1f} %"
    assert shown in sets_part(result)
    assert shown in result_tables.card_parts()["measured"]
    assert "What fails" in result_tables.card_parts()["failures"]


def test_a_target_is_met_or_missed():
    recorded = RESULTS / "nano" / "accuracy.json"
    result = json.loads(recorded.read_text())
    for value, expected in ((0.771, "met"), (0.769, "**missed**")):
        result["sets"]["scenes"]["accuracy"]["value"] = value
        result["sets"]["scenes"]["balanced_accuracy"]["value"] = 0.61
        assert next(iter(targets(result)))[-1] == expected


def test_bad_options_are_refused_in_one_line(shared_data: Path, capsys: pytest.CaptureFixture[str]):
    assert bench_accuracy.main(["--data", str(shared_data), "--bundle", "nobody"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit):
        bench_accuracy.main(["--data", ".", "--faces", "2"])


def test_accuracy_is_on_clear_faces_and_calibration_on_all_votes():
    eye = np.eye(7, dtype=np.float32)
    votes = np.stack([eye[6], 0.6 * eye[0] + 0.4 * eye[6], 0.5 * eye[4] + 0.5 * eye[6], eye[3]])
    clear = np.array([True, True, False, True])
    faces = Faces(np.zeros((4, 48, 48), np.uint8), np.array([4, 0, 6, 3]), votes.astype(np.float32), clear)
    rows = np.array([2, 0, 1, 3])  # faces in the order of the predictions
    chosen = np.array([4, 0, 0, 3])
    probability = 0.7 * eye[chosen].astype(float) + 0.3 / 7
    result = accuracy.on_votes(
        Predictions(faces.majority[rows], probability, np.zeros(4, np.int64), rows, NO_FEATURES),
        faces,
    )
    assert result["samples"] == 3
    assert result["accuracy"]["value"] == pytest.approx(2 / 3, abs=1e-4)  # neutral is called anger
    assert result["fer2013_label"]["value"] == 0.5
    assert result["calm_taken_for_negative"]["value"] == 0.5  # of a neutral and a happy face
    assert result["ece"]["value"] == pytest.approx(abs(0.7 + 0.3 / 7 - (0.5 + 0 + 0.6 + 1) / 4), abs=1e-4)
