"""MovieGraphs: scenes of films, labelled with 26 groups of emotions.

Source: paper Sec. 4.1, reference [77]; layout and label order are those of the authors' evaluation.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from emotion_train.datasets.base import Dataset, Sample, SampleImage, Task
from emotion_train.datasets.bold import CATEGORIES
from emotion_train.datasets.boxes import Detection, image_of_everyone
from emotion_train.datasets.frames import image_size, uniform
from emotion_train.datasets.layout import Layout
from emotion_train.datasets.rows import BadRow, assemble, several_of, whole

SPLITS = ("train", "val", "test")
EMOTIONS = tuple(sorted(CATEGORIES))
TASKS = (Task("emotions", "multi_label", EMOTIONS),)

# The files do not say where a film's last shot ends; the authors use 8 seconds of 24 frames of its scene.
_LAST_SCENE_FRAMES = 8 * 24
# (film, clip): last frame. This film is shorter than its annotation; the authors end its last scene here.
_KNOWN_ENDS = {("tt0388795", 207): 184272}
_SHORT_NAMES = {"doubt/conf": "doubt/confusion"}
TREE = (
    "below --data: official/mg/py3loader/emotion_labels.json, official/mg/split.json, "
    "official/mg_videoinfo/scene_boundaries/<movie>.scenes.gt, "
    "official/mg_videoinfo/video_boundaries/<movie>.videvents, frames/<movie>/frame_<n>.jpg, "
    "all_human_boxes.json"
)


@dataclass(frozen=True, slots=True)
class _SceneFilm:
    """A film.

    Attributes:
        name: Name of the film.
        frames: Folder of its frames.
        scenes: First and last frame of each scene, None where its shots do not exist.
        boxes: Detections by file name.
    """

    name: str
    frames: Path
    scenes: list[tuple[int, int] | None]
    boxes: dict[str, list[Detection]]


def load(root: Path, split: str) -> Dataset:
    """Load one split.

    A row is a scene; its eight frames are spread from its first to its last frame. Clips are numbered by
    the lines of the film's scene file from 0, shots from 1 and frames from 0. Each line of the shot file
    after the first contains the frame at which another shot starts. The subject is everyone in the frame. A
    group is a film.

    Raises:
        EmotionError: The layout is another, or no row is usable.
    """
    layout = Layout("moviegraphs", root, TREE)
    layout.check_split(split, SPLITS)
    labels = labelled_scenes(layout)
    films = layout.json(layout.file("official", "mg", "split.json"), dict[str, list[str]])
    boxes_file = layout.file("all_human_boxes.json")
    # The boxes of all films would be gigabytes of Python objects, so they are decoded one film at a time.
    boxes = layout.json(boxes_file, dict[str, msgspec.Raw])

    @lru_cache(maxsize=1)
    def film_of(name: str) -> _SceneFilm:
        text = boxes.get(name, msgspec.Raw(b"{}"))
        people = layout.decoded(boxes_file, text, dict[str, list[Detection]])
        return _SceneFilm(name, root / "frames" / name, _scenes(layout, name), people)

    def sample(row: tuple[str, str, list[str]]) -> Sample:
        name, clip, groups = row
        emotions = several_of([_full_name(group) for group in groups], EMOTIONS)
        images = _images(film_of(name), whole(clip, "clip"))
        return Sample(f"{split}/{name}/{clip}", name, images, {"emotions": emotions})

    rows = [
        (name, clip, labels[name][clip]) for name in films.get(split, []) for clip in labels.get(name, {})
    ]
    return assemble(layout, split, TASKS, rows, sample)


def _full_name(group: str) -> str:
    name = group.lower()
    return _SHORT_NAMES.get(name, name)


def labelled_scenes(layout: Layout) -> dict[str, dict[str, list[str]]]:
    """Return the names of groups by film and clip.

    Raises:
        EmotionError: The file of labels is missing, or has another content.
    """
    path = layout.file("official", "mg", "py3loader", "emotion_labels.json")
    labels: dict[str, dict[str, list[str]]] = layout.json(path, dict[str, dict[str, list[str]]])
    return labels


def frames_of_scenes(layout: Layout, film: str, clips: Iterable[str]) -> set[int]:
    """Return the numbers of the frames that the scenes of a film need; scenes without any are left out."""
    frames: set[int] = set()
    with suppress(BadRow):
        scenes = _scenes(layout, film)
        for clip in clips:
            with suppress(BadRow):
                frames |= set(_frames(scenes, film, whole(clip, "clip")))
    return frames


def _frames(scenes: Sequence[tuple[int, int] | None], film: str, clip: int) -> list[int]:
    """Return the numbers of a scene's eight frames."""
    if not 0 <= clip < len(scenes):
        raise BadRow("no such scene in the film")
    span = scenes[clip]
    if span is None:
        raise BadRow("scene of shots that the film does not have")
    first, last = span
    return uniform(first, _KNOWN_ENDS.get((film, clip), last))


def _images(film: _SceneFilm, clip: int) -> tuple[SampleImage, ...]:
    frames = _frames(film.scenes, film.name, clip)
    paths = [film.frames / f"frame_{frame}.jpg" for frame in frames]
    if not all(path.is_file() for path in paths):
        raise BadRow("missing frame")
    size = image_size(paths[0])
    return tuple(image_of_everyone(path, film.boxes, *size) for path in paths)


def _scenes(layout: Layout, film: str) -> list[tuple[int, int] | None]:
    """Return the first and last frame of every scene of a film; None if the scene's shots do not exist."""
    folder = layout.root / "official" / "mg_videoinfo"
    scene_file = folder / "scene_boundaries" / f"{film}.scenes.gt"
    shot_file = folder / "video_boundaries" / f"{film}.videvents"
    if not scene_file.is_file() or not shot_file.is_file():
        raise BadRow("film without scene or shot boundaries")
    try:
        cuts = [int(words[0]) for words in layout.words(shot_file)[1:]]
        shots = [(int(words[0]), int(words[1])) for words in layout.words(scene_file)]
    except (ValueError, IndexError) as error:
        raise layout.broken(folder, f"boundaries of {film} are not numbers ({error})") from error
    starts = [0, *cuts]
    ends = [cut - 1 for cut in cuts]

    def frames(first: int, last: int) -> tuple[int, int] | None:
        if not 1 <= first <= last <= len(starts):
            return None
        start = starts[first - 1]
        return start, ends[last - 1] if last <= len(ends) else start + _LAST_SCENE_FRAMES

    return [frames(first, last) for first, last in shots]
