from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_runtime.detectors import load_detector
from emotion_runtime.types import Box
from emotion_train.scenes.batches import detected_head
from emotion_train.scenes.camera import Camera
from emotion_train.scenes.drawing import Scene, draw_scene, render
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.people import body_box, face_box

WHITE, BLACK = np.full((48, 48), 255, np.uint8), np.zeros((48, 48), np.uint8)
SHARE = (0.16, 0.45)


def scene_of(seed: int, people: int, share: tuple[float, float] = SHARE) -> Scene:
    return draw_scene(np.random.default_rng(seed), list(range(people)), face_height=share)


def with_plain_camera(scene: Scene) -> Scene:
    """Return the scene with a camera that changes nothing."""
    return replace(scene, camera=Camera())


def pixels_of(scene: Scene, images: NDArray[np.uint8], time: float) -> NDArray[np.int16]:
    return render(scene, images, time, np.random.default_rng(0)).astype(np.int16)


def where_face_is(scene: Scene, row: int, time: float) -> NDArray[np.bool_]:
    """Return the pixels (H, W) that change when this one person's face turns from black to white."""
    images = np.stack([BLACK] * len(scene.people))
    dark = pixels_of(scene, images, time)
    images[row] = WHITE
    return np.abs(pixels_of(scene, images, time) - dark).max(axis=2) > 12


def inside(box: Box, shape: tuple[int, int]) -> NDArray[np.bool_]:
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])


def center(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.array([axis.mean() for axis in np.nonzero(mask)[::-1]])  # x, y


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


def test_the_same_seed_gives_the_same_pixels(real_faces: Faces):
    frames = []
    for seed in (3, 3, 4):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, [0, 1], face_height=SHARE)
        frames.append(render(replace(scene, camera=Camera(noise=5.0)), real_faces.images, 0.3, rng))
    first, again, other = frames
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_a_frame_has_the_size_of_its_scene():
    scene = scene_of(5, 2)
    assert pixels_of(scene, np.stack([WHITE, BLACK]), 0.0).shape == (scene.height, scene.width, 3)


@pytest.mark.parametrize("time", [0.0, 0.5, 1.0])
def test_a_face_is_inside_its_box(time: float):
    for seed in range(8):
        scene = scene_of(seed, 1)
        seen = where_face_is(scene, 0, time)
        box = inside(face_box(scene.people[0], time), seen.shape)
        assert (seen & box).sum() > 0.8 * box.sum(), seed  # the box is full of face
        assert (seen & box).sum() > 0.5 * seen.sum(), seed  # and holds most of it


def test_face_boxes_are_taller_than_wide():
    boxes = np.array([face_box(scene_of(seed, 1).people[0], 0.5) for seed in range(100)])
    ratio = (boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1])
    assert 0.75 < np.median(ratio) < 0.95


def test_each_person_has_the_face_of_their_row():
    for seed in range(6):
        scene = scene_of(seed, 3)
        for row, person in enumerate(scene.people):
            assert person.face == row
            seen = where_face_is(scene, row, 0.5)
            shares = [(seen & inside(face_box(a, 0.5), seen.shape)).sum() for a in scene.people]
            assert np.argmax(shares) == row, seed
            # A larger neighbour may hide a small part of it.
            assert shares[row] > 0.5 * inside(face_box(person, 0.5), seen.shape).sum(), seed


def test_faces_are_upright_and_flip_mirrors_them():
    top, left = BLACK.copy(), BLACK.copy()
    top[:24], left[:, :24] = 255, 255
    for seed in range(6):
        scene = with_plain_camera(scene_of(seed, 1))
        for flip in (False, True):
            person = replace(scene.people[0], tilt=0.0, drift=(0.0, 0.0, 0.0, 0.0), flip=flip)
            scene = replace(scene, people=(person,))
            upper = center(
                pixels_of(scene, top[None], 0.5).sum(2) > pixels_of(scene, BLACK[None], 0.5).sum(2) + 12
            )
            side = center(
                pixels_of(scene, left[None], 0.5).sum(2) > pixels_of(scene, BLACK[None], 0.5).sum(2) + 12
            )
            assert upper[1] < person.y - 0.1 * person.side
            assert abs(upper[0] - person.x) < 0.05 * person.side
            assert (side[0] > person.x) == flip
            assert abs(side[0] - person.x) > 0.1 * person.side


def test_people_and_their_boxes_move_through_the_clip():
    scene = with_plain_camera(scene_of(1, 1, (0.2, 0.2)))
    person = replace(scene.people[0], x=scene.width / 2, y=scene.height / 2, drift=(40.0, -20.0, 0.0, 0.0))
    scene = replace(scene, people=(person,))
    moved = center(where_face_is(scene, 0, 1.0)) - center(where_face_is(scene, 0, 0.0))
    np.testing.assert_allclose(moved, [40, -20], atol=1)
    boxes = np.array([face_box(person, time) for time in (0.0, 1.0)])
    np.testing.assert_allclose(boxes[1] - boxes[0], [40, -20, 40, -20])
    growing = replace(person, drift=(0.0, 0.0, 0.5, 0.0))
    first, last = (face_box(growing, time) for time in (0.0, 1.0))
    assert (last[2] - last[0]) / (first[2] - first[0]) == pytest.approx(1.25 / 0.75)


def test_a_body_box_contains_the_face_and_reaches_the_bottom():
    for seed in range(100):
        scene = scene_of(seed, 1 + seed % 4)
        for person in scene.people:
            face, body = face_box(person, 0.5), body_box(person, 0.5, scene.height)
            assert body[0] < face[0]
            assert body[1] < face[1]
            assert body[2] > face[2]
            assert body[3] == scene.height


def test_people_stand_side_by_side_inside_the_image():
    for seed in range(100):
        scene = scene_of(seed, 4)
        middles = [(person.x, person.y) for person in scene.people]
        assert middles == sorted(middles)
        assert all(0 < x < scene.width and 0 < y < scene.height for x, y in middles)


def test_the_runtimes_detector_finds_heads_where_training_places_them(real_faces: Faces):
    """Training does not run the detector, so its boxes must be similar to those of the runtime."""
    detector = load_detector("face", threads=1)
    overlaps = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, [10 * seed], face_height=(0.2, 0.45))
        frame = render(scene, real_faces.images, 0.5, rng)
        x1, y1, x2, y2 = detected_head(scene.people[0], 0.5)
        ours = (max(x1, 0.0), max(y1, 0.0), min(x2, scene.width), min(y2, scene.height))
        found = detector(np.ascontiguousarray(frame[:, :, ::-1])).boxes.tolist()
        overlaps.append(max((overlap(ours, tuple(box)) for box in found), default=0.0))
    assert sum(value >= 0.5 for value in overlaps) >= 9, overlaps
