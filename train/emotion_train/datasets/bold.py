"""BoLD: people in film clips, labelled with 26 categories and with valence, arousal and dominance.

Source: paper Sec. 4.1, reference [45]; layout and label order are those of the authors' evaluation.
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

PersonBoxes = Mapping[tuple[int, int], Box]  # by (frame, person)


def load(root: Path, split: str) -> Dataset:
    """Load one split.

    A row is a person in a clip. Its eight frames are spread over all frames in the clip's folder,
    regardless of the row's first and last frame, as in the authors' evaluation. A frame in which the person
    has no joints is kept without a subject. The last number in a frame's file name counts from 1; frame
    numbers of joints are shifted so that the smallest in a file is 1. A group is a film, the folder in the
    clip's name.

    Raises:
        EmotionError: The layout is another, or no row is usable.
    """
    layout = Layout("bold", root, _TREE)
    layout.check_split(split, SPLITS)
    table = layout.cells(layout.file("annotations", f"{split}.csv"))
    # The rows of a clip are consecutive, and the joints of all clips would need much memory.
    boxes_of = lru_cache(maxsize=16)(partial(_boxes, layout))

    def sample(numbered_row: tuple[int, list[str]]) -> Sample:
        row, cells = numbered_row
        if len(cells) != _COLUMNS:
            raise BadRow(f"{len(cells)} columns instead of {_COLUMNS}")
        video, person = cells[0], whole(cells[1], "person")
        return Sample(
            key=f"{split}/{row}/{video}/{person}",
            group=str(Path(video).parent) if "/" in video else video,
            images=_images(layout.root / "mmextract" / video, boxes_of(video), person),
            targets={
                "categories": present(cells[_SCORES], "category"),
                "vad": finite(cells[_AFFECT], "valence, arousal or dominance"),
            },
        )

    return assemble(layout, split, TASKS, enumerate(table), sample)


def _images(folder: Path, boxes: PersonBoxes, person: int) -> tuple[SampleImage, ...]:
    if not any(box_person == person for _, box_person in boxes):
        raise BadRow("no joints of the person")
    frames = [(path, boxes.get((frame, person))) for frame, path in clip_frames(folder)]
    return tuple(SampleImage(path, () if box is None else (box,)) for path, box in frames)


def _boxes(layout: Layout, video: str) -> PersonBoxes:
    """Return the boxes of all people in a clip; frames count from 1."""
    path = layout.root / "joints" / f"{video.removesuffix('.mp4')}.npy"
    if not path.is_file():
        raise BadRow("no file of joints")
    rows = layout.array(path, 2 + 3 * _JOINTS)
    rows = rows[np.isfinite(rows[:, :2]).all(1)]  # frame and person
    if not len(rows):
        raise BadRow("no joints of the person")
    first = rows[:, 0].min()
    boxes = {(int(row[0] - first) + 1, int(row[1])): joints_box(row[2:].reshape(_JOINTS, 3)) for row in rows}
    return {place: box for place, box in boxes.items() if box is not None}
