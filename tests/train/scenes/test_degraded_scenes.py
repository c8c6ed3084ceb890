"""Degraded scenes and close-ups: what is drawn, and where."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from test_scenes import BLACK, SHARE, WHITE, center, inside, overlap, pixels_of, with_plain_camera

from emotion_train.scenes.drawing import Scene, draw_close_up, draw_scene, render
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.people import Occluder, RenderedPerson, draw_cover, draw_worn, face_box

if TYPE_CHECKING:
    from emotion_runtime.types import Box

STILL = (0.0, 0.0, 0.0, 0.0)
SKIN = np.array([200, 120, 60], np.float32)
GREEN = np.array([10, 250, 20], np.float32)


def scene_of(seed: int, people: int = 1, *, degraded: bool = True) -> Scene:
    return draw_scene(np.random.default_rng(seed), list(range(people)), face_height=SHARE, degraded=degraded)


def close_up_of(seed: int, *, degraded: bool = False) -> Scene:
    return with_plain_camera(draw_close_up(np.random.default_rng(seed), 0, degraded=degraded))


def posed(scene: Scene, **changes: object) -> Scene:
    """Return a scene of the first person, centred, upright and still unless changed, with a plain camera."""
    middle = {"x": scene.width / 2, "y": scene.height / 2, "tilt": 0.0, "drift": STILL, "flip": False}
    front = {"skin": SKIN, "narrow": 1.0, "occluder": None}
    person = replace(scene.people[0], **(middle | front | changes))
    return replace(with_plain_camera(scene), people=(person,))


def large(**changes: object) -> Scene:
    """Return an ordinary scene with a face of 120 pixels."""
    return posed(scene_of(1, degraded=False), side=120.0, **changes)


def marked(*pixels: tuple[slice, slice]) -> NDArray[np.uint8]:
    """Return a black face with white parts."""
    image = BLACK.copy()
    for rows, columns in pixels:
        image[rows, columns] = 255
    return image


def lit(scene: Scene, image: NDArray[np.uint8], time: float = 0.5) -> NDArray[np.bool_]:
    """Return the pixels that show the white parts of a face."""
    return (pixels_of(scene, image[None], time) - pixels_of(scene, BLACK[None], time)).max(axis=2) > 90


# --- degraded scenes


def test_a_degraded_scene_depends_only_on_the_state_of_the_generator(real_faces: Faces):
    frames = []
    for seed in (3, 3, 4):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, [0, 1], face_height=SHARE, degraded=True)
        frames.append(render(scene, real_faces.images, 0.3, rng))
    first, again, other = frames
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def people_of(*, degraded: bool) -> list[RenderedPerson]:
    return [person for seed in range(120) for person in scene_of(seed, 3, degraded=degraded).people]


def test_people_of_degraded_scenes_tilt_turn_aside_and_are_partly_hidden():
    degraded, usual = people_of(degraded=True), people_of(degraded=False)
    error = 4 * 0.5 / len(degraded) ** 0.5  # four standard errors at most
    assert np.mean([person.narrow < 1 for person in degraded]) == pytest.approx(0.5, abs=error)
    assert np.mean([person.occluder is not None for person in degraded]) == pytest.approx(0.2, abs=error)
    assert all(0.8 < person.narrow <= 1 for person in degraded)
    assert all(person.narrow == 1 and person.occluder is None for person in usual)
    assert np.std([a.tilt for a in degraded]) > 1.25 * np.std([a.tilt for a in usual])
    assert all(abs(person.tilt) < 35 for person in degraded)
    assert not any(person.close_up for person in degraded)


def test_degraded_scenes_have_degraded_cameras():
    cameras = [scene_of(seed).camera for seed in range(60)]
    assert any(camera.motion[0] for camera in cameras)
    assert any(camera.sharpen for camera in cameras)
    for camera in (scene_of(seed, degraded=False).camera for seed in range(60)):
        assert (camera.motion, camera.sharpen, camera.gamma, camera.detail) == ((0.0, 0.0), 0.0, 1.0, 1.0)


# --- a face that is turned aside


@pytest.mark.parametrize("flip", [False, True])
def test_a_narrow_face_is_compressed_around_its_middle(flip: bool):
    image = marked((slice(12, 36), slice(14, 34)))  # 20 of 48 wide, 24 high, in the middle
    front, aside = (lit(large(narrow=narrow, flip=flip), image) for narrow in (1.0, 0.8))
    widths, heights = ([np.ptp(np.nonzero(seen)[axis]) + 1 for seen in (front, aside)] for axis in (1, 0))
    assert widths[0] == pytest.approx(120 * 20 / 48, abs=2)
    assert widths[1] == pytest.approx(0.8 * 120 * 20 / 48, abs=2)
    assert heights[0] == heights[1] == pytest.approx(120 * 24 / 48, abs=2)
    middle = np.array([large().people[0].x, large().people[0].y])
    for seen in (front, aside):
        np.testing.assert_allclose(center(seen), middle, atol=1)


def test_narrowing_moves_features_towards_the_middle():
    image = marked((slice(20, 28), slice(34, 40)))  # 13 of 48 to the right of the middle
    middle = large().people[0].x
    for narrow in (1.0, 0.82):
        away = center(lit(large(narrow=narrow), image))[0] - middle
        assert away == pytest.approx(narrow * 13 * 120 / 48, abs=1)


# --- occluders


def ellipse(scene: Scene, degrees: float) -> NDArray[np.bool_]:
    """Return the pixels of the only person's occluder, an ellipse that rotates with the head."""
    (person,) = scene.people
    assert person.occluder is not None
    y, x = np.mgrid[: scene.height, : scene.width]
    right, down = (x - person.x) / person.side, (y - person.y) / person.side
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    along, across = c * right + s * down, c * down - s * right  # rotated back, clockwise in the image
    occluder = person.occluder
    inside_it = ((along - occluder.x) / occluder.half_width) ** 2 + (
        (across - occluder.y) / occluder.half_height
    ) ** 2
    return np.asarray(inside_it <= 1)


def shared(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("tilt", [0.0, 25.0, -40.0])
def test_an_occluder_is_at_its_place_and_turns_with_the_head(tilt: float):
    occluder = Occluder(0.2, 0.25, 0.3, 0.12, GREEN)
    for scene, time in (
        (large(occluder=occluder, tilt=tilt), 0.5),
        (large(occluder=occluder, tilt=tilt - 10, drift=(0.0, 0.0, 0.0, 20.0)), 1.0),  # turned so far by then
        (posed(close_up_of(3), occluder=occluder, tilt=tilt), 0.5),
    ):
        frame = pixels_of(scene, WHITE[None], time)
        seen = np.abs(frame - GREEN).max(axis=2) < 20
        assert shared(seen, ellipse(scene, tilt)) > 0.9
        assert seen.sum() > 100


@pytest.mark.parametrize("tilt", [0.0, 30.0, -30.0])
def test_an_occluder_hides_that_part_of_the_face(tilt: float):
    """OpenCV rotates a mark with the face: an occluder at its place hides this mark and no other."""
    place, other = marked((slice(33, 38), slice(11, 16))), marked((slice(33, 38), slice(32, 37)))
    occluder = Occluder((13 - 23.5) / 48, (35 - 23.5) / 48, 5 / 48, 5 / 48, 0 * GREEN)
    for scene in (large(tilt=tilt), posed(close_up_of(3), tilt=tilt)):
        covered = replace(scene, people=(replace(scene.people[0], occluder=occluder),))
        assert lit(scene, place).sum() > 10
        assert not lit(covered, place).any()
        np.testing.assert_array_equal(lit(covered, other), lit(scene, other))
        assert lit(scene, other).any()


def test_drawn_occluders_hide_a_part_of_the_face_and_not_all():
    shares = []
    for seed in range(150):
        scene = with_plain_camera(scene_of(seed))
        (person,) = scene.people
        if person.occluder is None:
            continue
        bare = replace(scene, people=(replace(person, occluder=None),))
        box = inside(face_box(person, 0.5), (scene.height, scene.width))
        difference = (
            np.abs(pixels_of(scene, WHITE[None], 0.5) - pixels_of(bare, WHITE[None], 0.5)).max(axis=2) > 0
        )
        shares.append((difference & box).sum() / box.sum())
    assert len(shares) > 10
    assert min(shares) > 0.05
    assert max(shares) < 0.75


# --- close-ups


def test_a_close_up_is_a_face_and_nothing_else():
    """A white face is skin from edge to edge, and a black one is black: no body, hair or background."""
    for seed in range(40):
        scene = close_up_of(seed, degraded=seed % 2 == 1)
        (person,) = scene.people
        scene = replace(scene, people=(replace(person, skin=SKIN, occluder=None),))
        assert scene.height == scene.width
        assert 48 <= scene.width < 225
        for time in (0.0, 0.5, 1.0):
            skin = np.abs(pixels_of(scene, WHITE[None], time) - SKIN).max(axis=2) <= 1
            black = pixels_of(scene, BLACK[None], time).max(axis=2) == 0
            assert skin.mean() > 0.97, seed
            np.testing.assert_array_equal(skin, black)


def test_most_of_the_face_is_in_a_close_up():
    for seed in range(40):
        scene = close_up_of(seed)
        (person,) = scene.people
        assert person.close_up
        assert 0.95 <= person.side / scene.width <= 1.3
        box = inside(face_box(person, 0.5), (scene.height, scene.width))
        x1, y1, x2, y2 = face_box(person, 0.5)
        assert box.sum() > 0.6 * (x2 - x1) * (y2 - y1), seed
        assert box.mean() > 0.4, seed


@pytest.mark.parametrize("time", [0.0, 0.5, 1.0])
def test_the_box_of_a_close_up_is_where_the_face_is(time: float):
    """Paint the part of the square that a detector boxes white, at sizes at which all of it is visible."""
    rows, columns = slice(4, 44), slice(8, 40)
    relative = np.array([0.5, 0.5, 32 / 48, 40 / 48])
    for seed in range(8):
        scene = draw_close_up(np.random.default_rng(seed), 0)
        side, drift = 0.8 * scene.width, (0.05 * scene.width, -0.03 * scene.width, 0.1, 0.0)
        scene = posed(scene, side=side, drift=drift, detected=relative)
        seen = np.nonzero(lit(scene, marked((rows, columns)), time))
        found: Box = (seen[1].min(), seen[0].min(), seen[1].max() + 1.0, seen[0].max() + 1.0)
        assert overlap(found, face_box(scene.people[0], time)) > 0.88, seed


def test_people_in_close_ups_tilt_or_hide_only_if_degraded():
    usual, degraded = (
        [draw_close_up(np.random.default_rng(seed), 0, degraded=degraded) for seed in range(60)]
        for degraded in (False, True)
    )
    assert all(s.people[0].occluder is None and s.people[0].narrow == 1 for s in usual)
    assert any(s.people[0].occluder is not None for s in degraded)
    assert any(s.people[0].narrow < 1 for s in degraded)
    assert not any(s.camera.sharpen for s in usual)
    assert any(s.camera.sharpen for s in degraded)


def test_what_a_person_wears_hides_a_part_of_the_face_and_turns_with_it():
    grey = np.full((48, 48), 140, np.uint8)
    for seed in range(40):
        worn = draw_worn(np.random.default_rng(seed))
        bare, dressed = large(), large(worn=worn)
        difference = np.abs(pixels_of(dressed, grey[None], 0.5) - pixels_of(bare, grey[None], 0.5)).max(
            axis=2
        )
        box = inside(face_box(bare.people[0], 0.5), (bare.height, bare.width))
        assert 0.005 < ((difference > 2) & box).sum() / box.sum() < 0.7


def test_half_an_opacity_is_half_the_difference():
    bare = large()
    solid, thin = (large(worn=(Occluder(0.0, 0.1, 0.2, 0.2, GREEN, opacity),)) for opacity in (1.0, 0.5))
    base, full, half = (pixels_of(scene, WHITE[None], 0.5).astype(float) for scene in (bare, solid, thin))
    np.testing.assert_allclose(half - base, (full - base) / 2, atol=2)


def test_a_cover_hides_about_half_of_the_face():
    """Measured with the formula of an ellipse, on the inner part of the face square."""
    rng = np.random.default_rng(0)
    down, across = np.mgrid[-0.45:0.45:64j, -0.4:0.4:64j]
    hidden = []
    for cover in (draw_cover(rng) for _ in range(400)):
        along, below = (across - cover.x) / cover.half_width, (down - cover.y) / cover.half_height
        hidden.append((along**2 + below**2 < 1).mean())
    assert 0.3 < np.mean(hidden) < 0.55
    assert np.mean(np.array(hidden) > 0.65) < 0.05
