"""Training batches of clips cut from rendered scenes as the runtime would cut them.

Batch i depends only on (seed, i), so a resumed run sees the same batches as an uninterrupted one, with any
number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from emotion_runtime.detectors.centerface import head_box
from emotion_runtime.preprocess import PreprocessSpec, Window, crop, patch_weights, subject_window
from emotion_runtime.types import Box
from emotion_train.scenes.camera import RgbImage
from emotion_train.scenes.drawing import ASPECT, Scene, draw_close_up, draw_scene, render
from emotion_train.scenes.faces import Faces, FaceSampler
from emotion_train.scenes.people import RenderedPerson, body_box, draw_cover, draw_worn, face_box

LARGEST_TILT = 45.0  # degrees
LARGEST_BLUR = 0.03  # sigma, in sides of the largest face square
MIN_VISIBLE_FRACTION = 0.5  # a person with less of the head inside a shared crop is left out


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """Clips of B people, K encoded frames each.

    Attributes:
        images: (F, K, S, S, 3) uint8 RGB.
        clip_index: (B,) int64, the row of `images` that shows each person.
        patch_weights: (B, K, G) float32 in [0, 1].
        faces: (B,) int64, rows of the training faces.
        labels: (B,) int64, one emotion drawn for each person from the votes on the face, as a position in
            `EKMAN`.
        seed: Seed of this batch, for everything else that is drawn for it.
    """

    images: torch.Tensor
    clip_index: torch.Tensor
    patch_weights: torch.Tensor
    faces: torch.Tensor
    labels: torch.Tensor
    seed: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SceneMix:
    """The distribution from which scenes and crops are drawn.

    Attributes:
        people: Probabilities of 1, 2, 3 and 4 people.
        face_height: See `draw_scene`.
        body_boxes: Fraction of clips whose subject is given by a body box instead of a head box.
        wide_windows: Fraction of clips with a window up to 2.4 times as wide as the runtime's, so that it
            shows neighbours and only the patch weights select the subject.
        shared_crop: Fraction of scenes of which all people share one crop; people with less than half of
            their head in it are left out.
        aspect: See `draw_scene`.
        degraded: Fraction of degraded scenes, see `draw_scene`.
        close_ups: Fraction of scenes with one person that show only the face.
        turned: Fraction of people whose head is tilted by up to `LARGEST_TILT` degrees.
        worn: Fraction of people with a beard, dark glasses or a mask.
        covered: Fraction of people with about half of the face behind something.
        blurred: Fraction of scenes that are out of focus, with a sigma of up to `LARGEST_BLUR` heads.
        box_scale: The box of a clip is up to this factor larger or smaller than the head.
    """

    people: tuple[float, float, float, float] = (0.35, 0.35, 0.2, 0.1)
    face_height: tuple[float, float] = (0.16, 0.45)
    body_boxes: float = 0.15
    wide_windows: float = 0.3
    shared_crop: float = 0.0
    aspect: tuple[float, float] = ASPECT
    degraded: float = 0.0
    close_ups: float = 0.0
    turned: float = 0.0
    worn: float = 0.0
    covered: float = 0.0
    blurred: float = 0.0
    box_scale: float = 1.0


def draw_mixed(rng: np.random.Generator, faces: list[int], mix: SceneMix) -> Scene:
    """Draw a scene of the given faces from a mix."""
    degraded = bool(rng.random() < mix.degraded)
    if len(faces) == 1 and rng.random() < mix.close_ups:
        scene = draw_close_up(rng, faces[0], degraded=degraded)
    else:
        scene = draw_scene(rng, faces, face_height=mix.face_height, aspect=mix.aspect, degraded=degraded)
    people = tuple(_varied(rng, person, mix) for person in scene.people)
    camera = scene.camera
    if mix.blurred and rng.random() < mix.blurred:
        sigma = float(rng.uniform(0.2, 1.0)) * LARGEST_BLUR * max(person.side for person in people)
        camera = replace(camera, blur=max(camera.blur, sigma))
    return replace(scene, people=people, camera=camera)


def _varied(rng: np.random.Generator, person: RenderedPerson, mix: SceneMix) -> RenderedPerson:
    """Tilt a person's head or hide a part of the face; draw nothing where the mix has none of it."""
    if mix.turned and rng.random() < mix.turned:
        person = replace(person, tilt=float(rng.uniform(-LARGEST_TILT, LARGEST_TILT)))
    if mix.worn and rng.random() < mix.worn:
        person = replace(person, worn=draw_worn(rng))
    if mix.covered and rng.random() < mix.covered:
        person = replace(person, occluder=draw_cover(rng))
    return person


class SceneBatches(Dataset[SceneBatch]):
    """A map-style data set of random batches; item i is batch i.

    Args:
        faces: Faces to draw from, see `FaceSampler`.
        spec: How the model's input is cut.
        mix: What scenes and crops are drawn.
        seed: Seed of all batches.
        scenes_per_batch: Number of scenes; a batch has one row per person in them.
        distinct_frames: How many frames of a clip are rendered and encoded, cycling over the batches.
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
        self.sampler = FaceSampler(faces.votes)

    def __getitem__(self, index: int) -> SceneBatch:
        rng = np.random.default_rng([self.seed, index])
        frame_count = self.distinct_frames[index % len(self.distinct_frames)]
        people_counts = rng.choice(len(self.mix.people), self.scenes_per_batch, p=self.mix.people) + 1
        images: list[NDArray[np.uint8]] = []
        clip_index: list[int] = []
        weights: list[NDArray[np.float32]] = []
        faces: list[int] = []
        for count in people_counts:
            scene = draw_mixed(rng, self.sampler.draw(rng, count).tolist(), self.mix)
            # Random times in ascending order, as the authors draw the frames of a clip.
            times = np.sort(rng.random(frame_count))
            frames = [render(scene, self.faces.images, time, rng) for time in times]
            share_crop = bool(self.mix.shared_crop) and rng.random() < self.mix.shared_crop
            if share_crop and not scene.people[0].close_up:
                image, people = cut_shared_crop(frames, scene, times, self.spec)
                images.append(image)
                for person, weight in people:
                    clip_index.append(len(images) - 1)
                    weights.append(weight)
                    faces.append(person.face)
                continue
            for person in scene.people:
                image, weight = self._cut_jittered_crop(rng, scene, person, frames, times)
                images.append(image)
                clip_index.append(len(images) - 1)
                weights.append(weight)
                faces.append(person.face)
        return SceneBatch(
            torch.from_numpy(np.stack(images)),
            torch.tensor(clip_index, dtype=torch.int64),
            torch.from_numpy(np.stack(weights)),
            torch.tensor(faces, dtype=torch.int64),
            torch.from_numpy(_drawn_labels(rng, self.faces.votes[faces])),
            (self.seed, index),
        )

    def _cut_jittered_crop(
        self,
        rng: np.random.Generator,
        scene: Scene,
        person: RenderedPerson,
        frames: list[RgbImage],
        times: NDArray[np.float64],
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Cut one person's clip, (K, S, S, 3) uint8 and (K, G) float32, with a jittered window and box."""
        body = rng.random() < self.mix.body_boxes and not person.close_up
        wide = rng.random() < self.mix.wide_windows
        zoom = float(rng.uniform(1.2, 2.4) if wide else rng.uniform(0.85, 1.2))
        shift = rng.normal(0, 0.04, 4)
        if self.mix.box_scale > 1:
            margin = (self.mix.box_scale ** float(rng.uniform(-1, 1)) - 1) / 2
            shift += np.array([-margin, -margin, margin, margin])
        images, weights = [], []
        for frame, time in zip(frames, times, strict=True):
            exact = body_box(person, time, scene.height) if body else detected_head(person, time)
            image, weight = cut_person_crop(frame, _jitter(exact, shift), self.spec, zoom=zoom)
            images.append(image)
            weights.append(weight)
        return np.stack(images), np.stack(weights)


def _drawn_labels(rng: np.random.Generator, votes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Draw one class of each row of votes (B, C), with its probability; (B,) int64."""
    points = rng.random((len(votes), 1)) * votes.sum(axis=1, keepdims=True)
    below = np.cumsum(votes, axis=1)[:, :-1] <= points
    return np.asarray(below.sum(axis=1), np.int64)


def detected_head(person: RenderedPerson, time: float) -> Box:
    """Return the box of a person's head as the runtime's default detector would give it."""
    x1, y1, x2, y2 = head_box(np.array(face_box(person, time), np.float32)).tolist()
    return (x1, y1, x2, y2)


def cut_person_crop(
    frame: RgbImage, box: Box, spec: PreprocessSpec, *, zoom: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cut a person's window out of a frame.

    Args:
        frame: (H, W, 3) uint8 RGB.
        box: The person, in pixels of the frame.
        spec: How the model's input is cut.
        zoom: Side of the window relative to the runtime's.

    Returns:
        The crop (S, S, 3) uint8 RGB and the patch weights (G,) float32.
    """
    if zoom != 1.0 and spec.subject_scale is not None:
        spec = msgspec.structs.replace(spec, subject_scale=max(spec.subject_scale * zoom, 1.0))
    window = subject_window(box, frame.shape[0], frame.shape[1], spec)
    return crop(frame, window, spec), patch_weights(box, window, spec)


def shared_window(boxes: Sequence[Box], height: int, width: int, spec: PreprocessSpec) -> Window:
    """Return one window around several heads, with the margin of a subject window if the frame allows.

    Without `spec.beyond_frame` the window is no larger than the frame's short side, so heads that are far
    apart may be cut off.
    """
    x1, y1 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x2, y2 = max(box[2] for box in boxes), max(box[3] for box in boxes)
    half = 0.5 * max(x2 - x1, y2 - y1) / (spec.subject_scale or 1)
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    square = (middle_x - half, middle_y - half, middle_x + half, middle_y + half)
    return subject_window(square, height, width, spec)


def cut_shared_crop(
    frames: Sequence[RgbImage],
    scene: Scene,
    times: Sequence[float] | NDArray[np.float64],
    spec: PreprocessSpec,
) -> tuple[NDArray[np.uint8], list[tuple[RenderedPerson, NDArray[np.float32]]]]:
    """Cut one clip that all people of a scene share.

    Args:
        frames: K frames of the scene.
        scene: The scene.
        times: When the frames were rendered, K.
        spec: How the model's input is cut.

    Returns:
        The clip (K, S, S, 3) uint8 RGB, and each person with their patch weights (K, G) float32. People with
        less than half of their head in the crop are left out.
    """
    boxes = [[detected_head(person, time) for person in scene.people] for time in times]
    windows = [shared_window(heads, scene.height, scene.width, spec) for heads in boxes]
    images = [crop(frame, window, spec) for frame, window in zip(frames, windows, strict=True)]
    people = []
    for index, person in enumerate(scene.people):
        placed = [(heads[index], window) for heads, window in zip(boxes, windows, strict=True)]
        weights = [patch_weights(head, window, spec) for head, window in placed]
        if min(_visible_fraction(head, window) for head, window in placed) >= MIN_VISIBLE_FRACTION:
            people.append((person, np.stack(weights)))
    return np.stack(images), people


def _visible_fraction(box: Box, window: Window) -> float:
    """Return the fraction of a box's area that lies in a window."""
    left, top, right, bottom = window.source
    across = max(min(box[2], right) - max(box[0], left), 0.0)
    down = max(min(box[3], bottom) - max(box[1], top), 0.0)
    return across * down / max((box[2] - box[0]) * (box[3] - box[1]), 1e-9)


def _jitter(box: Box, shift: NDArray[np.float64]) -> Box:
    """Move each edge by a fraction of the box's size, as detectors are never exact."""
    width, height = box[2] - box[0], box[3] - box[1]
    dx1, dy1, dx2, dy2 = (float(v) for v in shift)
    return (box[0] + dx1 * width, box[1] + dy1 * height, box[2] + dx2 * width, box[3] + dy2 * height)
