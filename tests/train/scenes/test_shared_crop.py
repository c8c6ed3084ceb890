"""Crops that all people of a scene share."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import build

from emotion_runtime.preprocess import PreprocessSpec, patch_weights
from emotion_train.model.encode import encode_clips, normalise, repeat_frames
from emotion_train.scenes.batches import (
    SceneBatches,
    SceneMix,
    cut_shared_crop,
    detected_head,
    shared_window,
)
from emotion_train.scenes.drawing import Scene, draw_scene, render
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.sets import shared_crop_clips

SPEC = PreprocessSpec(size=48, patch=16, window="subject", short_side=48, subject_scale=1.5)
MIX = SceneMix(people=(0.2, 0.3, 0.3, 0.2), shared_crop=1.0, aspect=(1.0, 1.2))


@pytest.fixture
def faces(real_faces: Faces) -> Faces:
    return real_faces.take(np.arange(0, 1750, 50))  # they lie sorted by emotion


def scene_of(numbers: list[int], seed: int, aspect: tuple[float, float]) -> Scene:
    return draw_scene(np.random.default_rng(seed), numbers, face_height=MIX.face_height, aspect=aspect)


def test_people_of_a_scene_share_its_crop(faces: Faces):
    data = SceneBatches(faces, SPEC, MIX, seed=3, scenes_per_batch=8, distinct_frames=(2,))
    batch = data[0]
    assert batch.images.shape == (8, 2, 48, 48, 3)
    assert len(batch.clip_index) == len(batch.labels) == len(batch.patch_weights) > 8
    assert batch.clip_index.tolist() == sorted(batch.clip_index.tolist())
    for clip in range(8):
        weights = batch.patch_weights[batch.clip_index == clip]
        assert all((weights[0] - other).abs().max() > 0.1 for other in weights[1:])
    assert (batch.patch_weights.sum(dim=2) > 0).all()


def test_a_fraction_of_the_scenes_has_shared_crops(faces: Faces):
    mixed = SceneBatches(
        faces, SPEC, replace(MIX, shared_crop=0.5), seed=3, scenes_per_batch=30, distinct_frames=(1,)
    )[0]
    alone = SceneBatches(
        faces, SPEC, replace(MIX, shared_crop=0.0), seed=3, scenes_per_batch=30, distinct_frames=(1,)
    )[0]
    assert torch.equal(alone.clip_index, torch.arange(len(alone.labels)))
    assert 30 < len(mixed.images) < len(mixed.labels)


def test_a_shared_crop_keeps_people_with_half_a_head_in_it(faces: Faces):
    """People with less of their head in it are left out; patch weights are of each person's own head."""
    left_out = 0
    for seed in range(40):
        scene = scene_of([0, 5, 9], seed, (1.0, 1.78))
        frame = render(scene, faces.images, 0.5, np.random.default_rng(seed))
        image, persons = cut_shared_crop([frame], scene, [0.5], SPEC)
        heads = [detected_head(person, 0.5) for person in scene.people]
        window = shared_window(heads, scene.height, scene.width, SPEC)
        x1, y1, x2, y2 = (round(v) for v in window.source)
        seen = []
        for person, box in zip(scene.people, heads, strict=True):
            inside = np.zeros((2000, 2000), bool)  # counted in quarters of pixels around the image
            left, top, right, bottom = (round(4 * v) + 400 for v in box)
            inside[top:bottom, left:right] = True
            share = inside[4 * y1 + 400 : 4 * y2 + 400, 4 * x1 + 400 : 4 * x2 + 400].sum() / inside.sum()
            if abs(share - 0.5) > 0.02:
                assert (share > 0.5) == any(kept is person for kept, _ in persons)
            seen.append(share)
        left_out += len(scene.people) - len(persons)
        for person, weights in persons:
            np.testing.assert_array_equal(weights[0], patch_weights(detected_head(person, 0.5), window, SPEC))
        assert image.shape == (1, 48, 48, 3)
    assert left_out > 0  # some people in wide images


def test_shared_crop_clips_show_every_face_at_most_once(faces: Faces):
    seen = []
    for images, persons in shared_crop_clips(faces, SPEC, MIX, (1, 3, 4), frames=2, seed=0):
        assert 1 <= len(persons) <= 4
        assert all(person.images is images for person in persons)
        seen += [person.label for person in persons]
    counts, had = np.bincount(seen, minlength=7), np.bincount(faces.labels, minlength=7)
    assert (counts <= had).all()
    assert counts.sum() > 0.9 * len(faces.labels)  # the scenes are narrow
    again = shared_crop_clips(faces, SPEC, MIX, (1, 3, 4), frames=2, seed=0)
    first = shared_crop_clips(faces, SPEC, MIX, (1, 3, 4), frames=2, seed=0)
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(again, first, strict=True))


@pytest.mark.parametrize("subject", ["sap", "shared", "none"])
def test_clips_of_several_people_are_the_clips_of_each(subject: str):
    model = build(subject)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 48, 48, 3), dtype=torch.uint8, generator=random)
    weights = torch.rand(4, 3, 9, generator=random)
    clip_index = torch.tensor([1, 0, 1, 1])
    together = encode_clips(model, images, weights, clip_index)
    for person, clip in enumerate(clip_index.tolist()):
        embeddings = torch.stack(
            [
                model.encode_frames(normalise(images[clip, k][None], SPEC), weights[person, k][None])[0]
                for k in range(3)
            ]
        )
        expected = model.encode_temporal(repeat_frames(embeddings[None], 8))[0]
        torch.testing.assert_close(together[person], expected, atol=1e-5, rtol=1e-4)
