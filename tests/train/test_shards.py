import io
import json
import multiprocessing
import pickle
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import fsspec
import msgspec
import numpy as np
import pytest
import webdataset
from PIL import Image
from torch.utils.data import DataLoader

from emotion_runtime.errors import EmotionError
from emotion_train.data.shard_format import SCHEMA_VERSION, Index
from emotion_train.data.shards import ClipRecord, ShardSet
from emotion_train.prepare.writer import CannotWrite, shard_of, write_file, write_tar

FRAMES = (3, 8, 1, 11, 2)  # of each clip


def jpeg(number: int) -> bytes:
    """A picture of its own, of a size of its own."""
    rng = np.random.default_rng(number)
    picture = Image.fromarray(rng.integers(0, 256, (12 + number % 7, 20, 3), dtype=np.uint8))
    picture.save(data := io.BytesIO(), "JPEG")
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
    """Two shards of three and two clips."""
    shards = []
    for number, part in enumerate((CLIPS[:3], CLIPS[3:])):
        path = folder / f"shard-{number:06d}.tar"
        with write_tar(path) as writer:
            for key, record, frames in part:
                writer.add(key, record, frames)
        shards.append(shard_of(path, writer.samples))
    index = Index(SCHEMA_VERSION, {"fps": 8.0}, len(CLIPS), sum(FRAMES), shards)
    write_file(folder / "index.json", msgspec.json.encode(index))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path)


class RangeHandler(SimpleHTTPRequestHandler):
    """What object stores do and Python's own server does not: parts of files."""

    def log_message(self, *args: object) -> None: ...

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        if wanted is None:
            super().do_GET()
            return
        data = Path(self.translate_path(self.path)).read_bytes()
        first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
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
    """Says how large a shard is, and hangs up when it is to be sent."""

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


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    server = serve(RangeHandler, folder)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def broken(folder: Path, number: int = 0) -> str:
    """The one line that reading a clip ends in."""
    with pytest.raises(EmotionError) as error:
        ShardSet.open(str(folder)).read(number)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- reading


def check_whole(shards: ShardSet) -> None:
    assert len(shards) == len(CLIPS)
    assert shards.keys == [key for key, _, _ in CLIPS]
    for number, (_, record, frames) in enumerate(CLIPS):
        assert shards.read(number) == (record, frames)
        assert shards.record(number) == record
        assert shards.frames_of(number) == len(frames)
    assert shards.read_frames(3, [10, 0, 4, 4]) == [CLIPS[3][2][frame] for frame in (10, 0, 4, 4)]
    assert shards.read_frames(0, []) == []


def test_a_set_gives_back_what_was_written(folder: Path):
    shards = ShardSet.open(str(folder))
    check_whole(shards)
    assert shards.spec == {"fps": 8.0}


def test_webdataset_reads_the_same_clips(folder: Path):
    paths = [str(path) for path in sorted(folder.glob("*.tar"))]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [key for key, _, _ in CLIPS]
    for sample, (_, record, frames) in zip(samples, CLIPS, strict=True):
        assert msgspec.json.decode(sample["json"], type=ClipRecord) == record
        assert [sample[f"{number:03d}.jpg"] for number in range(len(frames))] == frames
        assert len([name for name in sample if not name.startswith("__")]) == 1 + len(frames)


def test_the_same_clips_give_the_same_bytes(folder: Path, tmp_path: Path):
    (tmp_path / "again").mkdir()
    again = write_set(tmp_path / "again")
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    assert names == ["index.json", "shard-000000.tar", "shard-000001.tar"]
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)
    with tarfile.open(folder / "shard-000000.tar") as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


def test_the_fingerprint_is_the_indexs(folder: Path, url: str):
    local, remote = ShardSet.open(str(folder)), ShardSet.open(url)
    assert local.fingerprint == remote.fingerprint
    assert len(local.fingerprint) == 64
    index = folder / "index.json"
    index.write_bytes(index.read_bytes().replace(b'"fps":8.0', b'"fps":9.0'))
    assert ShardSet.open(str(folder)).fingerprint != local.fingerprint


def read_last(shards: ShardSet) -> tuple[ClipRecord, list[bytes]]:
    return shards.read(len(shards) - 1)


class Numbered:
    """The least of a torch data set."""

    def __init__(self, shards: ShardSet) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, number: int) -> tuple[ClipRecord, list[bytes]]:
        return self.shards.read(number)


@pytest.mark.parametrize("where", ["disk", "server"])
def test_a_set_that_was_used_goes_to_other_processes(where: str, folder: Path, url: str):
    shards = ShardSet.open(str(folder) if where == "disk" else url)
    assert shards.read(0) == CLIPS[0][1:]
    assert pickle.loads(pickle.dumps(shards)).read(1) == CLIPS[1][1:]  # noqa: S301 - our own
    loader = DataLoader(Numbered(shards), batch_size=None, num_workers=1, multiprocessing_context="fork")
    assert [tuple(pair) for pair in loader] == [tuple(c[1:]) for c in CLIPS]


def test_a_spawned_process_reads_too(folder: Path):
    shards = ShardSet.open(str(folder))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(read_last, (shards,)) == CLIPS[-1][1:]


# --- object stores


def test_a_server_sends_no_more_than_is_asked_for(folder: Path):
    server = serve(RangeHandler, folder)
    shards = ShardSet.open(f"http://127.0.0.1:{server.server_port}/")
    check_whole(shards)
    sent = server.sent  # type: ignore[attr-defined]  # see `serve`
    sent.clear()
    shards.read_frames(3, [2, 7])
    assert sorted(sent) == sorted(len(CLIPS[3][2][frame]) for frame in (2, 7))
    server.shutdown()


def test_any_file_system_that_fsspec_knows(folder: Path):
    store = fsspec.filesystem("memory")
    store.put(str(folder), "/shards-of-test", recursive=True)
    check_whole(ShardSet.open("memory://shards-of-test"))
    store.rm("/shards-of-test", recursive=True)


def test_a_server_that_ignores_ranges(folder: Path):
    server = serve(WholeFilesHandler, folder)
    with pytest.raises(EmotionError, match=r"shard-000000\.tar: the server sends whole files only") as error:
        ShardSet.open(f"http://127.0.0.1:{server.server_port}").read(0)
    assert "\n" not in str(error.value)
    server.shutdown()


def test_a_server_that_is_not_there(folder: Path, url: str):
    shards = ShardSet.open(url)
    (folder / "shard-000001.tar").unlink()
    with pytest.raises(EmotionError, match=r"shard-000001\.tar: no such file, or it cannot be reached"):
        shards.read(4)
    with pytest.raises(EmotionError, match=r"index\.json: (no such file|cannot be read)"):
        ShardSet.open("http://127.0.0.1:9")


def test_a_server_that_hangs_up(folder: Path):
    server = serve(DroppingHandler, folder)
    with pytest.raises(
        EmotionError, match=r"shard-000000\.tar: cannot be read \(.*check the address"
    ) as error:
        ShardSet.open(f"http://127.0.0.1:{server.server_port}").read(0)
    assert "\n" not in str(error.value)
    server.shutdown()


def test_a_protocol_that_nobody_knows():
    with pytest.raises(EmotionError, match=r"gopher://x/index\.json: cannot be read \(Protocol not known"):
        ShardSet.open("gopher://x")


# --- damage


def test_no_index(tmp_path: Path):
    with pytest.raises(EmotionError, match=r"index\.json: no such file.*a finished run of train/prepare"):
        ShardSet.open(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2, this version reads 1: update the project"),
        ({"schema": "one"}, r"Expected `int`, got `str` - at `\$\.schema`"),
        ({"shards": [{}]}, "missing required field `name`"),
        ({"colour": 1}, "unknown field `colour`"),
        ({"clips": 4}, "states 4 clips of 25 frames, lists 5 of 25"),
        ({"frames": 24}, "states 5 clips of 24 frames, lists 5 of 25"),
    ],
)
def test_an_index_that_cannot_be(change: dict[str, object], message: str, folder: Path):
    index = folder / "index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    with pytest.raises(EmotionError, match=message) as error:
        ShardSet.open(str(folder))
    assert "\n" not in str(error.value)


def test_a_torn_index(folder: Path):
    index = folder / "index.json"
    index.write_bytes(index.read_bytes()[:-20])
    with pytest.raises(EmotionError, match=r"truncated.*prepare_data"):
        ShardSet.open(str(folder))


def test_a_shard_that_is_shorter_than_the_index_says(folder: Path):
    shard = folder / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-4096])
    size = shard.stat().st_size
    assert f"shard-000000.tar: {size} bytes, the index says {size + 4096}" in broken(folder)
    assert ShardSet.open(str(folder)).read(4) == CLIPS[4][1:]  # the other one is sound


def test_a_shard_of_zeros_at_the_end_only_in_name(folder: Path):
    shard = folder / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert "does not end as a tar file does" in broken(folder)


def test_another_shard_of_the_same_size(folder: Path):
    shard = folder / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes().replace(b"video-00000", b"video-00009"))
    assert "no video-00000.json where the index says" in broken(folder)


def test_a_record_that_cannot_be(folder: Path):
    shard = folder / "shard-000000.tar"
    good = shard.read_bytes()
    shard.write_bytes(good.replace(b'"neutral"', b'"nertual"'))
    assert "record of video-00000 is wrong" in broken(folder)
    shard.write_bytes(good.replace(b'"boxes":[[],[', b'"boxes":[   [', 1))
    assert "boxes of 2 frames, the clip has 3" in broken(folder)


def test_a_frame_that_is_no_jpeg(folder: Path):
    shard = folder / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes().replace(CLIPS[1][2][3], bytes(len(CLIPS[1][2][3]))))
    assert "a frame of video-00001 is no JPEG" in broken(folder, 1)
    with pytest.raises(EmotionError, match="a frame of video-00001 is no JPEG"):
        ShardSet.open(str(folder)).read_frames(1, [3])
    assert ShardSet.open(str(folder)).read_frames(1, [2]) == [CLIPS[1][2][2]]


@pytest.mark.parametrize("number", [-1, 5])
def test_a_clip_that_is_not_there(number: int, folder: Path):
    with pytest.raises(IndexError, match=f"clip {number} of 5"):
        ShardSet.open(str(folder)).read(number)
    with pytest.raises(IndexError, match="frame 3 of clip 0, which has 3"):
        ShardSet.open(str(folder)).read_frames(0, [3])


# --- writing


def fill_and_fail(path: Path) -> None:
    with write_tar(path) as writer:
        writer.add(*CLIPS[0])
        assert len(list(path.parent.iterdir())) == 1
        writer.add("empty", CLIPS[0][1], [])


def test_a_tar_that_is_not_finished_is_not_there(tmp_path: Path):
    with pytest.raises(ValueError, match="empty: 0 frames"):
        fill_and_fail(tmp_path / "shard.tar")
    assert list(tmp_path.iterdir()) == []


def test_errors_of_reading_are_not_blamed_on_the_disk(tmp_path: Path):
    def read_while_writing() -> None:
        with write_tar(tmp_path / "shard.tar"):
            (tmp_path / "nothing").read_bytes()

    with pytest.raises(FileNotFoundError, match="nothing"):
        read_while_writing()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(CannotWrite, match=r"shard-000000\.tar cannot be written: No such file or directory"):
        write_set(tmp_path / "no")
