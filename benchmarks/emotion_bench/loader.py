"""Measure what a training batch costs to load, beside a second implementation of how it was loaded before.

Before: one clip after the other, its record first and its frames afterwards; Pillow decodes and cuts.
"""

import io
import math
import pickle
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import fsspec
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from emotion_runtime.preprocess import PreprocessSpec, Window, window_at
from emotion_train.batch import ClipTextBatch
from emotion_train.clips.batches import ShardBatches, draw_frames
from emotion_train.clips.format import BLOCK, PERSON_SCORE, ClipRecord, member_starts
from emotion_train.clips.index import ClipIndex
from emotion_train.clips.open_index import open_index
from emotion_train.clips.order import shuffled
from emotion_train.clips.reader import ShardSet
from emotion_train.language.tokenizer import tokenize

SEED, FRAMES = 0, 8


class OldBatches:
    """Batches as they were loaded before, of the same clips and frames in the same windows of the paper.

    Args:
        location: Folder or URL of the shards.
        spec: How the model's input is cut.
        batch: Clips per batch.
    """

    def __init__(self, location: str, spec: PreprocessSpec, batch: int) -> None:
        self.location, self.spec, self.batch = location, spec, batch
        self.index = open_index(location)

    def __getitem__(self, index: int) -> ClipTextBatch:
        """Load a batch."""
        epoch, position = divmod(index, len(self.index) // self.batch)
        positions = np.arange(position * self.batch, (position + 1) * self.batch)
        clips = shuffled(positions, len(self.index), (SEED, epoch)).tolist()
        images, weights, captions, sentiments = zip(*(self._clip(c, epoch) for c in clips), strict=True)
        return ClipTextBatch(
            torch.from_numpy(np.stack(images)),
            torch.arange(self.batch),
            torch.from_numpy(np.stack(weights)),
            tokenize(list(captions)),
            torch.tensor(sentiments, dtype=torch.float32),
        )

    def _clip(self, clip: int, epoch: int) -> tuple[Any, Any, str, list[float]]:
        rng, chosen = draw_frames((SEED, epoch, clip), self.index.frame_count(clip), FRAMES)
        entry = self.index.entry(clip)
        files, root = fsspec.core.url_to_fs(self.location)
        path = f"{root}/{self.index.shards[entry.shard][0]}"
        starts = entry.offset + member_starts(entry.sizes) + BLOCK

        def fetch(members: list[int]) -> list[bytes]:
            begins = [int(starts[member]) for member in members]
            ends = [begin + int(entry.sizes[member]) for begin, member in zip(begins, members, strict=True)]
            parts: list[bytes] = files.cat_ranges([path] * len(members), begins, ends, on_error="raise")
            return parts

        record = msgspec.json.decode(fetch([0])[0], type=ClipRecord)
        images, weights = [], []
        for frame, jpeg in zip(chosen, fetch([frame + 1 for frame in chosen]), strict=True):
            image = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
            people = [box[:4] for box in record.boxes[frame] if box[4] > PERSON_SCORE]
            height, width = image.shape[:2]
            window = window_at(height, width, self.spec, across=rng.random(), down=rng.random())
            size = (self.spec.size, self.spec.size)
            cut = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, box=window.source)
            images.append(np.asarray(cut))
            weights.append(_old_weights(people, window, self.spec))
        return np.stack(images), np.stack(weights), record.caption, list(record.sentiment)


def _old_weights(
    people: Sequence[Sequence[float]], window: Window, spec: PreprocessSpec
) -> NDArray[np.float32]:
    """Draw the mask of all people and average it over patches."""
    mask = np.zeros((spec.size, spec.size), np.float32)
    for box in people:
        x1, y1, x2, y2 = (edge * window.scale for edge in box)
        left, right = (min(max(edge - window.left, 0), spec.size) for edge in (x1, x2))
        top, bottom = (min(max(edge - window.top, 0), spec.size) for edge in (y1, y2))
        mask[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = 1
    side = spec.side_patches
    fractions: NDArray[np.float32] = mask.reshape(side, spec.patch, side, spec.patch).mean((1, 3)).ravel()
    return fractions


def loader_cost(shards: Path, spec: PreprocessSpec, *, batch: int, batches: int) -> dict[str, Any]:
    """Return CPU milliseconds, bytes and requests a clip of a worker, for both ways in turn."""
    cv2.setNumThreads(1)
    new, old = _both(str(shards), spec, batch)
    for way in (new, old):
        way[0]  # opens files, loads the vocabulary
    spent: dict[str, list[float]] = {"new": [], "old": []}
    new.shards.bytes = 0
    for index in range(1, batches + 1):
        for name, way in (("new", new), ("old", old)):
            start = time.process_time()
            way[index]
            spent[name].append(1000 * (time.process_time() - start) / batch)
    cpu = {name: statistics.median(times) for name, times in spent.items()}
    return {
        "cpu_ms_per_clip": cpu["new"],
        "cpu_ms_per_clip_before": cpu["old"],
        "cpu_share_of_before": cpu["new"] / cpu["old"],
        "bytes_per_clip": new.shards.bytes / (batch * batches),
    }


def latency_cost(
    shards: Path, spec: PreprocessSpec, *, batch: int, batches: int, delay: float
) -> dict[str, float]:
    """Return the milliseconds a clip of one worker whose requests take `delay` seconds, for both ways."""
    with slow_server(shards, delay) as url:
        new, old = _both(url, spec, batch)
        spent: dict[str, list[float]] = {"new": [], "old": []}
        for way in (new, old):
            way[0]  # connects, and checks the shards
        new.shards.requests = new.shards.bytes = 0
        for index in range(1, batches + 1):
            for name, way in (("new", new), ("old", old)):
                start = time.perf_counter()
                way[index]
                spent[name].append(1000 * (time.perf_counter() - start) / batch)
    return {
        "delay_ms": 1000 * delay,
        "ms_per_clip": statistics.median(spent["new"]),
        "ms_per_clip_before": statistics.median(spent["old"]),
        "bytes_per_clip": new.shards.bytes / (batch * batches),
        "requests_per_clip": new.shards.requests / (batch * batches),
    }


def _both(location: str, spec: PreprocessSpec, batch: int) -> tuple[ShardBatches, OldBatches]:
    new = ShardBatches(ShardSet.open(location), spec, seed=SEED, batch=batch, frames=FRAMES)
    return new, OldBatches(location, spec, batch)


@contextmanager
def slow_server(folder: Path, delay: float) -> Iterator[str]:
    """Serve a folder from another process, with range requests that each take `delay` seconds."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(folder, delay, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(folder: Path, delay: float, port: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ranges, folder, delay))
    port.send(server.server_port)
    server.serve_forever()


class _Ranges(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as by an object store

    def __init__(self, folder: Path, delay: float, *request: Any) -> None:
        self.folder, self.delay = folder, delay
        super().__init__(*request)

    def log_message(self, *args: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        """Answer with the size."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Answer with the file, or the part of it that was requested."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        threading.Event().wait(self.delay)
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        first, last = 0, size - 1
        wanted = self.headers.get("Range")
        if wanted:
            first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
            last = min(last, size - 1)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if body:
            with path.open("rb") as file:
                file.seek(first)
                self.wfile.write(file.read(last + 1 - first))


def index_cost(folder: Path, *, clips: int, workers: int = 4, reads: int = 20_000) -> dict[str, Any]:
    """Return seconds to open the index of a large set, and the memory that it takes in all workers.

    Args:
        folder: Where the index is written.
        clips: Number of clips, a multiple of 1,000.
        workers: Processes that read from it, after they were given it as a DataLoader does.
        reads: Clips that each of them looks up, anywhere in the index.
    """
    write_large_index(folder, clips)
    times = []
    for _ in range(2):  # the first makes the binary index, unless it is beside index.json
        start = time.perf_counter()
        shards = ShardSet.open(str(folder))
        times.append(time.perf_counter() - start)
    index = open_index(str(folder))
    with get_context("spawn").Pool(workers) as pool:
        pss = pool.starmap(
            _grown, [(pickle.dumps(index), reads, seed) for seed in range(workers)], chunksize=1
        )
    before = sum(len(pickle.dumps(part)) for part in _arrays_before(index))
    return {
        "clips": clips,
        "seconds_to_open": times[1],
        "seconds_to_open_first": times[0],
        "workers": workers,
        "pss_mib_all_workers": sum(pss) / 2**20,
        "pickled_bytes_per_worker": len(pickle.dumps(shards)),
        "pickled_bytes_per_worker_before": before,
    }


def write_large_index(folder: Path, clips: int, frames: int = 32) -> None:
    """Write the index.json of a set of shards of 1,000 clips each, without the shards."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    sizes = rng.integers(15_000, 30_000, (1000, frames + 1))
    sizes[:, 0] = 2000
    offsets = np.cumsum(sizes.sum(1)) - sizes[0].sum()
    samples = ",".join(
        f'{{"key":"some-video-of-a-series-{clip:05d}","offset":{offsets[clip]},"sizes":{sizes[clip].tolist()}}}'
        for clip in range(1000)
    ).replace(" ", "")
    with (folder / "index.json").open("w") as file:
        file.write(f'{{"schema":1,"spec":{{}},"clips":{clips},"frames":{clips * frames},"shards":[')
        for shard in range(clips // 1000):
            head = f'{{"name":"shard-{shard:06d}.tar","bytes":1,"sha256":"{"0" * 64}","samples":['
            file.write(("," if shard else "") + head + samples + "]}")
        file.write("]}")


def _arrays_before(index: ClipIndex) -> list[Any]:
    """Return what every worker was sent before: the keys, and arrays of offsets, lengths and sizes."""
    clips, members = len(index), index.frames + len(index)
    places = [np.zeros(clips, np.int32), np.zeros(clips, np.int64), np.zeros(clips + 1, np.int64)]
    return [index.keys(), *places, np.zeros(members, np.uint32)]


def _grown(sent: bytes, reads: int, seed: int) -> int:
    """Return by how many bytes this process's share of the memory grows with an index in use."""
    before = _pss()
    index: ClipIndex = pickle.loads(sent)  # noqa: S301 - our own
    for clip in np.random.default_rng(seed).integers(0, len(index), reads).tolist():
        index.entry(clip)
    return _pss() - before


def _pss() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("Pss:")]
    return int(line.split()[1]) * 1024
