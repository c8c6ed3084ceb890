"""Fixed sets of scene clips for probes and evaluation: the same seed gives the same clips.

Windows and boxes are the runtime's own, with a head box from its default detector.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.preprocess import PreprocessSpec, Window, crop, patch_weights, subject_window
from emotion_train.data.clips import SceneMix, cut_scene, detected_head, window_of_all
from emotion_train.data.faces import Faces
from emotion_train.data.scenes import Box, Scene, draw_scene, render


@dataclass(frozen=True, slots=True)
class Clip:
    """One person's clip. images: (K, S, S, 3) uint8 RGB. patch_weights: (K, G) float32. label: in `EKMAN`."""

    images: NDArray[np.uint8]
    patch_weights: NDArray[np.float32]
    label: int


def person_clips(
    faces: Faces, spec: PreprocessSpec, people: tuple[int, ...], *, frames: int, seed: int
) -> Iterator[Clip]:
    """Every face once, in scenes of as many people as `people` says (cycling), each in its own window."""
    rng = np.random.default_rng(seed)
    for numbers in _groups(rng, len(faces.labels), people):
        scene, pictures, moments = _film(rng, faces, numbers, frames)
        for actor in scene.actors:
            boxes = [detected_head(actor, moment) for moment in moments]
            windows = [subject_window(box, scene.height, scene.width, spec) for box in boxes]
            yield _clip(pictures, boxes, windows, spec, int(faces.labels[actor.face]))


def pair_clips(
    faces: Faces, spec: PreprocessSpec, *, frames: int, seed: int, same_window: bool
) -> Iterator[tuple[Clip, Clip]]:
    """Scenes of two people of different emotions, one clip for each of the two.

    same_window: one window around both heads serves both, so that only the patch weights say who is meant;
    the frame's short side bounds it, so heads far apart may be cut, never by more than a part of them.
    Otherwise each has the window that the runtime would give.
    """
    rng = np.random.default_rng(seed)
    for numbers in _groups(rng, len(faces.labels), (2,)):
        if len(numbers) < 2 or faces.labels[numbers[0]] == faces.labels[numbers[1]]:
            continue
        scene, pictures, moments = _film(rng, faces, numbers, frames)
        both = [[detected_head(actor, moment) for moment in moments] for actor in scene.actors]
        clips = []
        for actor, boxes in zip(scene.actors, both, strict=True):
            windows = [
                window_of_all((a, b), scene.height, scene.width, spec)
                if same_window
                else subject_window(own, scene.height, scene.width, spec)
                for own, a, b in zip(boxes, *both, strict=True)
            ]
            clips.append(_clip(pictures, boxes, windows, spec, int(faces.labels[actor.face])))
        yield clips[0], clips[1]


def crowd_clips(
    faces: Faces, spec: PreprocessSpec, mix: SceneMix, people: tuple[int, ...], *, frames: int, seed: int
) -> Iterator[tuple[NDArray[np.uint8], list[Clip]]]:
    """Scenes seen through one window each: the clip (K, S, S, 3) uint8 and its persons, at least one.

    Every face is in one scene, of as many people as `people` says (cycling). Only the patch weights say who
    is meant; the clips' own images are the same array. Persons outside of the window are left out.
    """
    rng = np.random.default_rng(seed)
    for numbers in _groups(rng, len(faces.labels), people):
        scene = draw_scene(rng, numbers, face_share=mix.face_share, aspect=mix.aspect)
        moments = np.linspace(0, 1, frames).tolist()
        pictures = [render(scene, faces.images, moment, rng) for moment in moments]
        images, persons = cut_scene(pictures, scene, moments, spec)
        if persons:
            yield images, [Clip(images, weights, int(faces.labels[actor.face])) for actor, weights in persons]


def _groups(rng: np.random.Generator, count: int, people: tuple[int, ...]) -> Iterator[list[int]]:
    order = rng.permutation(count).tolist()
    turn = 0
    while order:
        size = people[turn % len(people)]
        yield order[:size]
        order = order[size:]
        turn += 1


def _film(
    rng: np.random.Generator, faces: Faces, numbers: list[int], frames: int
) -> tuple[Scene, list[NDArray[np.uint8]], list[float]]:
    scene = draw_scene(rng, numbers, face_share=SceneMix().face_share)
    moments = np.linspace(0, 1, frames).tolist()
    return scene, [render(scene, faces.images, moment, rng) for moment in moments], moments


def _clip(
    pictures: list[NDArray[np.uint8]],
    boxes: list[Box],
    windows: list[Window],
    spec: PreprocessSpec,
    label: int,
) -> Clip:
    return Clip(
        np.stack([crop(picture, window, spec) for picture, window in zip(pictures, windows, strict=True)]),
        np.stack([patch_weights(box, window, spec) for box, window in zip(boxes, windows, strict=True)]),
        label,
    )
