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
from emotion_train.clips.reader import ClipRecord, ReadError, ShardSet


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


def test_only_the_requested_bytes_are_downloaded(folder: Path):
    server = serve(RangeHandler, folder)
    shards = ShardSet.open(f"http://127.0.0.1:{server.server_port}/")
    check_whole(shards)
    sent = server.sent  # type: ignore[attr-defined]  # see `serve`
    sent.clear()
    shards.read_frames(3, [2, 7])
    assert sorted(sent) == sorted(len(CLIPS[3][2][frame]) for frame in (2, 7))
    server.shutdown()


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
