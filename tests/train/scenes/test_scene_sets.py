from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_runtime.preprocess import PreprocessSpec, crop, patch_weights, subject_window
from emotion_runtime.types import Box
from emotion_train.scenes import sets as scene_sets
from emotion_train.scenes.batches import SceneMix, draw_mixed
from emotion_train.scenes.drawing import Scene, render
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.people import RenderedPerson
from emotion_train.scenes.sets import PersonClip, pair_clips, person_clips

SPEC = PreprocessSpec(size=64, patch=16, window="subject", short_side=72, subject_scale=1.5)


@pytest.fixture
def faces(real_faces: Faces) -> Faces:
    return real_faces.take(np.arange(0, 1750, 70))  # they lie sorted by emotion


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> list[Scene]:
    """Collect every scene that is drawn."""
    drawn: list[Scene] = []

    def record(rng: np.random.Generator, numbers: list[int], mix: SceneMix) -> Scene:
        drawn.append(draw_mixed(rng, numbers, mix))
        return drawn[-1]

    monkeypatch.setattr(scene_sets, "draw_mixed", record)
    return drawn


def faces_in(scene: Scene) -> list[int]:
    return [person.face for person in scene.people]


def test_every_face_is_in_one_scene(faces: Faces, scenes: list[Scene]):
    clips = list(person_clips(faces, SPEC, (2, 3), frames=2, seed=0))
    order = [number for scene in scenes for number in faces_in(scene)]
    assert sorted(order) == list(range(25))
    assert order != list(range(25))
    assert [len(scene.people) for scene in scenes] == [2, 3] * 5
    assert [clip.label for clip in clips] == faces.labels[order].tolist()


def test_clips_have_the_requested_shape(faces: Faces):
    for clip in person_clips(faces.take(np.arange(3)), SPEC, (1,), frames=3, seed=0):
        assert clip.images.shape == (3, 64, 64, 3)
        assert clip.images.dtype == np.uint8
        assert clip.patch_weights.shape == (3, 16)
        assert clip.patch_weights.dtype == np.float32
        assert clip.patch_weights.max() > 0.9  # somebody is visible


def test_every_frame_is_cut_at_its_own_time(
    faces: Faces, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
):
    """Windows and patch weights follow a head that crosses the image and grows, as in the runtime."""
    frames = []

    def record(*args: Any) -> NDArray[np.uint8]:
        frames.append(render(*args))
        return frames[-1]

    def head(_: RenderedPerson, time: float) -> Box:
        return (20 + 60 * time, 50.0, 60 + 90 * time, 90 + 30 * time)

    monkeypatch.setattr(scene_sets, "render", record)
    monkeypatch.setattr(scene_sets, "detected_head", head)
    (clip,) = person_clips(faces.take(np.arange(1)), SPEC, (1,), frames=3, seed=0)
    assert len(frames) == 3
    for image, weights, frame, time in zip(
        clip.images, clip.patch_weights, frames, (0.0, 0.5, 1.0), strict=True
    ):
        box = head(scenes[0].people[0], time)
        window = subject_window(box, *frame.shape[:2], SPEC)
        np.testing.assert_array_equal(image, crop(frame, window, SPEC))
        np.testing.assert_array_equal(weights, patch_weights(box, window, SPEC))


def same(a: Iterator[PersonClip], b: Iterator[PersonClip]) -> bool:
    return all(
        np.array_equal(x.images, y.images) and np.array_equal(x.patch_weights, y.patch_weights)
        for x, y in zip(a, b, strict=True)
    )


def test_the_seed_determines_the_set(faces: Faces):
    def clips(seed: int) -> Iterator[PersonClip]:
        return person_clips(faces, SPEC, (1, 2), frames=1, seed=seed)

    assert same(clips(1), clips(1))
    assert not same(clips(1), clips(2))


@pytest.mark.parametrize("same_window", [True, False])
def test_pairs_have_two_emotions(faces: Faces, scenes: list[Scene], same_window: bool):
    pairs = list(pair_clips(faces, SPEC, frames=2, seed=3, same_window=same_window))
    numbers = [number for scene in scenes for number in faces_in(scene)]
    assert len(set(numbers)) == len(numbers)  # nobody twice
    different = [scene for scene in scenes if len(set(faces.labels[faces_in(scene)].tolist())) == 2]
    assert len(pairs) == len(different) > 5
    for (first, second), scene in zip(pairs, different, strict=True):
        a, b = faces_in(scene)
        assert (first.label, second.label) == (faces.labels[a], faces.labels[b])
        assert first.label != second.label
        assert not np.array_equal(first.patch_weights, second.patch_weights)
        assert np.array_equal(first.images, second.images) == same_window
        assert (first.patch_weights.sum(axis=1) > 0).all()
        assert (second.patch_weights.sum(axis=1) > 0).all()


def test_in_a_shared_crop_the_first_person_is_on_the_left(faces: Faces):
    def middle(clip: PersonClip) -> float:
        columns = clip.patch_weights.reshape(-1, 4, 4).sum(axis=(0, 1))
        return float(columns @ np.arange(4) / columns.sum())

    for first, second in pair_clips(faces, SPEC, frames=1, seed=3, same_window=True):
        assert middle(first) < middle(second)
