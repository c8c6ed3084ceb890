"""Read the data that the authors' preparation writes and their training reads.

    DIR/tv_index.json              [{"video_id", "duration", "start_frame", "end_frame", "text",
                                   "neutral_score", "has_person"}], one entry per clip
    DIR/tv_sentiment_logits.npy    (N, 7), one row per entry of the index, in the order of their model
    DIR/<video_id>/frames.hdf5     JPEG bytes under names like `00000123.jpg`
    DIR/<video_id>/human_boxes.json    [{"00000123.jpg": [[x1, y1, x2, y2, score], ...]}, ...]

Names of frames are frame numbers at 8 fps from the start of the video; start_frame and end_frame are both
included. The authors read index, logits and videos from configurable places; here all are in one folder
(links are enough). Boxes are in pixels of the 640 x 640 detector input into which the frame was fitted. As
in their training, the scale is computed from the resized frame and the letterbox margins are ignored. The
index has no start in seconds, so a clip starts at its first frame.
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
from emotion_train.datasets.boxes import DETECTOR_SIDE
from emotion_train.language.labels import ekman_index

INDEX_NAME, SENTIMENT_NAME = "tv_index.json", "tv_sentiment_logits.npy"
FRAMES_NAME, BOXES_NAME = "frames.hdf5", "human_boxes.json"
FPS = 8.0
# Columns of the logits: the classes of j-hartmann/emotion-english-distilroberta-base.
COLUMNS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")


class AuthorsEntry(msgspec.Struct, frozen=True):
    """A clip of the index. `duration` is in seconds; `start_frame` and `end_frame` are both included."""

    video_id: str
    duration: float
    start_frame: int
    end_frame: int
    text: str
    neutral_score: float
    has_person: float = 0.0


@dataclass(frozen=True, slots=True)
class AuthorsClip:
    """An entry of the index with its 7 logits in `EKMAN` order."""

    entry: AuthorsEntry
    sentiment: tuple[float, ...]


def load_index(root: Path) -> dict[str, list[AuthorsClip]]:
    """Load the clips of every video, in the order of the index.

    Raises:
        EmotionError: Index or logits are missing, corrupt or inconsistent.
    """
    path, logits_path = root / INDEX_NAME, root / SENTIMENT_NAME
    for needed in (path, logits_path):
        if not needed.is_file():
            raise EmotionError(
                f"{needed}: no such file; it must be in the folder that contains the folders of the videos"
            )
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[AuthorsEntry])
        logits = np.load(logits_path, allow_pickle=False)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EmotionError(f"{path}: {error}; expected the authors' index") from error
    except (ValueError, EOFError) as error:
        raise EmotionError(
            f"{logits_path}: not an array of numbers ({error}); compute the logits again"
        ) from error
    if logits.shape != (len(entries), len(COLUMNS)) or not np.isfinite(logits).all():
        raise EmotionError(
            f"{logits_path}: shape {logits.shape}, expected ({len(entries)}, {len(COLUMNS)}) of finite "
            f"numbers, one row per entry of {INDEX_NAME}; compute the logits again"
        )
    order = np.argsort([ekman_index(name) for name in COLUMNS])
    clips: dict[str, list[AuthorsClip]] = {}
    for entry, row in zip(entries, logits[:, order].astype(np.float64), strict=True):
        sentiment = tuple(np.round(row, 4).tolist())
        clips.setdefault(entry.video_id, []).append(AuthorsClip(entry, sentiment))
    return clips


class AuthorsVideo:
    """Frames and boxes of one video. Create it with `open_video`."""

    def __init__(self, frames: Any, boxes: dict[str, list[ScoredBox]]) -> None:
        self._frames, self._boxes = frames, boxes

    def read(
        self, clip: AuthorsClip, *, short_side: int, quality: int
    ) -> tuple[ClipRecord, list[bytes]] | None:
        """Read a clip.

        Args:
            clip: The clip.
            short_side: Short side of the frames, pixels. JPEG frames of this size are copied; others are
                resized with Pillow's bicubic filter.
            quality: JPEG quality of resized frames.

        Returns:
            The record and the JPEG frames; None if one of the frames or its boxes are missing.

        Raises:
            EmotionError: A frame is corrupt.
        """
        entry = clip.entry
        names = [f"{frame:08d}.jpg" for frame in range(entry.start_frame, entry.end_frame + 1)]
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
        except OSError as error:  # a corrupt block of the file
            raise EmotionError(
                f"{self._frames.filename}: {name} cannot be read; make the file again"
            ) from error


@contextmanager
def open_video(folder: Path) -> Iterator[AuthorsVideo]:
    """Open the frames and boxes of the video in a folder.

    Raises:
        EmotionError: A file is missing or corrupt.
    """
    import h5py  # noqa: PLC0415 - needed for this format only

    frames, boxes = folder / FRAMES_NAME, folder / BOXES_NAME
    for path in (frames, boxes):
        if not path.is_file():
            raise EmotionError(f"{path}: no such file; every video folder must contain it")
    try:
        rows = msgspec.json.decode(boxes.read_bytes(), type=list[dict[str, list[ScoredBox]]])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EmotionError(f"{boxes}: {error}; expected a list of {{name: boxes}}") from error
    try:
        file = h5py.File(frames, "r")
    except OSError as error:
        raise EmotionError(
            f"{frames}: not an HDF5 file, or corrupt; make it again from the frames"
        ) from error
    with file:
        yield AuthorsVideo(file, {name: found for row in rows for name, found in row.items()})


def scaled_box(box: ScoredBox, size: tuple[int, int]) -> ScoredBox:
    """Convert a box from the detector's input to whole pixels of a frame of size (width, height)."""
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
    """Return a frame with the given short side, and its (width, height)."""
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            image.load()
            if image.format == "JPEG" and min(image.size) == short_side:
                return jpeg, image.size
            return resized_jpeg(image, short_side=short_side, quality=quality)
    except OSError as error:
        raise EmotionError(f"frame {name}: not an image, or corrupt ({error}); make it again") from error
