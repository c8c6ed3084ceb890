"""A small shard set of moving colours with a person in it, and sentences."""

import io
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from emotion_runtime.files import write_atomically
from emotion_train.clips.format import SCHEMA_VERSION, ClipRecord, Index
from emotion_train.clips.writer import shard_of, write_tar

SENTENCES = ("I am so happy!", "Leave me alone.", "What was that?", "It is late.", "How sad.", "Fine by me.")
SHORT, LONG = 60, 80  # sides of the stored frames


def write_set(folder: Path, clips: int = 20, score: float = 0.9, spread: float = 1.0) -> Path:
    """Frame f of clip c is filled with (c, f, 50); the person stands in its left half, on odd frames only.

    `spread` is the standard deviation of the sentiment's logits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards, total = [], 0
    for number, part in enumerate(np.array_split(np.arange(clips), 2)):
        path = folder / f"shard-{number:06d}.tar"
        with write_tar(path) as writer:
            for clip in part.tolist():
                frames = 8 + clip % 4
                total += frames
                boxes = [[(0.0, 0.0, LONG / 2, float(SHORT), score)] * (f % 2) for f in range(frames)]
                logits = np.random.default_rng(clip).normal(scale=spread, size=7).tolist()
                sentence = SENTENCES[clip % len(SENTENCES)]
                record = ClipRecord(f"v{clip}", sentence, 0, 3, 8, LONG, SHORT, boxes, logits, 0.01)
                writer.add(f"clip-{clip:04d}", record, [_jpeg(clip, frame) for frame in range(frames)])
        shards.append(shard_of(path, writer.samples))
    index = Index(SCHEMA_VERSION, {"short_side": SHORT}, clips, total, shards)
    write_atomically(folder / "index.json", msgspec.json.encode(index))
    return folder


def _jpeg(clip: int, frame: int) -> bytes:
    colour = np.array([10 * clip + 5, 20 * frame + 5, 50], np.uint8)
    picture = Image.fromarray(np.broadcast_to(colour, (SHORT, LONG, 3)).copy())
    picture.save(data := io.BytesIO(), "JPEG", quality=95)
    return data.getvalue()
