"""Fixed sets of scene clips for probes and evaluation: the same seed gives the same clips.

Windows and boxes are the runtime's own, with a head box from its default detector.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.preprocess import PreprocessSpec, Window, crop, patch_weights, subject_window
from emotion_runtime.types import Box
from emotion_train.scenes.batches import SceneMix, cut_scene, detected_head, draw_mixed, window_of_all
from emotion_train.scenes.drawing import Actor, Scene, draw_scene, render
from emotion_train.scenes.faces import Faces


@dataclass(frozen=True, slots=True)
class Clip:
    """One person's clip. images: (K, S, S, 3) uint8 RGB. patch_weights: (K, G) float32. label: in `EKMAN`."""

    images: NDArray[np.uint8]
    patch_weights: NDArray[np.float32]
    label: int


@dataclass(frozen=True, slots=True)
class Film:
    """A scene as a camera saw it. pictures: (H, W, 3) uint8 RGB, one a moment of the clip."""

    scene: Scene
    pictures: list[NDArray[np.uint8]]
    moments: list[float]

    def boxes(self, actor: Actor) -> list[Box]:
        """The person's head in every picture, as the runtime's default detector would give it."""
        return [detected_head(actor, moment) for moment in self.moments]

    def clip(self, actor: Actor, label: int, spec: PreprocessSpec) -> Clip:
        """The person's clip, in a window of its own."""
        boxes = self.boxes(actor)
        windows = [subject_window(box, self.scene.height, self.scene.width, spec) for box in boxes]
        return _clip(self.pictures, boxes, windows, spec, label)


Change = Callable[[Scene], Scene]


def films(
    faces: Faces,
    people: tuple[int, ...],
    *,
    frames: int,
    seed: int,
    mix: SceneMix = SceneMix(),  # noqa: B008 - immutable
    change: Change = lambda scene: scene,
) -> Iterator[Film]:
    """Every face in one scene, of as many people as `people` says (cycling).

    mix: what scenes are drawn, but for who is in them and how they are cut. change: what is done to a scene
    before it is filmed; the scenes themselves are the same whatever it does.
    """
    rng = np.random.default_rng(seed)
    moments = np.linspace(0, 1, frames).tolist()
    for number, numbers in enumerate(_groups(rng, len(faces.labels), people)):
        own = np.random.default_rng([seed, number])
        scene = change(draw_mixed(own, numbers, mix))
        yield Film(scene, [render(scene, faces.images, moment, own) for moment in moments], moments)


def person_clips(
    faces: Faces,
    spec: PreprocessSpec,
    people: tuple[int, ...],
    *,
    frames: int,
    seed: int,
    mix: SceneMix = SceneMix(),  # noqa: B008 - immutable
) -> Iterator[Clip]:
    """Every face once, in scenes of as many people as `people` says (cycling), each in its own window."""
    for film in films(faces, people, frames=frames, seed=seed, mix=mix):
        for actor in film.scene.actors:
            yield film.clip(actor, int(faces.labels[actor.face]), spec)


def pair_clips(
    faces: Faces, spec: PreprocessSpec, *, frames: int, seed: int, same_window: bool
) -> Iterator[tuple[Clip, Clip]]:
    """Scenes of two people of different emotions, one clip for each of the two.

    same_window: one window around both heads serves both, so that only the patch weights say who is meant;
    without `spec.beyond_frame` the frame's short side bounds it, so heads far apart may be cut, never by more
    than a part of them.
    Otherwise each has the window that the runtime would give.
    """
    for film in films(faces, (2,), frames=frames, seed=seed):
        pair = pair_of(film, faces, spec, same_window=same_window)
        if pair is not None:
            yield pair


def pair_of(film: Film, faces: Faces, spec: PreprocessSpec, *, same_window: bool) -> tuple[Clip, Clip] | None:
    """The clips of two people of different emotions, as in `pair_clips`; None: the film shows no such two."""
    scene = film.scene
    labels = [int(faces.labels[actor.face]) for actor in scene.actors]
    if len(labels) != 2 or labels[0] == labels[1]:
        return None
    if not same_window:
        first, second = (film.clip(*person, spec) for person in zip(scene.actors, labels, strict=True))
        return first, second
    both = [film.boxes(actor) for actor in scene.actors]
    windows = [window_of_all(heads, scene.height, scene.width, spec) for heads in zip(*both, strict=True)]
    first, second = (
        _clip(film.pictures, boxes, windows, spec, label) for boxes, label in zip(both, labels, strict=True)
    )
    return first, second


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
