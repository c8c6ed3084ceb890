"""Shards of synthetic images for the benchmark of training."""

import io
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from emotion_runtime.files import write_atomically
from emotion_train.clips.format import SCHEMA_VERSION, ClipRecord, Index
from emotion_train.clips.writer import shard_of, write_tar

_FRAMES = 20  # of a clip
_CAPTION = "nothing of this was ever said by anybody in a picture of colours"


def made_shards(out: Path, *, clips: int, short_side: int) -> Path:
    """Write a shard set of soft random colours, 16:9, with a person in each frame.

    The JPEG files are as large as those of real frames, so that decoding and cropping take about as long.
    """
    rng = np.random.default_rng(0)
    out.mkdir(parents=True)
    width, words = short_side * 16 // 9, _CAPTION.split()
    path = out / "shard-000000.tar"
    with write_tar(path) as writer:
        for clip in range(clips):
            boxes = [[(width * 0.3, 5.0, width * 0.6, short_side - 5.0, 0.9)]] * _FRAMES
            logits = rng.normal(size=7).tolist()
            caption = " ".join(words[: 3 + clip % (len(words) - 2)]) + "."
            record = ClipRecord(
                f"v{clip}", caption, 0, _FRAMES / 8, 8, width, short_side, boxes, logits, 0.01
            )
            writer.add(f"clip-{clip:06d}", record, [_jpeg(rng, width, short_side) for _ in range(_FRAMES)])
    index = Index(SCHEMA_VERSION, {}, clips, clips * _FRAMES, [shard_of(path, writer.samples)])
    write_atomically(out / "index.json", msgspec.json.encode(index))
    return out


def _jpeg(rng: np.random.Generator, width: int, height: int) -> bytes:
    coarse = rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grained = np.clip(soft + rng.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)
    Image.fromarray(grained).save(data := io.BytesIO(), "JPEG", quality=90)
    return data.getvalue()
