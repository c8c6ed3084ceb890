import json
import multiprocessing
import tarfile
from pathlib import Path

import msgspec
import pytest
import webdataset
from random_shards import CLIPS, check_whole, write_set

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import WriteError
from emotion_train.clips.reader import ClipRecord, ShardSet
from emotion_train.clips.writer import write_tar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path)


def broken(folder: Path, number: int = 0) -> str:
    """The one line that reading a clip ends in."""
    with pytest.raises(EmotionError) as error:
        ShardSet.open(str(folder)).read(number)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- reading


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


def read_last(shards: ShardSet) -> tuple[ClipRecord, list[bytes]]:
    return shards.read(len(shards) - 1)


@pytest.mark.slow
def test_a_spawned_process_reads_too(folder: Path):
    shards = ShardSet.open(str(folder))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(read_last, (shards,)) == CLIPS[-1][1:]


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


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "no").write_text("a file")
    with pytest.raises(WriteError, match=r"shard-000000\.tar cannot be written \(File exists\)"):
        write_set(tmp_path / "no")
