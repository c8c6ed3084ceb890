"""Fixed sets of scene clips for probes and evaluation: the same seed gives the same clips.

Windows and boxes are the runtime's own, with a head box from its default detector.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.preprocess import PreprocessSpec, Window, crop, patch_weights, subject_window
from emotion_runtime.types import Box
from emotion_train.scenes.batches import SceneMix, cut_shared_crop, detected_head, draw_mixed, shared_window
from emotion_train.scenes.drawing import Scene, draw_scene, render
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.people import RenderedPerson


@dataclass(frozen=True, slots=True)
class PersonClip:
    """One person's clip. images: (K, S, S, 3) uint8 RGB. patch_weights: (K, G) float32. label: in `EKMAN`."""

    images: NDArray[np.uint8]
    patch_weights: NDArray[np.float32]
    label: int


@dataclass(frozen=True, slots=True)
class RenderedClip:
    """A scene as a camera saw it. pictures: (H, W, 3) uint8 RGB, one a time of the clip."""

    scene: Scene
    frames: list[NDArray[np.uint8]]
    times: list[float]

    def boxes(self, person: RenderedPerson) -> list[Box]:
        """The person's head in every picture, as the runtime's default detector would give it."""
        return [detected_head(person, time) for time in self.times]

    def person_clip(self, person: RenderedPerson, label: int, spec: PreprocessSpec) -> PersonClip:
        """The person's clip, in a window of its own."""
        boxes = self.boxes(person)
        windows = [subject_window(box, self.scene.height, self.scene.width, spec) for box in boxes]
        return _clip(self.frames, boxes, windows, spec, label)


SceneChange = Callable[[Scene], Scene]


def rendered_clips(
    faces: Faces,
    people: tuple[int, ...],
    *,
    frames: int,
    seed: int,
    mix: SceneMix = SceneMix(),  # noqa: B008 - immutable
    change: SceneChange = lambda scene: scene,
) -> Iterator[RenderedClip]:
    """Every face in one scene, of as many people as `people` says (cycling).

    mix: what scenes are drawn, but for who is in them and how they are cut. change: what is done to a scene
    before it is filmed; the scenes themselves are the same whatever it does.
    """
    rng = np.random.default_rng(seed)
    times = np.linspace(0, 1, frames).tolist()
    for number, numbers in enumerate(_groups(rng, len(faces.labels), people)):
        own = np.random.default_rng([seed, number])
        scene = change(draw_mixed(own, numbers, mix))
        yield RenderedClip(scene, [render(scene, faces.images, time, own) for time in times], times)


def person_clips(
    faces: Faces,
    spec: PreprocessSpec,
    people: tuple[int, ...],
    *,
    frames: int,
    seed: int,
    mix: SceneMix = SceneMix(),  # noqa: B008 - immutable
) -> Iterator[PersonClip]:
    """Every face once, in scenes of as many people as `people` says (cycling), each in its own window."""
    for rendered in rendered_clips(faces, people, frames=frames, seed=seed, mix=mix):
        for person in rendered.scene.people:
            yield rendered.person_clip(person, int(faces.labels[person.face]), spec)


def pair_clips(
    faces: Faces, spec: PreprocessSpec, *, frames: int, seed: int, same_window: bool
) -> Iterator[tuple[PersonClip, PersonClip]]:
    """Scenes of two people of different emotions, one clip for each of the two.

    same_window: one window around both heads serves both, so that only the patch weights say who is meant;
    without `spec.beyond_frame` the frame's short side bounds it, so heads far apart may be cut, never by more
    than a part of them.
    Otherwise each has the window that the runtime would give.
    """
    for rendered in rendered_clips(faces, (2,), frames=frames, seed=seed):
        pair = person_pair(rendered, faces, spec, same_window=same_window)
        if pair is not None:
            yield pair


def person_pair(
    rendered: RenderedClip, faces: Faces, spec: PreprocessSpec, *, same_window: bool
) -> tuple[PersonClip, PersonClip] | None:
    """The clips of two people of different emotions, as in `pair_clips`; None without such two."""
    scene = rendered.scene
    labels = [int(faces.labels[person.face]) for person in scene.people]
    if len(labels) != 2 or labels[0] == labels[1]:
        return None
    if not same_window:
        first, second = (
            rendered.person_clip(*person, spec) for person in zip(scene.people, labels, strict=True)
        )
        return first, second
    both = [rendered.boxes(person) for person in scene.people]
    windows = [shared_window(heads, scene.height, scene.width, spec) for heads in zip(*both, strict=True)]
    first, second = (
        _clip(rendered.frames, boxes, windows, spec, label) for boxes, label in zip(both, labels, strict=True)
    )
    return first, second


def shared_crop_clips(
    faces: Faces, spec: PreprocessSpec, mix: SceneMix, people: tuple[int, ...], *, frames: int, seed: int
) -> Iterator[tuple[NDArray[np.uint8], list[PersonClip]]]:
    """Scenes seen through one window each: the clip (K, S, S, 3) uint8 and its persons, at least one.

    Every face is in one scene, of as many people as `people` says (cycling). Only the patch weights say who
    is meant; the clips' own images are the same array. Persons outside of the window are left out.
    """
    rng = np.random.default_rng(seed)
    for numbers in _groups(rng, len(faces.labels), people):
        scene = draw_scene(rng, numbers, face_height=mix.face_height, aspect=mix.aspect)
        times = np.linspace(0, 1, frames).tolist()
        pictures = [render(scene, faces.images, time, rng) for time in times]
        images, persons = cut_shared_crop(pictures, scene, times, spec)
        if persons:
            yield (
                images,
                [PersonClip(images, weights, int(faces.labels[person.face])) for person, weights in persons],
            )


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
) -> PersonClip:
    return PersonClip(
        np.stack([crop(picture, window, spec) for picture, window in zip(pictures, windows, strict=True)]),
        np.stack([patch_weights(box, window, spec) for box, window in zip(boxes, windows, strict=True)]),
        label,
    )
