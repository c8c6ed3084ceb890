"""The binary index, and the order that is computed instead of stored."""

import os
import pickle
from pathlib import Path

import msgspec
import numpy as np
import pytest
from random_shards import CLIPS, RangeHandler, check_whole, serve, write_set

from emotion_runtime.errors import EmotionError
from emotion_train.clips.format import ClipLocation, Index, Shard
from emotion_train.clips.index import BINARY_NAME, ClipIndex, cached_index, sha256_of_bytes, write_binary
from emotion_train.clips.order import shuffled
from emotion_train.clips.reader import ShardSet


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMOTION_INDEX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    return write_set(tmp_path / "set")


def add_binary(folder: Path) -> Path:
    text = (folder / "index.json").read_bytes()
    index = msgspec.json.decode(text, type=Index)
    write_binary(folder / BINARY_NAME, sha256_of_bytes(text), index.spec, index.shards)
    return folder / BINARY_NAME


def test_a_set_without_a_binary_index_gets_one_on_this_machine(folder: Path, cache: Path):
    check_whole(ShardSet.open(str(folder)))
    assert [path.name for path in cache.rglob("*.bin")] == [
        sha256_of_bytes((folder / "index.json").read_bytes()) + ".bin"
    ]
    assert not (folder / BINARY_NAME).exists()  # the data may be read-only
    check_whole(ShardSet.open(str(folder)))


def test_a_binary_index_beside_the_shards_is_used(folder: Path, cache: Path):
    add_binary(folder)
    shards = ShardSet.open(str(folder))
    check_whole(shards)
    assert shards.spec == {"fps": 8.0}
    assert shards.frames == sum(len(frames) for _, _, frames in CLIPS)
    assert not cache.exists()


@pytest.mark.parametrize("harm", ["other set", "truncated", "not an index", "empty"])
def test_a_binary_index_that_does_not_fit_is_made_again(harm: str, folder: Path, cache: Path):
    binary = add_binary(folder)
    if harm == "other set":
        index = folder / "index.json"
        index.write_bytes(index.read_bytes().replace(b'"fps":8.0', b'"fps":9.0'))
    else:
        data = binary.read_bytes()
        binary.write_bytes({"truncated": data[:-1], "not an index": b"x" * len(data), "empty": b""}[harm])
    shards = ShardSet.open(str(folder))
    check_whole(shards)
    assert shards.spec == {"fps": 9.0 if harm == "other set" else 8.0}
    assert len(list(cache.rglob("*.bin"))) == 1


def test_from_a_server_the_binary_index_is_copied_once(folder: Path):
    add_binary(folder)
    server = serve(RangeHandler, folder)
    url = f"http://127.0.0.1:{server.server_port}"
    local = ShardSet.open(str(folder))
    (folder / "index.json").unlink()
    for _ in range(2):
        shards = ShardSet.open(url)
        check_whole(shards)
        assert shards.fingerprint == local.fingerprint
    assert cached_index(local.fingerprint).is_file()
    server.shutdown()


def test_a_folder_for_copies_that_cannot_be_written(folder: Path, cache: Path):
    cache.write_text("a file")
    with pytest.raises(EmotionError, match="set EMOTION_INDEX_CACHE to a folder that can be written"):
        ShardSet.open(str(folder))


def test_a_binary_index_that_vanishes(folder: Path):
    index = ClipIndex(add_binary(folder))
    index.path.unlink()
    with pytest.raises(EmotionError, match=r"index\.bin: No such file or directory; start the run again"):
        index.key(0)


def test_a_worker_of_a_large_set_is_small(tmp_path: Path):
    """What is sent to each worker does not grow with the number of clips."""
    sent = []
    for clips in (10, 20_000):
        shard = Shard("s.tar", 10, "", [ClipLocation(f"clip-{i}", 512 * i, [5, 6, 7]) for i in range(clips)])
        write_binary(tmp_path / str(clips), "00" * 32, {}, [shard])
        index = ClipIndex(tmp_path / str(clips))
        assert index.entry(clips - 1).key == f"clip-{clips - 1}"
        assert index.entry(7).sizes.tolist() == [5, 6, 7]
        assert (len(index), index.frames, index.frame_count(3)) == (clips, 2 * clips, 2)
        sent.append(len(pickle.dumps(index)))
    assert abs(sent[1] - sent[0]) < 100
    assert os.path.getsize(tmp_path / "20000") < 20_000 * 60  # noqa: PTH202


@pytest.mark.parametrize("count", [1, 2, 3, 20, 64, 65, 1000])
def test_an_order_gives_each_number_once_and_depends_on_the_seed(count: int):
    positions = np.arange(count)
    orders = [shuffled(positions, count, (7, epoch)) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == positions.tolist()
    assert np.array_equal(orders[0][count // 2 :], shuffled(positions[count // 2 :], count, (7, 0)))
    if count > 20:
        assert not np.array_equal(*orders)


def test_an_order_has_no_pattern():
    """Correlations of place and value, and of neighbours, are those of a random order of 20,000."""
    order = shuffled(np.arange(20_000), 20_000, (1, 2))
    for one, other in ((np.arange(20_000), order), (order[:-1], order[1:])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
