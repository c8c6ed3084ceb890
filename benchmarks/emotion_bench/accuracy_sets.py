"""The sets that accuracy is measured on, all made of faces that no training and no tuning ever saw."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.scenes.batches import SceneMix
from emotion_train.scenes.camera import Camera
from emotion_train.scenes.drawing import Occluder, RenderedPerson, Scene, face_box
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.sets import PersonClip, RenderedClip, SceneChange, rendered_clips

Numbered = tuple[int, PersonClip]
PEOPLE = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Plan:
    """faces: of the test split. frames: pictures of a clip. seconds: it spans. seed: of all that is drawn."""

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
        """Every face once."""
        mix = SceneMix(degraded=float(degraded))
        return rendered_clips(self.faces, people, frames=self.frames, seed=self.seed, mix=mix, change=change)

    def label(self, person: RenderedPerson) -> int:
        """Of a person's face."""
        return int(self.faces.labels[person.face])


def scenes(plan: Plan, people: tuple[int, ...] = PEOPLE, *, degraded: bool = False) -> Iterator[Numbered]:
    """Every face once in scenes of several people, each in its own window; the group is their number."""
    for rendered in plan.rendered_clips(people, degraded=degraded):
        for person in rendered.scene.people:
            yield len(rendered.scene.people), rendered.person_clip(person, plan.label(person), plan.spec)


def tight_faces(plan: Plan) -> Iterator[Numbered]:
    """The 48 px squares as they are, as pictures of one person who keeps still."""
    for row, image in enumerate(plan.faces.images):
        scene = _square(plan.faces.images.shape[1], row)
        rendered = RenderedClip(scene, [np.repeat(image[..., None], 3, axis=2)], [0.5])
        yield 1, rendered.person_clip(scene.people[0], int(plan.faces.labels[row]), plan.spec)


def changed(plan: Plan, change: SceneChange) -> Iterator[Numbered]:
    """Every face once and alone, in scenes that `change` is done to."""
    for rendered in plan.rendered_clips((1,), change=change):
        person = rendered.scene.people[0]
        yield 1, rendered.person_clip(person, plan.label(person), plan.spec)


def _square(side: int, face: int) -> Scene:
    """A picture that is the face square of one person, boxed as CenterFace would on average."""
    nothing = np.zeros(3, np.float32)
    middle = (side - 1) / 2
    person = RenderedPerson(
        face,
        middle,
        middle,
        side,
        0.0,
        False,
        (0.0, 0.0, 0.0, 0.0),
        nothing,
        nothing,
        nothing,
        0.5,
        1.0,
        np.array([0.50, 0.51, 0.78, 0.92]),
        close_up=True,
    )
    return Scene(side, side, (person,), np.zeros((side, side, 3), np.uint8), Camera())


def _clean(scene: Scene) -> Scene:
    """A plain camera, a person who stands still and upright, with a face square of 80 px."""
    person = replace(scene.people[0], tilt=0.0, drift=(0.0, 0.0, 0.0, 0.0), side=80.0)
    return replace(scene, camera=Camera(), people=(person,))


def _seen_by(camera: Callable[[Scene], Camera]) -> SceneChange:
    def change(scene: Scene) -> Scene:
        plain = _clean(scene)
        return replace(plain, camera=camera(plain))

    return change


def _shown(who: Callable[[RenderedPerson], RenderedPerson]) -> SceneChange:
    def change(scene: Scene) -> Scene:
        plain = _clean(scene)
        return replace(plain, people=(who(plain.people[0]),))

    return change


def _either(person: RenderedPerson, first: float, second: float) -> float:
    """One of two, as fixed for a face as its number."""
    return first if person.face % 2 else second


def _gain(red: float, green: float, blue: float) -> Callable[[Scene], Camera]:
    return lambda _: Camera(gain=(red, green, blue))


def _half_covered(person: RenderedPerson) -> RenderedPerson:
    grey = np.full(3, 128, np.float32)
    halves = (
        Occluder(0.0, 0.4, 0.55, 0.4, grey),
        Occluder(-0.4, 0.0, 0.4, 0.6, grey),
        Occluder(0.4, 0.0, 0.4, 0.6, grey),
    )
    return replace(person, occluder=halves[person.face % 3])


CLEAN: Final[SceneChange] = _clean

# What may be wrong with a picture, one thing at a time.
CORRUPTIONS: Final[Mapping[str, SceneChange]] = MappingProxyType(
    {
        "brightness: 40 % or 170 %": _seen_by(
            lambda scene: Camera(gain=(_either(scene.people[0], 0.4, 1.7),) * 3)
        ),
        "contrast: 35 %": _seen_by(lambda _: Camera(gain=(0.35, 0.35, 0.35), offset=0.65 * 128)),
        "blur: sigma 2 px of a face of 80": _seen_by(lambda _: Camera(blur=2.0)),
        "JPEG, quality 30": _seen_by(lambda _: Camera(jpeg=30)),
        "noise: sigma 20 of 255": _seen_by(lambda _: Camera(noise=20.0)),
        "face of 24 px": _shown(lambda person: replace(person, side=24.0)),
        "colour cast": _seen_by(_gain(1.3, 1.0, 0.55)),
        "head tilted 20 degrees": _shown(lambda person: replace(person, tilt=_either(person, 20.0, -20.0))),
        "half of the face covered": _shown(_half_covered),
    }
)


def face_crop(rendered: RenderedClip, person: RenderedPerson, frame: int, size: int) -> NDArray[np.uint8]:
    """(size, size) grey: the square around a face that a model of tight faces is given."""
    import cv2  # noqa: PLC0415 - only a peer needs it

    x1, y1, x2, y2 = face_box(person, rendered.times[frame])
    half = 0.5 * max(x2 - x1, y2 - y1)
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    grey = cv2.cvtColor(rendered.frames[frame], cv2.COLOR_RGB2GRAY)
    scale = size / (2 * half)
    move = np.array(
        [[scale, 0, size / 2 - scale * middle[0]], [0, scale, size / 2 - scale * middle[1]]], np.float64
    )
    if scale < 1:  # a warp skips pixels
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), 0.5 / scale), np.uint8)
    return np.asarray(
        cv2.warpAffine(grey, move, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )
