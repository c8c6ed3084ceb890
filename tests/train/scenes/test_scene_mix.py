"""Batches with degraded scenes and close-ups, and the faces that they report."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import SMALL

from emotion_train.scenes.batches import SceneBatch, SceneBatches, SceneMix, draw_mixed
from emotion_train.scenes.drawing import Scene
from emotion_train.scenes.faces import Faces

SPEC = SMALL.preprocess
ALONE = SceneMix(people=(1.0, 0.0, 0.0, 0.0), degraded=0.5, close_ups=0.5)
BLACK = Faces.of_labels(np.zeros((14, 48, 48), np.uint8), np.arange(14) % 7)  # two of every emotion


def batches(mix: SceneMix, faces: Faces = BLACK, *, scenes: int = 12, frames: int = 1) -> SceneBatches:
    return SceneBatches(faces, SPEC, mix, seed=4, scenes_per_batch=scenes, distinct_frames=(frames,))


def drawn(mix: SceneMix, people: int, count: int = 200) -> list[Scene]:
    rng = np.random.default_rng(0)
    return [draw_mixed(rng, list(range(people)), mix) for _ in range(count)]


def is_degraded(scene: Scene) -> bool:
    """Return whether a scene has a fault that only degraded scenes have; 6 % of single people have none."""
    faults = scene.camera
    spoiled = faults.gamma != 1 or faults.light != (0, 0) or faults.detail < 1
    disturbed = any(person.narrow < 1 or person.occluder is not None for person in scene.people)
    return spoiled or disturbed or faults.motion[0] > 0 or faults.sharpen > 0


# Probability of no narrowing, occluder, gamma, light, small sensor, motion, sharpening.
NO_VISIBLE_FAULT = 0.5 * 0.8 * 0.6 * 0.6 * 0.75 * 0.85 * 0.7


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_fraction_of_the_scenes_is_degraded(share: float):
    found = np.mean([is_degraded(scene) for scene in drawn(SceneMix(degraded=share), 1)])
    assert found == pytest.approx(share * (1 - NO_VISIBLE_FAULT), abs=4 * 0.5 / 200**0.5 if share else 0)


def test_a_fraction_of_scenes_with_one_person_are_close_ups():
    mix = SceneMix(degraded=0.4, close_ups=0.3)
    close = [scene for scene in drawn(mix, 1) if scene.people[0].close_up]
    assert len(close) / 200 == pytest.approx(0.3, abs=4 * 0.5 / 200**0.5)
    assert 0 < sum(is_degraded(scene) for scene in close) < len(close)
    assert not any(person.close_up for scene in drawn(mix, 2, 60) for person in scene.people)
    assert not any(scene.people[0].close_up for scene in drawn(SceneMix(), 1, 60))


def changed(before: SceneBatch, after: SceneBatch) -> list[int]:
    """Return the rows of images that differ."""
    return torch.nonzero((before.images != after.images).flatten(1).any(1)).flatten().tolist()


def whitened(row: int) -> Faces:
    images = BLACK.images.copy()
    images[row] = 255
    return replace(BLACK, images=images)


@pytest.mark.parametrize("row", [2, 9])
def test_a_batch_reports_the_faces_that_it_shows(row: int):
    """The clips that change with a face are those that are reported to show it."""
    shown = 0
    for index in range(3):
        before, after = batches(ALONE)[index], batches(ALONE, whitened(row))[index]
        assert torch.equal(before.faces, after.faces)
        assert changed(before, after) == torch.nonzero(before.faces == row).flatten().tolist()
        assert before.labels.tolist() == [face % 7 for face in before.faces.tolist()]
        shown += int((before.faces == row).sum())
    assert shown > 0


def test_faces_are_reported_for_shared_crops():
    mix = SceneMix(people=(0.0, 0.5, 0.3, 0.2), shared_crop=0.6, aspect=(1.0, 1.1))
    found = 0
    for index in range(2):
        batch = batches(mix)[index]
        assert len(batch.faces) == len(batch.clip_index) == len(batch.labels) > len(batch.images)
        assert batch.faces.dtype == torch.int64
        assert batch.labels.tolist() == [face % 7 for face in batch.faces.tolist()]
        for row in (0, 3, 11):
            changed_images = changed(batch, batches(mix, whitened(row))[index])
            own = batch.clip_index[batch.faces == row].tolist()
            assert set(own) <= set(changed_images)  # crops of other people may show the face as well
            found += len(own)
    assert found > 0


def test_a_batch_of_degraded_scenes_and_close_ups_depends_only_on_its_index(real_faces: Faces):
    faces = real_faces.take(np.arange(0, 1750, 50))
    mix = SceneMix(degraded=0.5, close_ups=0.5)
    first, again, next_one = (batches(mix, faces, scenes=6, frames=2)[index] for index in (3, 3, 4))
    for name in ("images", "clip_index", "patch_weights", "faces", "labels"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert first.faces.tolist() != next_one.faces.tolist()


def test_close_ups_use_head_boxes_where_other_scenes_use_body_boxes():
    heads, bodies = (
        batches(replace(ALONE, close_ups=1.0, body_boxes=share))[0].patch_weights for share in (0.0, 1.0)
    )
    assert torch.equal(heads, bodies)
    whole = [
        batches(replace(ALONE, close_ups=0.0, body_boxes=share))[0].patch_weights for share in (0.0, 1.0)
    ]
    assert not torch.equal(*whole)


def test_the_person_fills_most_of_a_close_up():
    weights = batches(replace(ALONE, close_ups=1.0, wide_windows=0.0))[0].patch_weights
    assert weights.mean() > 0.7


def test_some_people_are_turned_or_wear_something_and_some_scenes_are_blurred():
    mix = SceneMix(turned=0.3, worn=0.4, blurred=0.5)
    scenes = drawn(mix, 2, 200)
    everyone = [person for scene in scenes for person in scene.people]
    assert np.mean([abs(person.tilt) > 25 for person in everyone]) == pytest.approx(0.3 * 20 / 45, abs=0.08)
    assert max(abs(person.tilt) for person in everyone) <= 45
    assert np.mean([bool(person.worn) for person in everyone]) == pytest.approx(0.4, abs=0.1)
    strength = [scene.camera.blur / max(person.side for person in scene.people) for scene in scenes]
    assert np.mean([value > 0 for value in strength]) == pytest.approx(0.5 + 0.5 * 0.3, abs=0.14)


def test_a_mix_without_them_draws_the_same_scenes_as_before():
    plain = drawn(SceneMix(), 2, 5)
    assert not any(person.worn for scene in plain for person in scene.people)
    again = drawn(SceneMix(turned=0.0, worn=0.0, blurred=0.0), 2, 5)
    assert [scene.camera for scene in plain] == [scene.camera for scene in again]
    assert [p.tilt for s in plain for p in s.people] == [p.tilt for s in again for p in s.people]
