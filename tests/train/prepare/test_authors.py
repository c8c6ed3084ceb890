import io
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from command import Command
from PIL import Image

from emotion_runtime.errors import EmotionError
from emotion_train.clips.authors_format import load_index, open_video, scaled_box
from emotion_train.clips.reader import ShardSet
from emotion_train.language.labels import EKMAN

COLUMNS = ["anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"]  # of their sentiment model
LOGITS = np.arange(35, dtype=np.float32).reshape(5, 7) / 4

# video, seconds, first and last frame, text, neutral
ENTRIES = [
    ("aaa", 2.3, 2, 20, "I love it", 0.01),
    ("bbb", 2.5, 0, 19, "I hate it", 0.05),
    ("aaa", 3.0, 2, 25, "The table", 0.06),
    ("aaa", 2.5, 20, 39, "Beyond the end", 0.01),
    ("ccc", 2.5, 0, 19, "No folder", 0.01),
]


def jpeg(number: int, size: tuple[int, int]) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, (number * 5, 0, 0)).save(data, "JPEG")
    return data.getvalue()


def boxes_of(number: int) -> list[list[float]]:
    """In the detector's 640 x 640; none in every third frame."""
    return [] if number % 3 == 0 else [[100.5, 50.2, 200.4, 300.9, 0.91234], [0, 0, 640, 360, 0.3]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What the authors' scripts leave: `aaa` of 426 x 240 pixels, `bbb` of 256 x 256."""
    folder = tmp_path / "authors"
    for name, size in (("aaa", (426, 240)), ("bbb", (256, 256))):
        (folder / name).mkdir(parents=True)
        with h5py.File(folder / name / "frames.hdf5", "w") as file:
            for number in range(30):
                file[f"{number:08d}.jpg"] = np.asarray(jpeg(number, size))
        rows = [{f"{number:08d}.jpg": boxes_of(number)} for number in range(30)]
        (folder / name / "human_boxes.json").write_text(json.dumps(rows))
    names = ("video_id", "duration", "start_frame", "end_frame", "text", "neutral_score")
    index = [{**dict(zip(names, entry, strict=True)), "has_person": 0.7} for entry in ENTRIES]
    (folder / "tv_index.json").write_text(json.dumps(index, indent=4))
    np.save(folder / "tv_sentiment_logits.npy", LOGITS)
    return folder


def test_a_clip_is_what_the_index_says(root: Path):
    first, *_ = load_index(root)["aaa"]
    with open_video(root / "aaa") as video:
        clip = video.read(first, short_side=240, quality=90)
    assert clip is not None
    record, frames = clip
    assert (record.video, record.caption, record.neutral, record.fps) == ("aaa", "I love it", 0.01, 8.0)
    assert (record.start, record.end) == (0.25, 2.55)
    assert frames == [jpeg(number, (426, 240)) for number in range(2, 21)]  # of the wanted size: untouched
    # 426 x 240 in 640 x 640: a scale of 640 / 426, the edges rounded outwards.
    scale = 640 / 426
    strong = (
        np.floor(100.5 / scale),
        np.floor(50.2 / scale),
        np.ceil(200.4 / scale),
        np.ceil(300.9 / scale),
        0.9123,
    )
    assert record.boxes[0] == [strong, (0.0, 0.0, 426.0, 240.0, 0.3)]
    assert [len(boxes) for boxes in record.boxes] == [len(boxes_of(number)) for number in range(2, 21)]


def test_sentiment_is_put_into_our_order(root: Path):
    second = load_index(root)["bbb"][0]
    theirs = dict(zip(COLUMNS, LOGITS[1].tolist(), strict=True))
    theirs["happiness"] = theirs.pop("joy")
    assert second.sentiment == tuple(theirs[name] for name in EKMAN)


def test_frames_of_another_size_are_resized_and_their_boxes_with_them(root: Path):
    with open_video(root / "aaa") as video:
        clip = video.read(load_index(root)["aaa"][0], short_side=120, quality=90)
    assert clip is not None
    record, frames = clip
    assert (record.width, record.height) == (213, 120)
    with Image.open(io.BytesIO(frames[3])) as picture:
        assert picture.size == (213, 120)
        assert np.asarray(picture)[..., 0].mean() == pytest.approx(25, abs=2)
    assert record.boxes[0][0][:4] == (33.0, 16.0, 67.0, 101.0)  # 640 / 213 = 3.0047


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        ((0, 0, 640, 640, 1), (256, 256), (0, 0, 256, 256, 1)),
        ((-3, -3, 700, 700, 1), (455, 256), (0, 0, 455, 256, 1)),
        ((64, 128, 320.1, 320, 0.5), (320, 160), (32, 64, 161, 160, 0.5)),
        ((64, 128, 320, 320.1, 0.5), (160, 320), (32, 64, 160, 161, 0.5)),
    ],
)
def test_boxes_are_scaled_by_the_longer_side(
    box: tuple[float, float, float, float, float],
    size: tuple[int, int],
    expected: tuple[float, float, float, float, float],
):
    assert scaled_box(box, size) == expected


@pytest.mark.slow
def test_shards_of_the_authors_data(
    prepare_data: Command, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    argv = ["--from-authors", str(root), "--workers", "1", "--out"]
    assert prepare_data.main([*argv, str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "2 clips of 2 videos in 1 shards" in said
    assert "left out: 1 too neutral, 1 outside the video" in said
    assert "1 captions without a video: ccc" in said
    shards = ShardSet.open(str(tmp_path / "out"))
    assert sorted(shards.keys) == ["aaa-00000", "bbb-00000"]
    assert shards.spec["detector"] == shards.spec["sentiment"] == "of the authors"
    record, frames = shards.read(shards.keys.index("bbb-00000"))
    with open_video(root / "bbb") as video:
        assert video.read(load_index(root)["bbb"][0], short_side=256, quality=90) == (record, frames)
    assert prepare_data.main([*argv, str(tmp_path / "again"), "--workers", "2"]) == 0
    for name in ("shard-000000.tar", "index.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_damaged_video_is_a_result_too(
    prepare_data: Command, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    corrupt = root / "aaa" / "frames.hdf5"
    corrupt.write_bytes(corrupt.read_bytes()[:3000])
    assert (
        prepare_data.main(["--from-authors", str(root), "--workers", "1", "--out", str(tmp_path / "o")]) == 0
    )
    said = capsys.readouterr().err
    assert "1 clips of 1 videos" in said
    assert f"1 could not be used: aaa: {corrupt}: not an HDF5 file, or corrupt" in said


def read_first(root: Path, name: str = "aaa") -> object:
    with open_video(root / name) as video:
        return video.read(load_index(root)[name][0], short_side=256, quality=90)


def test_a_frame_or_its_boxes_that_are_missing(root: Path):
    boxes = root / "aaa" / "human_boxes.json"
    rows = json.loads(boxes.read_text())
    boxes.write_text(json.dumps([row for row in rows if "00000011.jpg" not in row]))
    assert read_first(root) is None
    with h5py.File(root / "bbb" / "frames.hdf5", "a") as file:
        del file["00000019.jpg"]
    assert read_first(root, "bbb") is None


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("tv_index.json", None, r"tv_index\.json: no such file"),
        ("tv_sentiment_logits.npy", None, r"tv_sentiment_logits\.npy: no such file"),
        ("tv_index.json", b"[{}]", "missing required field `video_id`"),
        ("tv_index.json", b"[]", r"shape \(5, 7\), expected \(0, 7\)"),
        ("tv_sentiment_logits.npy", b"no array", "not an array of numbers"),
        ("aaa/human_boxes.json", b"{}", r"Expected `array`, got `object`; expected a list of {name: boxes}"),
        ("aaa/human_boxes.json", b'[{"a": [[1, 2, 3, 4]]}]', "Expected `array` of length 5"),
        ("aaa/human_boxes.json", None, r"human_boxes\.json: no such file"),
        ("aaa/frames.hdf5", b"no file of theirs", "not an HDF5 file, or corrupt"),
    ],
)
def test_invalid_files(name: str, data: bytes | None, message: str, root: Path):
    if data is None:
        (root / name).unlink()
    else:
        (root / name).write_bytes(data)
    with pytest.raises(EmotionError, match=message) as error:
        read_first(root)
    assert str(error.value).startswith(str(root))
    assert "\n" not in str(error.value)


def test_logits_that_are_not_finite(root: Path):
    logits = LOGITS.copy()
    logits[3, 2] = np.nan
    np.save(root / "tv_sentiment_logits.npy", logits)
    with pytest.raises(EmotionError, match=r"shape \(5, 7\), expected \(5, 7\) of finite numbers"):
        load_index(root)


def test_a_corrupt_frame(root: Path):
    with h5py.File(root / "aaa" / "frames.hdf5", "a") as file:
        del file["00000007.jpg"]
        file["00000007.jpg"] = np.asarray(jpeg(7, (426, 240))[:400])
    with pytest.raises(EmotionError, match=r"frame aaa 00000007\.jpg: not an image, or corrupt"):
        read_first(root)


@pytest.mark.parametrize(
    "extra", [["--fps", "4"], ["--detector", "x.onnx"], ["--sentiment", "linear"], ["--pause", "2"]]
)
def test_options_that_the_authors_data_has_settled(
    extra: list[str], error_line: Callable[[list[str]], str], root: Path, tmp_path: Path
):
    line = error_line(["--from-authors", str(root), *extra, "--out", str(tmp_path / "out")])
    assert f"{extra[0]} has no effect on data that the authors prepared: leave it out" in line


def test_no_video_at_all(error_line: Callable[[list[str]], str], root: Path, tmp_path: Path):
    for name in ("aaa", "bbb"):
        (root / name / "frames.hdf5").unlink()
    line = error_line(["--from-authors", str(root), "--out", str(tmp_path / "out")])
    assert f"--from-authors {root}: none of the 3 videos in the index can be used" in line
