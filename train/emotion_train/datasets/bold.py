"""BoLD: people in film clips with 26 categories and valence, arousal, dominance.

Source: paper Sec. 4.1, reference [45]; layout and label order of the authors' evaluation.
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from emotion_runtime.manifest import AFFECT
from emotion_runtime.types import Box
from emotion_train.datasets.base import Dataset, Sample, SampleImage, Task
from emotion_train.datasets.boxes import joints_box
from emotion_train.datasets.frames import clip_frames
from emotion_train.datasets.layout import Layout
from emotion_train.datasets.rows import BadRow, assemble, finite, present, whole

SPLITS = ("train", "val")
CATEGORIES = (
    "peace",
    "affection",
    "esteem",
    "anticipation",
    "engagement",
    "confidence",
    "happiness",
    "pleasure",
    "excitement",
    "surprise",
    "sympathy",
    "doubt/confusion",
    "disconnection",
    "fatigue",
    "embarrassment",
    "yearning",
    "disapproval",
    "aversion",
    "annoyance",
    "anger",
    "sensitivity",
    "sadness",
    "disquietment",
    "fear",
    "pain",
    "suffering",
)
TASKS = (Task("categories", "multi_label", CATEGORIES), Task("vad", "regression", AFFECT))

_TREE = (
    "below --data: annotations/{train,val}.csv (37 columns, no header), joints/<video>.npy, "
    "mmextract/<video_id>/<name>_<number>.jpg"
)
_SCORES = slice(4, 30)
_AFFECT = slice(30, 33)
_COLUMNS = 37
_JOINTS = 18

Boxes = Mapping[tuple[int, int], Box]  # by (frame, person)


def load(root: Path, split: str) -> Dataset:
    """One split.

    A row is a person in a clip. Its eight frames are spread over all frames in the clip's folder, whatever
    the row's first and last frame, as in the authors' evaluation; a frame in which the person has no joints
    is kept, with nobody in it. The last number in a frame's name counts from 1, as the joints' frame numbers
    do once their least one in the file is made 1. Group: the film, which is the folder in the clip's name.

    Raises:
        EmotionError: the layout is another, or no row can be used.

    """
    layout = Layout("bold", root, _TREE)
    layout.check_split(split, SPLITS)
    table = layout.cells(layout.file("annotations", f"{split}.csv"))
    # Rows of a clip stand together, and the joints of all clips would not be small.
    boxes_of = lru_cache(maxsize=16)(partial(_boxes, layout))

    def sample(row: tuple[int, list[str]]) -> Sample:
        number, cells = row
        if len(cells) != _COLUMNS:
            raise BadRow(f"{len(cells)} columns instead of {_COLUMNS}")
        video, person = cells[0], whole(cells[1], "person")
        return Sample(
            key=f"{split}/{number}/{video}/{person}",
            group=str(Path(video).parent) if "/" in video else video,
            images=_pictures(layout.root / "mmextract" / video, boxes_of(video), person),
            targets={
                "categories": present(cells[_SCORES], "category"),
                "vad": finite(cells[_AFFECT], "valence, arousal or dominance"),
            },
        )

    return assemble(layout, split, TASKS, enumerate(table), sample)


def _pictures(folder: Path, boxes: Boxes, person: int) -> tuple[SampleImage, ...]:
    if not any(who == person for _, who in boxes):
        raise BadRow("no joints of the person")
    frames = [(path, boxes.get((number, person))) for number, path in clip_frames(folder)]
    return tuple(SampleImage(path, () if box is None else (box,)) for path, box in frames)


def _boxes(layout: Layout, video: str) -> Boxes:
    """The boxes of everybody in a clip, frames counted from 1."""
    path = layout.root / "joints" / f"{video.removesuffix('.mp4')}.npy"
    if not path.is_file():
        raise BadRow("no file of joints")
    rows = layout.array(path, 2 + 3 * _JOINTS)
    rows = rows[np.isfinite(rows[:, :2]).all(1)]  # frame and person
    if not len(rows):
        raise BadRow("no joints of the person")
    first = rows[:, 0].min()
    found = {(int(row[0] - first) + 1, int(row[1])): joints_box(row[2:].reshape(_JOINTS, 3)) for row in rows}
    return {place: box for place, box in found.items() if box is not None}
