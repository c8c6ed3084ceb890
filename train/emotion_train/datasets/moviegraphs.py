"""MovieGraphs: scenes of films with 26 groups of emotions.

Source: paper Sec. 4.1, reference [77]; layout and label order of the authors' evaluation.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from emotion_train.datasets.base import Dataset, Sample, SampleImage, Task
from emotion_train.datasets.bold import CATEGORIES
from emotion_train.datasets.boxes import Detection, everybody
from emotion_train.datasets.frames import image_size, uniform
from emotion_train.datasets.layout import Layout
from emotion_train.datasets.rows import BadRow, assemble, several_of, whole

SPLITS = ("train", "val", "test")
EMOTIONS = tuple(sorted(CATEGORIES))
TASKS = (Task("emotions", "multi_label", EMOTIONS),)

# The files do not say where a film's last shot ends; the authors look at 8 seconds of 24 frames of its scene.
_OPEN_SCENE = 8 * 24
# A film that is shorter than its annotation; the authors end its last scene here.
_KNOWN_ENDS = {("tt0388795", 207): 184272}
_SHORT_NAMES = {"doubt/conf": "doubt/confusion"}
_TREE = (
    "below --data: official/mg/py3loader/emotion_labels.json, official/mg/split.json, "
    "official/mg_videoinfo/scene_boundaries/<movie>.scenes.gt, "
    "official/mg_videoinfo/video_boundaries/<movie>.videvents, frames/<movie>/frame_<n>.jpg, "
    "all_human_boxes.json"
)


@dataclass(frozen=True, slots=True)
class _Film:
    """frames: its folder. scenes: first and last frame of each, if known. boxes: by file name."""

    name: str
    frames: Path
    scenes: list[tuple[int, int] | None]
    boxes: dict[str, list[Detection]]


def load(root: Path, split: str) -> Dataset:
    """One split.

    A row is a scene; its eight frames are spread over its first .. last frame. A clip's number counts the
    lines of the film's scene file from 0, shots count from 1 and frames from 0. Each line of the shot file
    after its first states the frame at which a further shot begins. The subject is everybody in the frame.
    Group: the film.

    Raises:
        EmotionError: the layout is another, or no row can be used.

    """
    layout = Layout("moviegraphs", root, _TREE)
    layout.check_split(split, SPLITS)
    labels_file = layout.file("official", "mg", "py3loader", "emotion_labels.json")
    labels = layout.json(labels_file, dict[str, dict[str, list[str]]])
    films = layout.json(layout.file("official", "mg", "split.json"), dict[str, list[str]])
    boxes_file = layout.file("all_human_boxes.json")
    # Boxes of all films would be gigabytes of Python objects: they stay text, but for one film at a time.
    boxes = layout.json(boxes_file, dict[str, msgspec.Raw])

    @lru_cache(maxsize=1)
    def film_of(name: str) -> _Film:
        text = boxes.get(name, msgspec.Raw(b"{}"))
        people = layout.decoded(boxes_file, text, dict[str, list[Detection]])
        return _Film(name, root / "frames" / name, _scenes(layout, name), people)

    def sample(row: tuple[str, str, list[str]]) -> Sample:
        name, clip, groups = row
        emotions = several_of([_full_name(group) for group in groups], EMOTIONS)
        pictures = _pictures(film_of(name), whole(clip, "clip"))
        return Sample(f"{split}/{name}/{clip}", name, pictures, {"emotions": emotions})

    rows = [
        (name, clip, labels[name][clip]) for name in films.get(split, []) for clip in labels.get(name, {})
    ]
    return assemble(layout, split, TASKS, rows, sample)


def _full_name(group: str) -> str:
    name = group.lower()
    return _SHORT_NAMES.get(name, name)


def _pictures(film: _Film, clip: int) -> tuple[SampleImage, ...]:
    if not 0 <= clip < len(film.scenes):
        raise BadRow("no such scene in the film")
    span = film.scenes[clip]
    if span is None:
        raise BadRow("scene of shots that the film does not have")
    first, last = span
    last = _KNOWN_ENDS.get((film.name, clip), last)
    paths = [film.frames / f"frame_{number}.jpg" for number in uniform(first, last)]
    if not all(path.is_file() for path in paths):
        raise BadRow("missing frame")
    size = image_size(paths[0])
    return tuple(everybody(path, film.boxes, *size) for path in paths)


def _scenes(layout: Layout, film: str) -> list[tuple[int, int] | None]:
    """First and last frame of every scene of a film; None for a scene of shots that it does not have."""
    folder = layout.root / "official" / "mg_videoinfo"
    scene_file = folder / "scene_boundaries" / f"{film}.scenes.gt"
    shot_file = folder / "video_boundaries" / f"{film}.videvents"
    if not scene_file.is_file() or not shot_file.is_file():
        raise BadRow("film without scene or shot boundaries")
    try:
        cuts = [int(words[0]) for words in layout.words(shot_file)[1:]]
        shots = [(int(words[0]), int(words[1])) for words in layout.words(scene_file)]
    except (ValueError, IndexError) as error:
        raise layout.broken(folder, f"boundaries of {film} are no numbers ({error})") from error
    starts = [0, *cuts]
    ends = [cut - 1 for cut in cuts]

    def frames(first: int, last: int) -> tuple[int, int] | None:
        if not 1 <= first <= last <= len(starts):
            return None
        start = starts[first - 1]
        return start, ends[last - 1] if last <= len(ends) else start + _OPEN_SCENE

    return [frames(first, last) for first, last in shots]
