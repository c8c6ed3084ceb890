import json
import tarfile
from pathlib import Path

import msgspec
import pytest
import webdataset
from random_shards import CLIPS, check_whole, write_set

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import WriteError
from emotion_train.clips.format import ClipRecord
from emotion_train.clips.reader import ShardSet
from emotion_train.clips.writer import write_tar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path)


def read_error(folder: Path, number: int = 0) -> str:
    """Return the error, of one line, that reading a clip raises."""
    with pytest.raises(EmotionError) as error:
        ShardSet.open(str(folder)).read(number)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- reading


def test_a_set_returns_what_was_written(folder: Path):
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


# --- corrupt sets


def test_a_missing_index(tmp_path: Path):
    with pytest.raises(
        EmotionError, match=r"index\.json: does not exist.*a finished run of emotion-train prepare-data"
    ):
        ShardSet.open(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "has schema 2, expected 1: update the project"),
        ({"schema": "one"}, r"Expected `int`, got `str` - at `\$\.schema`"),
        ({"shards": [{}]}, "missing required field `name`"),
        ({"colour": 1}, "unknown field `colour`"),
        ({"clips": 4}, "announces 4 clips with 25 frames, but lists 5 with 25"),
        ({"frames": 24}, "announces 5 clips with 24 frames, but lists 5 with 25"),
    ],
)
def test_an_invalid_index(change: dict[str, object], message: str, folder: Path):
    index = folder / "index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    with pytest.raises(EmotionError, match=message) as error:
        ShardSet.open(str(folder))
    assert "\n" not in str(error.value)


def test_a_truncated_index(folder: Path):
    index = folder / "index.json"
    index.write_bytes(index.read_bytes()[:-20])
    with pytest.raises(EmotionError, match=r"truncated.*prepare-data"):
        ShardSet.open(str(folder))


def test_a_shard_that_is_shorter_than_in_the_index(folder: Path):
    shard = folder / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-4096])
    size = shard.stat().st_size
    assert f"shard-000000.tar: has {size} bytes, expected {size + 4096}" in read_error(folder)
    assert ShardSet.open(str(folder)).read(4) == CLIPS[4][1:]  # the other shard is intact


def test_a_shard_that_does_not_end_with_zeros(folder: Path):
    shard = folder / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert "is truncated, expected the end of a tar file" in read_error(folder)


def test_another_shard_of_the_same_size(folder: Path):
    shard = folder / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes().replace(b"video-00000", b"video-00009"))
    assert "video-00000.json is not at the position that the index gives" in read_error(folder)


def test_an_invalid_record(folder: Path):
    shard = folder / "shard-000000.tar"
    good = shard.read_bytes()
    shard.write_bytes(good.replace(b'"neutral"', b'"nertual"'))
    assert "the record of video-00000 is invalid" in read_error(folder)
    shard.write_bytes(good.replace(b'"boxes":[[],[', b'"boxes":[   [', 1))
    assert "boxes for 2 frames, but the clip has 3" in read_error(folder)


def test_a_frame_that_is_not_a_jpeg_file(folder: Path):
    shard = folder / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes().replace(CLIPS[1][2][3], bytes(len(CLIPS[1][2][3]))))
    assert "a frame of video-00001 is not a JPEG file" in read_error(folder, 1)
    with pytest.raises(EmotionError, match="a frame of video-00001 is not a JPEG file"):
        ShardSet.open(str(folder)).read_frames(1, [3])
    assert ShardSet.open(str(folder)).read_frames(1, [2]) == [CLIPS[1][2][2]]


@pytest.mark.parametrize("number", [-1, 5])
def test_an_index_out_of_range(number: int, folder: Path):
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


def test_an_unfinished_tar_file_is_removed(tmp_path: Path):
    with pytest.raises(ValueError, match="empty: 0 frames"):
        fill_and_fail(tmp_path / "shard.tar")
    assert list(tmp_path.iterdir()) == []


def test_errors_of_reading_are_not_reported_as_errors_of_writing(tmp_path: Path):
    def read_while_writing() -> None:
        with write_tar(tmp_path / "shard.tar"):
            (tmp_path / "nothing").read_bytes()

    with pytest.raises(FileNotFoundError, match="nothing"):
        read_while_writing()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_created(tmp_path: Path):
    (tmp_path / "no").write_text("a file")
    with pytest.raises(WriteError, match=r"shard-000000\.tar cannot be written \(File exists\)"):
        write_set(tmp_path / "no")
