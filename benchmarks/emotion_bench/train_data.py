"""Shards for the training benchmark: real videos prepared on the spot, or synthetic images."""

import io
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_train.clips.format import SCHEMA_VERSION, ClipRecord, Index
from emotion_train.clips.writer import shard_of, write_tar
from emotion_train.language.goemotions import load_sentences
from emotion_train.prepare.run import ShardOutput, WorkerPool, prepare_raw
from emotion_train.prepare.settings import Filters, ModelNames, PrepareSettings

SECONDS, PAUSE = 2.8, 0.2  # duration of a sentence, and the pause after it
_LONGEST = 80  # characters that can be said in that time
_WORDS = (
    "nothing",
    "of",
    "this",
    "was",
    "ever",
    "said",
    "by",
    "anybody",
    "in",
    "a",
    "picture",
    "of",
    "colours",
)


def real_shards(data: Path, out: Path, *, workers: int) -> Path:
    """Prepare shards from the .avi and .mp4 files of `data`/videos, as prepare_data.py does.

    The captions are invented: sentences of `data`/data/goemotions_ekman, one every three seconds.

    Raises:
        EmotionError: The videos or the sentences are missing.
    """
    videos, sentences = data / "videos", data / "data" / "goemotions_ekman"
    found = sorted(path for path in videos.glob("*") if path.suffix in (".avi", ".mp4"))
    if not found:
        raise EmotionError(
            f"--data {data}: no .avi or .mp4 in {videos}; leave out --data to use synthetic images"
        )
    texts = [text for text in load_sentences(sentences, "train").texts if _one_sentence(text)]
    captions = out / "captions"
    captions.mkdir(parents=True)
    for index, path in enumerate(found):
        (captions / f"{path.stem}.srt").write_text(_subtitles(texts[index * 100 :]), encoding="utf-8")
    names = ModelNames("face", None, "linear", sentences)
    # Captions may outlast a video; neutral sentences are as good as others here.
    settings = PrepareSettings(filters=Filters(max_neutral=1.0))
    pool = WorkerPool("local", workers)
    output = ShardOutput(out / "shards", 0, 1000)
    prepare_raw((videos, captions), output, settings, names, pool, frozenset())
    return output.folder


def _one_sentence(text: str) -> bool:
    return len(text) <= _LONGEST and not any(mark in text[:-1] for mark in ".!?\n<>[]♪")


def _subtitles(texts: list[str], minutes: int = 3) -> str:
    blocks = []
    for index in range(int(minutes * 60 / (SECONDS + PAUSE))):
        start = index * (SECONDS + PAUSE)
        times = " --> ".join(_clock(time) for time in (start, start + SECONDS))
        blocks.append(f"{index + 1}\n{times}\n{texts[index].rstrip('.!?')}.\n")
    return "\n".join(blocks)


def _clock(seconds: float) -> str:
    whole = round(1000 * seconds)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02},{whole % 1000:03}"


def made_shards(out: Path, *, clips: int, short_side: int) -> Path:
    """Write a shard set of soft random colours, 16:9, with a person in each frame.

    The JPEG files are as large as those of real frames, so that decoding and cropping take about as long.
    """
    rng = np.random.default_rng(0)
    out.mkdir(parents=True)
    width, frames = short_side * 16 // 9, 20
    path = out / "shard-000000.tar"
    with write_tar(path) as writer:
        for clip in range(clips):
            boxes = [[(width * 0.3, 5.0, width * 0.6, short_side - 5.0, 0.9)]] * frames
            logits = rng.normal(size=7).tolist()
            caption = " ".join(_WORDS[: 3 + clip % (len(_WORDS) - 2)]) + "."
            record = ClipRecord(f"v{clip}", caption, 0, frames / 8, 8, width, short_side, boxes, logits, 0.01)
            writer.add(f"clip-{clip:06d}", record, [_jpeg(rng, width, short_side) for _ in range(frames)])
    index = Index(SCHEMA_VERSION, {}, clips, clips * frames, [shard_of(path, writer.samples)])
    write_atomically(out / "index.json", msgspec.json.encode(index))
    return out


def _jpeg(rng: np.random.Generator, width: int, height: int) -> bytes:
    coarse = rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grained = np.clip(soft + rng.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)
    Image.fromarray(grained).save(data := io.BytesIO(), "JPEG", quality=90)
    return data.getvalue()
