"""Small videos, captions and sentences, made on the spot."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotion_train.language.labels import EKMAN
from made_videos import write_images

FEELINGS = {
    "anger": "angry furious mad hate",
    "disgust": "gross disgusting vile nasty",
    "fear": "scared afraid terrified fear",
    "happiness": "happy glad great love",
    "sadness": "sad crying lonely miserable",
    "surprise": "wow amazing unbelievable suddenly",
    "neutral": "table report monday schedule",
}

# 12 s of film each. Sentences of `one`, in order: kept, too short, too neutral, kept, outside the video.
ONE = [
    (0.5, 3.0, "I am so happy!"),
    (3.5, 4.5, "I am glad."),
    (5.0, 8.0, "The monday report schedule is on the table."),
    (8.0, 10.5, "I am angry and mad."),
    (11.0, 15.0, "I am afraid of the end."),
]
# Of `two`: two that are kept, with a pause of 2 s between them.
WOW = ("wow", "this", "is", "amazing", "and", "unbelievable")
HATE = ("i", "hate", "you", "i", "am", "furious.")
TWO = [
    *[(1.0 + 0.5 * n, word) for n, word in enumerate(WOW)],
    *[(6.0 + 0.5 * n, word) for n, word in enumerate(HATE)],
]


def flat_pictures(count: int, *, size: tuple[int, int] = (64, 48), shade: int = 0) -> list[NDArray[np.uint8]]:
    """Images (H, W, 3) of one grey each, 2 n + shade for index n, so that an image identifies its index."""
    return [np.full((size[1], size[0], 3), 2 * number + shade, np.uint8) for number in range(count)]


def write_video(path: Path, pictures: Sequence[NDArray[np.uint8]], *, fps: int = 10) -> Path:
    """A lossless video of RGB pictures."""
    return write_images(path, pictures, fps, codec="ffv1", pixels="bgr0")


def srt_time(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3600000:02d}:{whole // 60000 % 60:02d}:{whole // 1000 % 60:02d},{whole % 1000:03d}"


def write_srt(path: Path, cues: Sequence[tuple[float, float, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = [
        f"{number}\n{srt_time(start)} --> {srt_time(end)}\n{text}\n"
        for number, (start, end, text) in enumerate(cues, 1)
    ]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


def write_json3(path: Path, words: Sequence[tuple[float, str]]) -> Path:
    """Captions as YouTube makes them by machine: a word a segment, in one event."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = words[0][0]
    segments = [{"utf8": f" {text}", "tOffsetMs": round(1000 * (t - first))} for t, text in words]
    event = {
        "tStartMs": round(1000 * first),
        "dDurationMs": round(1000 * (words[-1][0] - first + 2)),
        "segs": segments,
    }
    path.write_text(json.dumps({"events": [event]}), encoding="utf-8")
    return path


def write_sentences(folder: Path) -> Path:
    """A few sentences of each feeling, in the layout that `linear` is fitted on."""
    folder.mkdir(parents=True)
    (folder / "labels.txt").write_text("\n".join(EKMAN))
    lines = []
    for label, name in enumerate(EKMAN):
        for first in FEELINGS[name].split():
            lines += [f"i am {first} and {second}\t{label}\tid" for second in FEELINGS[name].split()]
    (folder / "train.tsv").write_text("\n".join(lines) + "\n")
    return folder
