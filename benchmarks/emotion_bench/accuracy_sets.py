"""The test sets for accuracy, all rendered from faces of the test split."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from emotion_bench.conditions import COVERED
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.scenes.batches import SceneMix
from emotion_train.scenes.camera import Camera
from emotion_train.scenes.drawing import Scene
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.people import RenderedPerson
from emotion_train.scenes.sets import PersonClip, RenderedClip, SceneChange, rendered_clips

Numbered = tuple[int, PersonClip]  # the group that a clip is counted in
PEOPLE = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the test sets are rendered from.

    Attributes:
        faces: Faces of the test split.
        spec: Preprocessing of the model.
        frames: Number of frames of a clip.
        seconds: Time that a clip spans.
        seed: Seed of everything that is rendered.
    """

    faces: Faces
    spec: PreprocessSpec
    frames: int
    seconds: float
    seed: int

    def rendered_clips(
        self,
        people: tuple[int, ...] = PEOPLE,
        *,
        degraded: bool = False,
        change: SceneChange = lambda scene: scene,
    ) -> Iterator[RenderedClip]:
        """Render every face once, in scenes of each number of people in turn."""
        mix = SceneMix(degraded=float(degraded))
        return rendered_clips(self.faces, people, frames=self.frames, seed=self.seed, mix=mix, change=change)

    def label(self, person: RenderedPerson) -> int:
        """Return the class of a person's face."""
        return int(self.faces.labels[person.face])


def scenes(plan: Plan, people: tuple[int, ...] = PEOPLE, **options: Any) -> Iterator[Numbered]:
    """Yield every face once, with a crop each; the group is the number of people in its scene."""
    for rendered in plan.rendered_clips(people, **options):
        for person in rendered.scene.people:
            yield len(rendered.scene.people), rendered.person_clip(person, plan.label(person), plan.spec)


def aligned_faces(plan: Plan) -> Iterator[Numbered]:
    """Yield the aligned 48 px face crops as they are, as images of one person who keeps still."""
    side = plan.faces.images.shape[1]
    middle, still, black = (side - 1) / 2, (0.0, 0.0, 0.0, 0.0), np.zeros(3, np.float32)
    looks = black, black, black, 0.5, 1.0
    head = np.array([0.50, 0.51, 0.78, 0.92])  # the box that CenterFace gives on average
    for row, image in enumerate(plan.faces.images):
        person = RenderedPerson(row, middle, middle, side, 0.0, False, still, *looks, head, close_up=True)
        scene = Scene(side, side, (person,), np.zeros((side, side, 3), np.uint8), Camera())
        rendered = RenderedClip(scene, [np.repeat(image[..., None], 3, axis=2)], [0.5])
        yield 1, rendered.person_clip(person, plan.label(person), plan.spec)


def clean(scene: Scene) -> Scene:
    """Give a scene a plain camera and a person who stands still and upright, with a face of 80 px."""
    person = replace(scene.people[0], tilt=0.0, drift=(0.0, 0.0, 0.0, 0.0), side=80.0)
    return replace(scene, camera=Camera(), people=(person,))


def _camera(**effects: Any) -> SceneChange:
    return lambda scene: replace(clean(scene), camera=Camera(**effects))


def _person(**changes: Any) -> SceneChange:
    return lambda scene: replace(clean(scene), people=(replace(clean(scene).people[0], **changes),))


def _in_turn(*changes: SceneChange) -> SceneChange:
    """Return a change that is one of several, always the same one for a face."""
    return lambda scene: changes[scene.people[0].face % len(changes)](scene)


# Corruptions of an image, by the name that reports print.
CORRUPTIONS: Final[Mapping[str, SceneChange]] = MappingProxyType(
    {
        "brightness: 40 % or 170 %": _in_turn(_camera(gain=(1.7,) * 3), _camera(gain=(0.4,) * 3)),
        "contrast: 35 %": _camera(gain=(0.35, 0.35, 0.35), offset=0.65 * 128),
        "blur: sigma 2 px of a face of 80": _camera(blur=2.0),
        "JPEG, quality 30": _camera(jpeg=30),
        "noise: sigma 20 of 255": _camera(noise=20.0),
        "face of 24 px": _person(side=24.0),
        "colour cast": _camera(gain=(1.3, 1.0, 0.55)),
        "head tilted 20 degrees": _in_turn(_person(tilt=-20.0), _person(tilt=20.0)),
        "half of the face covered": _in_turn(
            *(_person(occluder=COVERED[half]) for half in ("lower", "left", "right"))
        ),
    }
)
