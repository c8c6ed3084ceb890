"""Batches of clips cut from scenes, as the runtime would cut them.

Batch number i depends on (seed, i) alone, so a resumed run sees the batches that an uninterrupted one
would have seen, with any number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from emotion_runtime.detectors.centerface import head_box
from emotion_runtime.preprocess import PreprocessSpec, Window, crop, patch_weights, subject_window
from emotion_runtime.types import Box
from emotion_train.language.labels import rows_by_class
from emotion_train.scenes.drawing import ASPECT, Scene, draw_close_up, draw_scene, render
from emotion_train.scenes.faces import Faces, class_weights
from emotion_train.scenes.people import RenderedPerson, body_box, face_box

MIN_VISIBLE_FRACTION = 0.5  # share of a head that must be in a window for its person to count


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """Clips of B persons, K encoded frames each.

    images: (F, K, S, S, 3) uint8 RGB. clip_index: (B,) int64, whose row of images shows each person.
    patch_weights: (B, K, G) float32. faces: (B,) int64, rows of the training faces. labels: (B,) int64 in
    `EKMAN` order. seed: what the batch was drawn from, for whatever else is drawn for it.
    """

    images: torch.Tensor
    clip_index: torch.Tensor
    patch_weights: torch.Tensor
    faces: torch.Tensor
    labels: torch.Tensor
    seed: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SceneMix:
    """What scenes are drawn.

    people: probability of 1, 2, 3, 4 persons. face_height: least and largest face square relative to the
    picture's height. body_boxes: share of clips whose subject is given by a body box instead of a head box.
    wide_windows: share of clips whose window is up to 2.4 times the runtime's, so that neighbours stand in it
    and only the patch weights tell who is meant. shared_crop: share of scenes of which one window serves all
    persons, those with less than half of their head in it left out. aspect: see `draw_scene`. degraded: share
    of degraded scenes. close_ups: share of one-person scenes that are a face and nothing else.
    """

    people: tuple[float, float, float, float] = (0.35, 0.35, 0.2, 0.1)
    face_height: tuple[float, float] = (0.16, 0.45)
    body_boxes: float = 0.15
    wide_windows: float = 0.3
    shared_crop: float = 0.0
    aspect: tuple[float, float] = ASPECT
    degraded: float = 0.0
    close_ups: float = 0.0


def draw_mixed(rng: np.random.Generator, faces: list[int], mix: SceneMix) -> Scene:
    """A scene of the given faces, under conditions that are drawn as well."""
    degraded = bool(rng.random() < mix.degraded)
    if len(faces) == 1 and rng.random() < mix.close_ups:
        return draw_close_up(rng, faces[0], degraded=degraded)
    return draw_scene(rng, faces, face_height=mix.face_height, aspect=mix.aspect, degraded=degraded)


class SceneBatches(Dataset[SceneBatch]):
    """Random batches; item i is batch i.

    distinct_frames: how many of a clip's frames are drawn and encoded, cycling over the batches.
    """

    def __init__(
        self,
        faces: Faces,
        spec: PreprocessSpec,
        mix: SceneMix,
        *,
        seed: int,
        scenes_per_batch: int,
        distinct_frames: tuple[int, ...],
    ) -> None:
        self.faces, self.spec, self.mix = faces, spec, mix
        self.seed, self.scenes_per_batch, self.distinct_frames = seed, scenes_per_batch, distinct_frames
        self.rows = rows_by_class(faces.labels)
        self.class_weights = class_weights(np.array([len(rows) for rows in self.rows]))

    def __getitem__(self, index: int) -> SceneBatch:
        rng = np.random.default_rng([self.seed, index])
        frames = self.distinct_frames[index % len(self.distinct_frames)]
        people = rng.choice(len(self.mix.people), self.scenes_per_batch, p=self.mix.people) + 1
        images: list[NDArray[np.uint8]] = []
        shown: list[int] = []
        weights: list[NDArray[np.float32]] = []
        chosen: list[int] = []
        for count in people:
            numbers = [self._draw_face(rng) for _ in range(count)]
            scene = draw_mixed(rng, numbers, self.mix)
            # Random times in time order, as the authors draw the frames of a clip.
            times = np.sort(rng.random(frames))
            pictures = [render(scene, self.faces.images, time, rng) for time in times]
            together = bool(self.mix.shared_crop) and rng.random() < self.mix.shared_crop
            if together and not scene.people[0].close_up:
                image, persons = cut_shared_crop(pictures, scene, times, self.spec)
                images.append(image)
                for person, weight in persons:
                    shown.append(len(images) - 1)
                    weights.append(weight)
                    chosen.append(person.face)
                continue
            for person in scene.people:
                image, weight = self._cut(rng, scene, person, pictures, times)
                images.append(image)
                shown.append(len(images) - 1)
                weights.append(weight)
                chosen.append(person.face)
        return SceneBatch(
            torch.from_numpy(np.stack(images)),
            torch.tensor(shown, dtype=torch.int64),
            torch.from_numpy(np.stack(weights)),
            torch.tensor(chosen, dtype=torch.int64),
            torch.from_numpy(self.faces.labels[chosen]),
            (self.seed, index),
        )

    def _draw_face(self, rng: np.random.Generator) -> int:
        return int(rng.choice(self.rows[rng.choice(len(self.rows), p=self.class_weights)]))

    def _cut(
        self,
        rng: np.random.Generator,
        scene: Scene,
        person: RenderedPerson,
        pictures: list[NDArray[np.uint8]],
        times: NDArray[np.float64],
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """One person's clip: (K, S, S, 3) uint8 and (K, G) float32, window and box jittered."""
        body = rng.random() < self.mix.body_boxes and not person.close_up
        wide = rng.random() < self.mix.wide_windows
        zoom = float(rng.uniform(1.2, 2.4) if wide else rng.uniform(0.85, 1.2))
        shift = rng.normal(0, 0.04, 4)
        images, weights = [], []
        for picture, time in zip(pictures, times, strict=True):
            given = body_box(person, time, scene.height) if body else detected_head(person, time)
            box = _jitter(given, shift)
            image, weight = cut_person_crop(picture, box, self.spec, zoom=zoom)
            images.append(image)
            weights.append(weight)
        return np.stack(images), np.stack(weights)


def detected_head(person: RenderedPerson, time: float) -> Box:
    """The head as the runtime's default detector would give it."""
    x1, y1, x2, y2 = head_box(np.array(face_box(person, time), np.float32)).tolist()
    return (x1, y1, x2, y2)


def cut_person_crop(
    picture: NDArray[np.uint8], box: Box, spec: PreprocessSpec, *, zoom: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Crop (S, S, 3) uint8 RGB and patch weights (G,) of a person; window `zoom` times the runtime's."""
    if zoom != 1.0 and spec.subject_scale is not None:
        spec = msgspec.structs.replace(spec, subject_scale=max(spec.subject_scale * zoom, 1.0))
    window = subject_window(box, picture.shape[0], picture.shape[1], spec)
    return crop(picture, window, spec), patch_weights(box, window, spec)


def shared_window(boxes: Sequence[Box], height: int, width: int, spec: PreprocessSpec) -> Window:
    """One window around several heads, with the margin of a subject window, as far as the frame allows.

    Without `spec.beyond_frame` it is no larger than the frame's short side, so heads that stand far apart may
    be cut off.
    """
    x1, y1 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x2, y2 = max(box[2] for box in boxes), max(box[3] for box in boxes)
    half = 0.5 * max(x2 - x1, y2 - y1) / (spec.subject_scale or 1)
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    square = (middle_x - half, middle_y - half, middle_x + half, middle_y + half)
    return subject_window(square, height, width, spec)


def cut_shared_crop(
    pictures: Sequence[NDArray[np.uint8]],
    scene: Scene,
    times: Sequence[float] | NDArray[np.float64],
    spec: PreprocessSpec,
) -> tuple[NDArray[np.uint8], list[tuple[RenderedPerson, NDArray[np.float32]]]]:
    """One clip for all persons of a scene: (K, S, S, 3) uint8, and the patch weights (K, G) of each.

    pictures: the frames at the K times. Persons of whom less than half a head is in the window are left
    out.
    """
    boxes = [[detected_head(person, time) for person in scene.people] for time in times]
    windows = [shared_window(heads, scene.height, scene.width, spec) for heads in boxes]
    images = [crop(picture, window, spec) for picture, window in zip(pictures, windows, strict=True)]
    persons = []
    for number, person in enumerate(scene.people):
        own = [heads[number] for heads in boxes]
        weights = [patch_weights(box, window, spec) for box, window in zip(own, windows, strict=True)]
        if (
            min(_share_inside(box, window) for box, window in zip(own, windows, strict=True))
            >= MIN_VISIBLE_FRACTION
        ):
            persons.append((person, np.stack(weights)))
    return np.stack(images), persons


def _share_inside(box: Box, window: Window) -> float:
    """Share of a box's area that lies in the window."""
    left, top, right, bottom = window.source
    across = max(min(box[2], right) - max(box[0], left), 0.0)
    down = max(min(box[3], bottom) - max(box[1], top), 0.0)
    return across * down / max((box[2] - box[0]) * (box[3] - box[1]), 1e-9)


def _jitter(box: Box, shift: NDArray[np.float64]) -> Box:
    """Detectors are never exact: move each edge by a share of the box's size."""
    width, height = box[2] - box[0], box[3] - box[1]
    dx1, dy1, dx2, dy2 = (float(v) for v in shift)
    return (box[0] + dx1 * width, box[1] + dy1 * height, box[2] + dx2 * width, box[3] + dy2 * height)
