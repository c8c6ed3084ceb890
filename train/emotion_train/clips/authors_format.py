"""The authors' own prepared data, as their preparation writes it and their training reads it.

    DIR/tv_index.json              [{"video_id", "duration", "start_frame", "end_frame", "text",
                                   "neutral_score", "has_person"}]: a clip each
    DIR/tv_sentiment_logits.npy    (N, 7), a row for each entry of the index, in the order of their model
    DIR/<video_id>/frames.hdf5     JPEG bytes under each name `00000123.jpg`
    DIR/<video_id>/human_boxes.json    [{"00000123.jpg": [[x1, y1, x2, y2, score], ...]}, ...]

Names of frames are numbers at 8 fps from the start of the video; start_frame and end_frame are included.
They keep the index, the logits and the videos where they like; here all lie in one folder (links will do).
Boxes are in pixels of a detector's input of 640 x 640 into which the frame was fitted; as in their training,
the scale is taken from the resized frame, and margins are not. The index has no start in seconds, so a
clip's start is that of its first frame.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from emotion_runtime.errors import EmotionError
from emotion_train.clips.format import ClipRecord, ScoredBox
from emotion_train.clips.jpeg import resized_jpeg
from emotion_train.language.labels import ekman_index

INDEX_NAME, SENTIMENT_NAME = "tv_index.json", "tv_sentiment_logits.npy"
FRAMES_NAME, BOXES_NAME = "frames.hdf5", "human_boxes.json"
FPS = 8.0
DETECTOR_SIDE = 640
# Columns of the logits: classes of j-hartmann/emotion-english-distilroberta-base.
COLUMNS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")


class AuthorsEntry(msgspec.Struct, frozen=True):
    """A clip of the index. duration: seconds. start_frame, end_frame: both included."""

    video_id: str
    duration: float
    start_frame: int
    end_frame: int
    text: str
    neutral_score: float
    has_person: float = 0.0


@dataclass(frozen=True, slots=True)
class AuthorsClip:
    """An entry with its 7 logits in `EKMAN` order."""

    entry: AuthorsEntry
    sentiment: tuple[float, ...]


def load_index(root: Path) -> dict[str, list[AuthorsClip]]:
    """The clips of every video, in the order of the index.

    Raises:
        EmotionError: index or logits are missing, damaged, or do not belong together.

    """
    path, logits_path = root / INDEX_NAME, root / SENTIMENT_NAME
    for needed in (path, logits_path):
        if not needed.is_file():
            raise EmotionError(f"{needed}: no such file; expected it beside the folders of the videos")
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[AuthorsEntry])
        logits = np.load(logits_path, allow_pickle=False)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EmotionError(f"{path}: {error}; expected the authors' index") from error
    except (ValueError, EOFError) as error:
        raise EmotionError(
            f"{logits_path}: no array of numbers ({error}); compute the logits again"
        ) from error
    if logits.shape != (len(entries), len(COLUMNS)) or not np.isfinite(logits).all():
        raise EmotionError(
            f"{logits_path}: shape {logits.shape}, expected ({len(entries)}, {len(COLUMNS)}) of finite "
            f"numbers, a row for each entry of {INDEX_NAME}; compute the logits again"
        )
    order = np.argsort([ekman_index(name) for name in COLUMNS])
    clips: dict[str, list[AuthorsClip]] = {}
    for entry, row in zip(entries, logits[:, order].astype(np.float64), strict=True):
        sentiment = tuple(np.round(row, 4).tolist())
        clips.setdefault(entry.video_id, []).append(AuthorsClip(entry, sentiment))
    return clips


class AuthorsVideo:
    """Frames and boxes of one video; made by `open_video`."""

    def __init__(self, frames: Any, boxes: dict[str, list[ScoredBox]]) -> None:
        self._frames, self._boxes = frames, boxes

    def read(
        self, clip: AuthorsClip, *, short_side: int, quality: int
    ) -> tuple[ClipRecord, list[bytes]] | None:
        """The record and JPEG frames of a clip; None when one of its frames or its boxes is missing.

        short_side: pixels, of the stored frames. A frame that has it already is taken as it is, others are
        resized with Pillow's bicubic and written with JPEG `quality`.

        Raises:
            EmotionError: a frame is damaged.

        """
        entry = clip.entry
        names = [f"{number:08d}.jpg" for number in range(entry.start_frame, entry.end_frame + 1)]
        if not names or not all(name in self._frames and name in self._boxes for name in names):
            return None
        frames, boxes = [], []
        size = (0, 0)
        for name in names:
            frame, size = _resized(self._jpeg(name), f"{entry.video_id} {name}", short_side, quality)
            frames.append(frame)
            boxes.append([scaled_box(box, size) for box in self._boxes[name]])
        start = entry.start_frame / FPS
        record = ClipRecord(
            video=entry.video_id,
            caption=entry.text,
            start=round(start, 3),
            end=round(start + entry.duration, 3),
            fps=FPS,
            width=size[0],
            height=size[1],
            boxes=boxes,
            sentiment=list(clip.sentiment),
            neutral=entry.neutral_score,
        )
        return record, frames

    def _jpeg(self, name: str) -> bytes:
        try:
            return bytes(self._frames[name][()])
        except OSError as error:  # a damaged block of the file
            raise EmotionError(
                f"{self._frames.filename}: {name} cannot be read; make the file again"
            ) from error


@contextmanager
def open_video(folder: Path) -> Iterator[AuthorsVideo]:
    """Frames and boxes of the video in a folder.

    Raises:
        EmotionError: a file is missing or damaged.

    """
    import h5py  # noqa: PLC0415 - only this layout needs it

    frames, boxes = folder / FRAMES_NAME, folder / BOXES_NAME
    for path in (frames, boxes):
        if not path.is_file():
            raise EmotionError(f"{path}: no such file; expected it in the folder of every video")
    try:
        rows = msgspec.json.decode(boxes.read_bytes(), type=list[dict[str, list[ScoredBox]]])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EmotionError(f"{boxes}: {error}; expected a list of name: [[x1, y1, x2, y2, score]]") from error
    try:
        file = h5py.File(frames, "r")
    except OSError as error:
        raise EmotionError(f"{frames}: no HDF5 file, or a torn one; make it again from the frames") from error
    with file:
        yield AuthorsVideo(file, {name: found for row in rows for name, found in row.items()})


def scaled_box(box: ScoredBox, size: tuple[int, int]) -> ScoredBox:
    """A box of the detector's input in whole pixels of a frame of size (width, height)."""
    scale = min(DETECTOR_SIDE / size[0], DETECTOR_SIDE / size[1])
    x1, y1, x2, y2, score = box
    return (
        float(max(math.floor(x1 / scale), 0)),
        float(max(math.floor(y1 / scale), 0)),
        float(min(math.ceil(x2 / scale), size[0])),
        float(min(math.ceil(y2 / scale), size[1])),
        round(score, 4),
    )


def _resized(jpeg: bytes, name: str, short_side: int, quality: int) -> tuple[bytes, tuple[int, int]]:
    """A frame of the wanted short side and its (width, height)."""
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            picture.load()
            if picture.format == "JPEG" and min(picture.size) == short_side:
                return jpeg, picture.size
            return resized_jpeg(picture, short_side=short_side, quality=quality)
    except OSError as error:
        raise EmotionError(f"frame {name}: no picture, or a torn one ({error}); make it again") from error
