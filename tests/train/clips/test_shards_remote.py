"""Shards on servers and in other processes."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from random_shards import (
    CLIPS,
    DroppingHandler,
    RangeHandler,
    WholeFilesHandler,
    check_whole,
    serve,
    write_set,
)
from torch.utils.data import DataLoader

from emotion_runtime.errors import EmotionError
from emotion_train.clips import ranges
from emotion_train.clips.format import ClipRecord
from emotion_train.clips.read_errors import ReadError
from emotion_train.clips.reader import ShardSet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path)


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    server = serve(RangeHandler, folder)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_the_fingerprint_identifies_the_index(folder: Path, url: str):
    local, remote = ShardSet.open(str(folder)), ShardSet.open(url)
    assert local.fingerprint == remote.fingerprint
    assert len(local.fingerprint) == 64
    index = folder / "index.json"
    index.write_bytes(index.read_bytes().replace(b'"fps":8.0', b'"fps":9.0'))
    assert ShardSet.open(str(folder)).fingerprint != local.fingerprint


class Numbered:
    """A minimal torch data set."""

    def __init__(self, shards: ShardSet) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: int) -> tuple[ClipRecord, list[bytes]]:
        return self.shards.read(index)


@pytest.mark.parametrize("where", ["disk", "server"])
def test_a_set_can_be_sent_to_other_processes_after_use(where: str, folder: Path, url: str):
    shards = ShardSet.open(str(folder) if where == "disk" else url)
    assert shards.read(0) == CLIPS[0][1:]
    assert pickle.loads(pickle.dumps(shards)).read(1) == CLIPS[1][1:]  # noqa: S301 - our own
    loader = DataLoader(
        Numbered(shards), batch_size=None, num_workers=1, multiprocessing_context="forkserver"
    )
    assert [tuple(pair) for pair in loader] == [tuple(c[1:]) for c in CLIPS]


# --- object stores


def test_only_the_requested_bytes_are_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch):
    server = serve(RangeHandler, folder)
    shards = ShardSet.open(f"http://127.0.0.1:{server.server_port}/")
    check_whole(shards)
    sent = server.sent  # type: ignore[attr-defined]  # see `serve`
    sent.clear()
    before = shards.bytes
    shards.read_frames(3, [2, 7])
    assert len(sent) == 1  # they are near each other
    assert shards.bytes - before == sent[0]
    sent.clear()
    monkeypatch.setattr(ranges, "NEAR", 0)
    shards.read_frames(3, [2, 7])
    assert sorted(sent) == sorted(len(CLIPS[3][2][frame]) for frame in (2, 7))
    server.shutdown()


def test_near_ranges_of_a_file_are_one_request(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ranges, "NEAR", 3)
    files = {"a": bytes(range(100)), "b": bytes(range(100, 200))}

    def read(paths: list[str], starts: list[int], ends: list[int], *, on_error: str) -> list[object]:
        assert on_error == "return"
        return [
            files[path][start:end] if start < 50 else OSError("cut off")
            for path, start, end in zip(paths, starts, ends, strict=True)
        ]

    wanted = [("b", 8, 9), ("a", 10, 20), ("a", 0, 7), ("a", 24, 30), ("a", 12, 14), ("b", 60, 70)]
    paths, starts, ends = (list(column) for column in zip(*wanted, strict=True))
    parts, received = ranges.joined_ranges(read, paths, starts, ends, on_error="return")
    assert parts[:-1] == [files[path][start:end] for path, start, end in wanted[:-1]]
    assert isinstance(parts[-1], OSError)
    assert [len(part) for part in received[:-1]] == [20, 6, 1]  # 0..20 and 24..30 of a, 8..9 of b
    assert ranges.joined_ranges(read, [], [], [], on_error="return") == ([], [])


def test_other_file_systems_of_fsspec(folder: Path):
    store = fsspec.filesystem("memory")
    store.put(str(folder), "/shards-of-test", recursive=True)
    check_whole(ShardSet.open("memory://shards-of-test"))
    store.rm("/shards-of-test", recursive=True)


def test_a_server_that_ignores_ranges(folder: Path):
    server = serve(WholeFilesHandler, folder)
    with pytest.raises(EmotionError, match=r"shard-000000\.tar: the server sends only whole files") as error:
        ShardSet.open(f"http://127.0.0.1:{server.server_port}").read(0)
    assert "\n" not in str(error.value)
    server.shutdown()


def test_an_unreachable_server(folder: Path, url: str):
    shards = ShardSet.open(url)
    (folder / "shard-000001.tar").unlink()
    with pytest.raises(EmotionError, match=r"shard-000001\.tar: does not exist or cannot be reached"):
        shards.read(4)
    with pytest.raises(EmotionError, match=r"index\.json: (does not exist|cannot be read)"):
        ShardSet.open("http://127.0.0.1:9")


def test_a_server_that_hangs_up(folder: Path):
    server = serve(DroppingHandler, folder)
    with pytest.raises(
        EmotionError, match=r"shard-000000\.tar: cannot be read \(.*check the address"
    ) as error:
        ShardSet.open(f"http://127.0.0.1:{server.server_port}").read(0)
    assert "\n" not in str(error.value)
    server.shutdown()


class _Flaky(RangeHandler):
    """Answers most requests with 503, as a busy object store does."""

    failures = 0

    def do_GET(self) -> None:  # noqa: N802
        if type(self).failures > 0:
            type(self).failures -= 1
            self.send_error(503, "slow down")
            return
        super().do_GET()


def test_a_failed_read_is_tried_again(folder: Path):
    server = serve(_Flaky, folder)
    url = f"http://127.0.0.1:{server.server_port}"
    _Flaky.failures = 2
    shards = ShardSet.open(url, waits=(0.01,) * 2)
    _Flaky.failures = 2
    assert shards.read(0) == CLIPS[0][1:]
    _Flaky.failures = 3  # one more than there are tries
    with pytest.raises(ReadError, match=r"cannot be read \(503"):
        shards.read(1)
    _Flaky.failures = 2
    for _ in range(2):  # while it does not recover, nothing waits
        with pytest.raises(ReadError):
            shards.read(1)
    assert shards.read(1) == CLIPS[1][1:]
    _Flaky.failures = 2
    assert shards.read(2) == CLIPS[2][1:]
    server.shutdown()


def test_an_unknown_protocol():
    with pytest.raises(EmotionError, match=r"gopher://x/index\.json: cannot be read \(Protocol not known"):
        ShardSet.open("gopher://x")
