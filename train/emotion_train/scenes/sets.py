"""Fixed sets of rendered clips for probes and evaluation: the same seed gives the same clips.

Crop windows are computed by the runtime's code, from head boxes as its default detector gives them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.preprocess import PreprocessSpec, Window, crop, patch_weights, subject_window
from emotion_runtime.types import Box
from emotion_train.scenes.batches import SceneMix, cut_shared_crop, detected_head, draw_mixed, shared_window
from emotion_train.scenes.camera import RgbImage
from emotion_train.scenes.drawing import Scene, draw_scene, render
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.people import RenderedPerson


@dataclass(frozen=True, slots=True)
class PersonClip:
    """The clip of one person.

    Attributes:
        images: (K, S, S, 3) uint8 RGB.
        patch_weights: (K, G) float32 in [0, 1].
        label: Position of the person's emotion in `EKMAN`.
        face: Row of the person's face.
    """

    images: NDArray[np.uint8]
    patch_weights: NDArray[np.float32]
    label: int
    face: int


@dataclass(frozen=True, slots=True)
class RenderedClip:
    """A scene and its frames.

    Attributes:
        scene: The scene.
        frames: K images (H, W, 3) uint8 RGB.
        times: When the frames were rendered, from 0 to 1.
    """

    scene: Scene
    frames: list[RgbImage]
    times: list[float]

    def boxes(self, person: RenderedPerson) -> list[Box]:
        """Return the person's head in every frame as the runtime's default detector would give it."""
        return [detected_head(person, time) for time in self.times]

    def person_clip(self, person: RenderedPerson, label: int, spec: PreprocessSpec) -> PersonClip:
        """Cut the person's own crop out of every frame."""
        boxes = self.boxes(person)
        windows = [subject_window(box, self.scene.height, self.scene.width, spec) for box in boxes]
        return _cut(self.frames, boxes, windows, spec, (label, person.face))


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
    """Render scenes that show every face once.

    Args:
        faces: The faces.
        people: Numbers of people in a scene, cycling over the scenes.
        frames: Frames per clip, spread evenly over it.
        seed: Determines all scenes.
        mix: What scenes are drawn; how people are chosen and crops are cut is ignored.
        change: Changes a scene before it is rendered; it does not influence what else is drawn.
    """
    rng = np.random.default_rng(seed)
    times = np.linspace(0, 1, frames).tolist()
    for index, group in enumerate(_groups(rng, len(faces.labels), people)):
        scene_rng = np.random.default_rng([seed, index])
        scene = change(draw_mixed(scene_rng, group, mix))
        yield RenderedClip(scene, [render(scene, faces.images, time, scene_rng) for time in times], times)


def person_clips(
    faces: Faces,
    spec: PreprocessSpec,
    people: tuple[int, ...],
    *,
    frames: int,
    seed: int,
    mix: SceneMix = SceneMix(),  # noqa: B008 - immutable
) -> Iterator[PersonClip]:
    """Return every face once, each person in their own crop. Arguments are as in `rendered_clips`."""
    for rendered in rendered_clips(faces, people, frames=frames, seed=seed, mix=mix):
        for person in rendered.scene.people:
            yield rendered.person_clip(person, int(faces.labels[person.face]), spec)


def pair_clips(
    faces: Faces, spec: PreprocessSpec, *, frames: int, seed: int, same_window: bool
) -> Iterator[tuple[PersonClip, PersonClip]]:
    """Return the clips of two people for each scene of two people with different emotions.

    Args:
        faces: The faces.
        spec: How the model's input is cut.
        frames: Frames per clip.
        seed: Determines all scenes.
        same_window: Cut one shared crop around both heads, so that only the patch weights select the subject;
            otherwise each person has their own crop, as in the runtime. Without `spec.beyond_frame` the
            shared crop is no larger than the frame's short side, so heads that are far apart may be cut off
            in part, but never fully.
    """
    for rendered in rendered_clips(faces, (2,), frames=frames, seed=seed):
        pair = person_pair(rendered, faces, spec, same_window=same_window)
        if pair is not None:
            yield pair


def person_pair(
    rendered: RenderedClip, faces: Faces, spec: PreprocessSpec, *, same_window: bool
) -> tuple[PersonClip, PersonClip] | None:
    """Cut the clips of two people with different emotions, see `pair_clips`; None if the scene is another."""
    scene = rendered.scene
    labels = [int(faces.labels[person.face]) for person in scene.people]
    if len(labels) != 2 or labels[0] == labels[1]:
        return None
    if not same_window:
        first, second = (
            rendered.person_clip(person, label, spec)
            for person, label in zip(scene.people, labels, strict=True)
        )
        return first, second
    boxes_of_both = [rendered.boxes(person) for person in scene.people]
    windows = [
        shared_window(heads, scene.height, scene.width, spec) for heads in zip(*boxes_of_both, strict=True)
    ]
    first, second = (
        _cut(rendered.frames, boxes, windows, spec, (label, person.face))
        for boxes, label, person in zip(boxes_of_both, labels, scene.people, strict=True)
    )
    return first, second


def shared_crop_clips(
    faces: Faces, spec: PreprocessSpec, mix: SceneMix, people: tuple[int, ...], *, frames: int, seed: int
) -> Iterator[tuple[NDArray[np.uint8], list[PersonClip]]]:
    """Render scenes that show every face once, seen through one shared crop each.

    Only the patch weights select the subject. People with less than half of their head in the crop are left
    out; scenes without anybody left are skipped.

    Args:
        faces: The faces.
        spec: How the model's input is cut.
        mix: Its `face_height` and `aspect` are used.
        people: Numbers of people in a scene, cycling over the scenes.
        frames: Frames per clip, spread evenly over it.
        seed: Determines all scenes.

    Yields:
        The images (K, S, S, 3) uint8 RGB and the clips of all people, which refer to the same images.
    """
    rng = np.random.default_rng(seed)
    times = np.linspace(0, 1, frames).tolist()
    for group in _groups(rng, len(faces.labels), people):
        scene = draw_scene(rng, group, face_height=mix.face_height, aspect=mix.aspect)
        rendered = [render(scene, faces.images, time, rng) for time in times]
        images, visible = cut_shared_crop(rendered, scene, times, spec)
        if visible:
            clips = [
                PersonClip(images, weights, int(faces.labels[person.face]), person.face)
                for person, weights in visible
            ]
            yield images, clips


def _groups(rng: np.random.Generator, count: int, people: tuple[int, ...]) -> Iterator[list[int]]:
    """Split the numbers below `count`, in random order, into groups of `people` (cycling)."""
    order = rng.permutation(count).tolist()
    turn = 0
    while order:
        size = people[turn % len(people)]
        yield order[:size]
        order = order[size:]
        turn += 1


def _cut(
    frames: list[RgbImage],
    boxes: list[Box],
    windows: list[Window],
    spec: PreprocessSpec,
    label_and_face: tuple[int, int],
) -> PersonClip:
    return PersonClip(
        np.stack([crop(frame, window, spec) for frame, window in zip(frames, windows, strict=True)]),
        np.stack([patch_weights(box, window, spec) for box, window in zip(boxes, windows, strict=True)]),
        *label_and_face,
    )
