from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from emotion_runtime.preprocess import PreprocessSpec, crop, patch_weights, subject_window
from emotion_runtime.subject import plan_crops
from emotion_train.model.encode import repeat_frames
from emotion_train.scenes.aligned_faces import AlignedFaces
from emotion_train.scenes.batches import (
    SceneBatch,
    SceneBatches,
    SceneMix,
    cut_person_crop,
    detected_head,
)
from emotion_train.scenes.drawing import draw_scene
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.people import face_box

SPEC = PreprocessSpec(size=64, patch=16, window="subject", short_side=72, subject_scale=1.5)
BOXES = [
    (60.0, 40.0, 100.0, 90.0),
    (-10.0, 5.0, 40.0, 60.0),
    (20.0, 10.0, 80.0, 200.0),
    (0.0, 0.0, 300.0, 240.0),
]


def dataset(faces: Faces, mix: SceneMix | None = None, **changes: Any) -> SceneBatches:
    settings = {"seed": 7, "scenes_per_batch": 3, "distinct_frames": (1, 2)} | changes
    return SceneBatches(faces, SPEC, mix or SceneMix(), **settings)


def assert_same(a: SceneBatch, b: SceneBatch) -> None:
    assert a.seed == b.seed
    for field in fields(SceneBatch):
        if field.name != "seed":
            assert torch.equal(getattr(a, field.name), getattr(b, field.name)), field.name


def people(**changes: Any) -> SceneMix:
    """Return a mix of head boxes and the runtime's windows, unless changed."""
    return SceneMix(**{"body_boxes": 0.0, "wide_windows": 0.0} | changes)


# --- crops as the runtime cuts them


@pytest.mark.parametrize("box", BOXES)
def test_a_frame_is_cut_as_the_runtime_cuts_it(box: tuple[float, float, float, float]):
    frame = np.random.default_rng(0).integers(0, 256, (240, 300, 3), dtype=np.uint8)
    image, weights = cut_person_crop(frame, box, SPEC)
    runtime = plan_crops([box], 240, 300, SPEC)
    np.testing.assert_array_equal(image, crop(frame, runtime.windows[0], SPEC))
    np.testing.assert_array_equal(weights, runtime.patch_weights[0])


def test_zoom_widens_the_window_around_the_same_person():
    frame = np.random.default_rng(0).integers(0, 256, (240, 300, 3), dtype=np.uint8)
    box = BOXES[0]
    wide = PreprocessSpec(size=64, patch=16, window="subject", short_side=72, subject_scale=3.0)
    window = subject_window(box, 240, 300, wide)
    image, weights = cut_person_crop(frame, box, SPEC, zoom=2.0)
    np.testing.assert_array_equal(image, crop(frame, window, wide))
    np.testing.assert_array_equal(weights, patch_weights(box, window, wide))


def test_the_head_box_contains_the_face_and_is_wider():
    person = draw_scene(np.random.default_rng(0), [0], face_height=(0.3, 0.3)).people[0]
    face, head = np.array(face_box(person, 0.5)), np.array(detected_head(person, 0.5))
    assert (head[:2] < face[:2]).all()
    assert (head[2:] > face[2:]).all()
    assert (head[2] - head[0]) / (face[2] - face[0]) == pytest.approx(1.5, abs=1e-3)  # as head_box documents
    assert (head[3] - head[1]) / (face[3] - face[1]) == pytest.approx(1.35, abs=1e-3)


# --- batches


def test_a_batch_depends_only_on_seed_and_index(real_faces: Faces):
    first, second = dataset(real_faces), dataset(real_faces)
    wanted = [first[i] for i in range(3)]
    for i in (2, 0, 1):  # in another order, from another object
        assert_same(second[i], wanted[i])
    assert wanted[0].images.shape != wanted[2].images.shape or not torch.equal(
        wanted[0].images, wanted[2].images
    )
    other = dataset(real_faces, seed=8)[0]
    assert other.labels.tolist() != wanted[0].labels.tolist() or not torch.equal(
        other.images, wanted[0].images
    )
    loader = DataLoader(
        second, batch_size=None, sampler=[0, 1, 2], num_workers=2, multiprocessing_context="forkserver"
    )
    for batch, expected in zip(loader, wanted, strict=True):
        assert_same(batch, expected)


def test_shapes_and_types(real_faces: Faces):
    clips = dataset(real_faces, people(people=(0.0, 0.0, 1.0, 0.0)), distinct_frames=(1, 3, 2))
    for index, frames in enumerate((1, 3, 2, 1)):
        batch = clips[index]
        assert batch.images.shape == (9, frames, 64, 64, 3)
        assert batch.images.dtype == torch.uint8
        assert batch.patch_weights.shape == (9, frames, 16)
        assert batch.patch_weights.dtype == torch.float32
        assert batch.labels.dtype == torch.int64
        assert batch.patch_weights.min() >= 0
        assert batch.patch_weights.max() <= 1


@pytest.mark.parametrize("wide", [0.0, 1.0])
def test_crop_and_patch_weights_show_the_person_of_the_label(wide: float):
    """Compare scenes with the same scenes after swapping the two classes, black and white."""
    mix = people(people=(0.0, 0.5, 0.3, 0.2), wide_windows=wide)
    black, white = (np.full((48, 48), value, np.uint8) for value in (0, 255))
    labels = np.array([0, 1])
    one, other = (
        dataset(Faces.of_labels(np.stack(pair), labels), mix, scenes_per_batch=12)
        for pair in ((black, white), (white, black))
    )
    brighter: list[bool] = []
    for index in range(3):
        before, after = one[index], other[index]
        assert torch.equal(before.patch_weights, after.patch_weights)
        change = (after.images.float() - before.images.float()).mean(-1)  # (B, K, S, S)
        patches = change.unfold(2, 16, 16).unfold(3, 16, 16).mean((-2, -1)).flatten(2)  # (B, K, G)
        meant = (patches * before.patch_weights).sum((1, 2))
        brighter += ((meant > 0) == (before.labels == 0)).tolist()
    assert len(brighter) > 60
    assert np.mean(brighter) > 0.97


def test_wide_windows_show_more_than_the_person(real_faces: Faces):
    narrow, wide = (
        torch.cat(
            [dataset(real_faces, people(wide_windows=share))[i].patch_weights.mean((1, 2)) for i in range(4)]
        )
        for share in (0.0, 1.0)
    )
    assert wide.mean() < 0.7 * narrow.mean()


def test_classes_are_drawn_by_the_square_root_of_their_counts():
    labels = np.array([0] * 400 + [1] * 100 + [2] * 25)
    clips = dataset(Faces.of_labels(np.zeros((525, 48, 48), np.uint8), labels))
    rng = np.random.default_rng(0)
    drawn = np.bincount(labels[clips.sampler.draw(rng, 4000)], minlength=3) / 4000
    expected = np.array([20, 10, 5]) / 35
    np.testing.assert_allclose(drawn, expected, atol=4 * 0.5 / 4000**0.5)  # 4 standard errors at most


@pytest.mark.parametrize(("encoded", "clip"), [(1, 8), (2, 8), (3, 8), (8, 8), (4, 6)])
def test_encoded_frames_spread_over_the_clip(encoded: int, clip: int):
    values = torch.arange(2 * encoded).view(2, encoded)
    got = repeat_frames(values, clip)
    for t in range(clip):
        assert torch.equal(got[:, t], values[:, (t * encoded) // clip])


# --- aligned faces


def test_aligned_faces_depend_only_on_seed_and_index(real_faces: Faces):
    aligned = AlignedFaces(real_faces, seed=1, batch=12, size=40)
    images, votes = aligned[5]
    assert images.shape == (12, 40, 40, 3)
    assert images.dtype == torch.uint8
    assert votes.dtype == torch.float32
    assert votes.shape == (12, 7)
    again = AlignedFaces(real_faces, seed=1, batch=12, size=40)[5]
    assert torch.equal(images, again[0])
    assert torch.equal(votes, again[1])
    assert not torch.equal(images, aligned[6][0])
    assert not torch.equal(images, AlignedFaces(real_faces, seed=2, batch=12, size=40)[5][0])


def test_augmented_faces_keep_their_label():
    faces = np.zeros((2, 48, 48), np.uint8)
    faces[0, :24], faces[1, 24:] = 220, 220
    images, votes = AlignedFaces(Faces.of_labels(faces, np.array([0, 1])), seed=0, batch=64, size=48)[0]
    brightness = images.float().mean((2, 3))  # (B, rows)
    upper = brightness[:, 8:20].mean(1) > brightness[:, 28:40].mean(1)
    assert (upper == (votes[:, 0] == 1)).float().mean() > 0.9  # a few are turned by up to 45 degrees


def test_labels_of_a_batch_are_drawn_from_the_votes():
    votes = np.tile(np.array([0.5, 0, 0, 0.3, 0, 0, 0.2], np.float32), (3, 1))
    faces = Faces(np.zeros((3, 48, 48), np.uint8), np.array([1, 1, 1]), votes, np.ones(3, np.bool_))
    clips = dataset(faces, people(people=(1.0, 0.0, 0.0, 0.0)), scenes_per_batch=60)
    drawn = np.bincount(torch.cat([clips[i].labels for i in range(10)]).numpy(), minlength=7) / 600
    np.testing.assert_allclose(drawn, votes[0], atol=4 * 0.5 / 600**0.5)


def test_the_box_may_be_larger_or_smaller_than_the_head(real_faces: Faces):
    exact, varied = (dataset(real_faces, people(box_scale=scale))[0].images for scale in (1.0, 1.25))
    assert not torch.equal(exact, varied)
    assert torch.equal(exact, dataset(real_faces, people())[0].images)
