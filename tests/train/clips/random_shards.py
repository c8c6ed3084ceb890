"""A small shard set of random images, and servers for it."""

import io
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from emotion_runtime.files import write_atomically
from emotion_train.clips.format import SCHEMA_VERSION, ClipRecord, Index
from emotion_train.clips.reader import ShardSet
from emotion_train.clips.writer import shard_of, write_tar

FRAMES = (3, 8, 1, 11, 2)  # of each clip


def jpeg(number: int) -> bytes:
    """Return a random image as a JPEG file; content and size depend on the number."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 256, (12 + number % 7, 20, 3), dtype=np.uint8))
    image.save(data := io.BytesIO(), "JPEG")
    return data.getvalue()


def clip(number: int) -> tuple[str, ClipRecord, list[bytes]]:
    frames = [jpeg(100 * number + frame) for frame in range(FRAMES[number])]
    boxes = [[(1.0, 2.0, 3.5, 4.25, 0.5)] * (frame % 3) for frame in range(FRAMES[number])]
    record = ClipRecord(
        f"video {number}", f"Né {number}?", 1.5, 4.0, 8.0, 20, 12, boxes, [float(v) for v in range(7)], 0.01
    )
    return f"video-{number:05d}", record, frames


CLIPS = [clip(number) for number in range(len(FRAMES))]


def write_set(folder: Path) -> Path:
    """Write two shards of three and two clips."""
    shards = []
    for number, part in enumerate((CLIPS[:3], CLIPS[3:])):
        path = folder / f"shard-{number:06d}.tar"
        with write_tar(path) as writer:
            for key, record, frames in part:
                writer.add(key, record, frames)
        shards.append(shard_of(path, writer.samples))
    index = Index(SCHEMA_VERSION, {"fps": 8.0}, len(CLIPS), sum(FRAMES), shards)
    write_atomically(folder / "index.json", msgspec.json.encode(index))
    return folder


class RangeHandler(SimpleHTTPRequestHandler):
    """Answers range requests, as object stores do and Python's own server does not."""

    def log_message(self, *args: object) -> None: ...

    def do_GET(self) -> None:
        requested = self.headers.get("Range")
        if requested is None:
            super().do_GET()
            return
        data = Path(self.translate_path(self.path)).read_bytes()
        first, last = (int(part) for part in requested.removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        self.server.sent.append(len(part))  # type: ignore[attr-defined]  # made by `serve`
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


class WholeFilesHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...


class DroppingHandler(RangeHandler):
    """Reports the size of a shard, and closes the connection when it is requested."""

    def do_GET(self) -> None:
        if self.path.endswith(".tar"):
            self.close_connection = True
        else:
            super().do_GET()


def serve(handler: type[SimpleHTTPRequestHandler], folder: Path) -> HTTPServer:
    server = HTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    server.sent = []  # type: ignore[attr-defined]  # bytes of every part
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def check_whole(shards: ShardSet) -> None:
    assert len(shards) == len(CLIPS)
    assert shards.keys == [key for key, _, _ in CLIPS]
    for number, (_, record, frames) in enumerate(CLIPS):
        assert shards.read(number) == (record, frames)
        assert shards.record(number) == record
        assert shards.frame_count(number) == len(frames)
    assert shards.read_frames(3, [10, 0, 4, 4]) == [CLIPS[3][2][frame] for frame in (10, 0, 4, 4)]
    assert shards.read_frames(0, []) == []
