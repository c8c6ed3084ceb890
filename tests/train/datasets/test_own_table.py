"""Your own CSV or Parquet table of images, videos and folders of frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from trees import jpeg, write_csv

from emotion_runtime.errors import EmotionError
from emotion_train.datasets import load_dataset
from emotion_train.datasets.base import Dataset
from emotion_train.datasets.images import load_image
from emotion_train.datasets.table import Columns
from made_videos import greys, write_images

RATE, FRAMES = 10, 40


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two images, a folder of frames 5 to 24, and a video of 4 s whose frame n has grey level 6 n."""
    root = tmp_path_factory.mktemp("media")
    for name in ("a.jpg", "b.png"):
        jpeg(root / name, (100, 80))
    for n in range(5, 25):
        jpeg(root / "clip" / f"frame_{n:03d}.jpg", (100, 80))
    images = greys(range(0, 6 * FRAMES, 6), (96, 64))
    write_images(root / "film.mp4", images, RATE, codec="libx264", crf="1")
    (root / "notes.txt").write_text("no video")
    return root


def table(
    folder: Path, header: str, *rows: str, split: str = "train", columns: Columns | None = None
) -> Dataset:
    file = write_csv(folder / "table.csv", [line.split(",") for line in (header, *rows)])
    return load_dataset("table", file, split, columns)


def numbers(data: Dataset, row: int = 0) -> list[int]:
    return [int(p.path.stem[-3:]) for p in data.samples[row].images]


# --- labels


def test_classes_are_those_of_all_splits_sorted(media: Path):
    rows = ["a.jpg,sad,train", "b.png,angry,val", "a.jpg,happy,train", "b.png,sad,test"]
    for split, expected in (("train", [2, 1]), ("val", [0]), ("test", [2])):
        data = table(media, "path,label,split", *rows, split=split)
        (task,) = data.tasks
        assert (task.name, task.kind, task.labels) == ("label", "single_label", ("angry", "happy", "sad"))
        assert [int(sample.targets["label"]) for sample in data.samples] == expected
        assert data.samples[0].targets["label"].dtype == np.int64


def test_classes_in_a_given_order(media: Path):
    columns = Columns(classes=("sad", "happy"))
    data = table(media, "path,label,split", "a.jpg,sad,train", "b.png,angry,train", columns=columns)
    assert data.tasks[0].labels == ("sad", "happy")
    assert [int(sample.targets["label"]) for sample in data.samples] == [0]
    assert data.skipped == {"unknown label: 'angry'": 1}


def test_several_labels_and_values(media: Path):
    data = table(media, "path,split,label_joy,label_fear,arousal,valence", "a.jpg,train,1,0.4,0.25,-3")
    assert [(t.name, t.kind, t.labels) for t in data.tasks] == [
        ("labels", "multi_label", ("joy", "fear")),
        ("values", "regression", ("valence", "arousal")),
    ]
    assert data.samples[0].targets["labels"].tolist() == [1, 0]
    assert data.samples[0].targets["values"].tolist() == [-3, 0.25]


def test_a_single_category_is_a_yes_or_no_task(media: Path):
    data = table(media, "path,split,label_joy", "a.jpg,train,1", "b.png,train,0")
    assert [(t.name, t.kind, t.labels) for t in data.tasks] == [("labels", "multi_label", ("joy",))]
    assert [sample.targets["labels"].tolist() for sample in data.samples] == [[1], [0]]


def test_columns_with_other_names(media: Path):
    columns = Columns(path="file", split="part", labels=("joy", "fear"), values=("pain",), group="film")
    data = table(media, "file,part,joy,fear,pain,film,label", "a.jpg,train,0,1,7.5,f1,x", columns=columns)
    assert [task.labels for task in data.tasks] == [("joy", "fear"), ("pain",)]
    assert data.samples[0].group == "f1"
    assert data.samples[0].targets["values"].tolist() == [7.5]


def test_only_named_columns_are_predicted(media: Path):
    row = "a.jpg,train,x,0.5,3"
    data = table(media, "path,split,label,valence,pain", row, columns=Columns(values=("pain",)))
    assert [task.labels for task in data.tasks] == [("pain",)]
    data = table(media, "path,split,label,valence,pain", row, columns=Columns(labels=("label",)))
    assert [task.labels for task in data.tasks] == [("x",)]


def test_without_a_group_column_the_rows_of_a_file_are_a_group(media: Path):
    data = table(media, "path,label,split", "a.jpg,x,train", "a.jpg,y,train", "b.png,x,train")
    assert [sample.group for sample in data.samples] == ["a.jpg", "a.jpg", "b.png"]
    assert len({sample.key for sample in data.samples}) == 3


# --- media


def test_an_image_is_a_sample_of_one(media: Path):
    (sample,) = table(media, "path,label,split", "a.jpg,x,train").samples
    (picture,) = sample.images
    assert picture.path == media / "a.jpg"
    assert picture.seconds is None


def test_a_folder_gives_eight_frames_of_the_span(media: Path):
    data = table(
        media, "path,start,end,label,split", "clip,,,x,train", "clip,10,14,x,train", "clip,20,,x,train"
    )
    # linspace(0, 19, 8) = 0, 2.7, 5.4, 8.1, 10.9, 13.6, 16.3, 19, from frame 5 on
    assert numbers(data, 0) == [5, 7, 10, 13, 15, 18, 21, 24]
    # linspace(0, 4, 8) = 0, 0.6, 1.1, 1.7, 2.3, 2.9, 3.4, 4, from frame 10 on
    assert numbers(data, 1) == [10, 10, 11, 11, 12, 12, 13, 14]
    assert numbers(data, 2) == [20, 20, 21, 21, 22, 22, 23, 24]


def test_a_video_gives_eight_frames_of_the_span(media: Path):
    data = table(media, "path,start,end,label,split", "film.mp4,1,2.4,x,train", "film.mp4,,,x,train")
    moments = [picture.seconds for picture in data.samples[0].images]
    np.testing.assert_allclose(moments, [1, 1.2, 1.4, 1.6, 1.8, 2, 2.2, 2.4])
    greys = [load_image(picture).mean() / 6 for picture in data.samples[0].images]
    np.testing.assert_allclose(greys, [10, 12, 14, 16, 18, 20, 22, 24], atol=0.4)
    whole = [picture.seconds for picture in data.samples[1].images]
    assert (whole[0], whole[-1]) == (0, pytest.approx(3.9))  # the last frame begins at 3.9 s
    assert load_image(data.samples[1].images[-1]).mean() / 6 == pytest.approx(39, abs=0.4)


@pytest.mark.parametrize("end", ["4.0", "4.09"])  # the second as times rounded up may have it
def test_the_end_of_the_video_is_its_last_frame(media: Path, end: str):
    (sample,) = table(media, "path,start,end,label,split", f"film.mp4,3.5,{end},x,train").samples
    assert load_image(sample.images[-1]).mean() / 6 == pytest.approx(39, abs=0.4)


# --- boxes


@pytest.mark.parametrize("cell", ["10 20 30.5 40", "[10; 20; 30.5; 40]", "(10 20 30.5 40)"])
def test_a_box_in_one_column(media: Path, cell: str):
    (sample,) = table(media, "path,box,label,split", f"a.jpg,{cell},x,train").samples
    assert sample.images[0].boxes == ((10, 20, 30.5, 40),)


def test_a_box_in_four_columns_is_used_for_every_image(media: Path):
    data = table(media, "path,x1,y1,x2,y2,label,split", "clip,1,2,3,4,x,train", "clip,,,,,x,train")
    assert {picture.boxes for picture in data.samples[0].images} == {((1, 2, 3, 4),)}
    assert {picture.boxes for picture in data.samples[1].images} == {()}
    columns = Columns(box=("l", "t", "r", "b"))
    data = table(media, "path,l,t,r,b,label,split", "clip,1,2,3,4,x,train", columns=columns)
    assert data.samples[0].images[0].boxes == ((1, 2, 3, 4),)


@pytest.mark.parametrize("names", ["x,y,w,h", "x,y,width,height", "left,top,width,height"])
def test_a_box_given_by_its_size(media: Path, names: str):
    data = table(media, f"path,{names},label,split", "a.jpg,10,20,30,40,x,train", "b.png,50,5,6,7,x,train")
    assert [sample.images[0].boxes for sample in data.samples] == [((10, 20, 40, 60),), ((50, 5, 56, 12),)]
    columns = Columns(box=("a", "b", "w", "h"))
    data = table(media, "path,a,b,w,h,label,split", "a.jpg,10,20,30,40,x,train", columns=columns)
    assert data.samples[0].images[0].boxes == ((10, 20, 40, 60),)


@pytest.mark.parametrize("names", ["x1,y1,x2,y2", "x,y,w,h"])
def test_boxes_as_fractions_are_refused(media: Path, names: str):
    rows = ["a.jpg,0.21,0.15,0.34,0.43,x,train", "b.png,0,0,1,1,x,train"]
    with pytest.raises(EmotionError, match=r"all boxes .* within 0 to 1: multiply .* to get pixels"):
        table(media, f"path,{names},label,split", *rows)
    with pytest.raises(EmotionError, match=r"all boxes \(box\) are within 0 to 1"):
        table(media, "path,box,label,split", "a.jpg,0.2 0.1 0.3 0.4,x,train")


def test_a_column_of_corner_and_size_is_refused(media: Path):
    rows = [f"a.jpg,{x} 30 20 25,x,train" for x in (10, 30, 40, 50)]
    with pytest.raises(EmotionError, match=r"4 of 4 boxes \(box\) end before they begin: give the corners"):
        table(media, "path,box,label,split", *rows)


def test_boxes_are_in_pixels_of_the_upright_photo(media: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 80)).save(media / "phone.jpg", exif=exif)
    data = table(media, "path,box,label,split", "phone.jpg,10 20 70 95,x,train")
    assert data.samples[0].images[0].boxes == ((10, 20, 70, 95),)  # 80 wide and 100 high
    assert load_image(data.samples[0].images[0]).shape == (100, 80, 3)


# --- what programs write


@pytest.mark.parametrize("empty", ["", "nan", "NaN", "None", "N/A", "NA", "null"])
def test_missing_values_are_not_classes(media: Path, empty: str):
    data = table(media, "path,label,split", "a.jpg,x,train", f"b.png,{empty},train", "b.png,none,train")
    assert data.tasks[0].labels == ("none", "x")
    assert data.skipped == {"no label": 1}


def test_two_spellings_of_a_letter_are_one_class(media: Path):
    rows = ["a.jpg,\u00c4rger,train", "b.png,A\u0308rger,train"]
    data = table(media, "path,label,split", *rows)
    assert data.tasks[0].labels == ("\u00c4rger",)
    data = table(media, "path,label,split", *rows, columns=Columns(classes=("A\u0308rger",)))
    assert [int(sample.targets["label"]) for sample in data.samples] == [0, 0]


def test_paths_of_windows(media: Path):
    jpeg(media / "faces" / "a.jpg", (100, 80))
    rows = ["faces\\a.jpg,x,train", ".\\faces\\a.jpg,x,train", "faces\\gone.jpg,x,train"]
    data = table(media, "path,label,split", *rows)
    assert [sample.images[0].path for sample in data.samples] == [media / "faces" / "a.jpg"] * 2
    assert data.skipped == {"no file or folder at the path": 1}


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_are_named(tmp_path: Path, separator: str, name: str):
    rows = ["path,label,split", "a.jpg,x,train"]
    (tmp_path / "table.csv").write_text("\n".join(rows).replace(",", separator))
    with pytest.raises(EmotionError, match=rf"separated by {name}: save it with commas"):
        load_dataset("table", tmp_path / "table.csv", "train")


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("float.tiff", np.linspace(0, 1, 64, dtype=np.float32), "floating-point values of unknown range"),
        ("bits12.png", np.arange(0, 4096, 64, dtype=np.uint16), "16-bit values of unknown range"),
    ],
)
def test_images_of_unknown_range_are_left_out(media: Path, name: str, values: np.ndarray, reason: str):
    Image.fromarray(values.reshape(8, 8)).save(media / name)
    data = table(media, "path,label,split", "a.jpg,x,train", f"{name},x,train")
    assert [key.partition(" (")[0] for key in data.skipped] == [reason]


# --- Parquet


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    import pyarrow as pa  # noqa: PLC0415 - slow
    from pyarrow import parquet  # noqa: PLC0415 - slow

    parquet.write_table(pa.table(columns), path)
    return path


def test_parquet_gives_the_same(media: Path, tmp_path: Path):
    header = "path,start,end,x1,y1,x2,y2,label,valence,split"
    rows = ["film.mp4,1,2,1,2,3,4,x,0.5,train", "clip,,,,,,,y,-1,train", "a.jpg,,,,,,,z,2,val"]
    listed = table(media, header, *rows)
    file = write_parquet(
        media / "table.parquet",
        {
            "path": ["film.mp4", "clip", "a.jpg"],
            "start": [1.0, None, None],
            "end": [2.0, float("nan"), None],
            "box": [[1, 2, 3, 4], None, None],
            "label": ["x", "y", "z"],
            "valence": [0.5, -1.0, 2.0],
            "split": ["train", "train", "val"],
        },
    )
    stored = load_dataset("table", file, "train")
    assert stored.tasks == listed.tasks
    for ours, theirs in zip(stored.samples, listed.samples, strict=True):
        assert (ours.key, ours.group, ours.images) == (theirs.key, theirs.group, theirs.images)
        assert {k: v.tolist() for k, v in ours.targets.items()} == {
            k: v.tolist() for k, v in theirs.targets.items()
        }
    (tmp_path / "corrupt.parquet").write_bytes(b"PAR1 corrupt")
    with pytest.raises(
        EmotionError, match=r"corrupt\.parquet: not a Parquet file \(.*\); expected columns path"
    ) as error:
        load_dataset("table", tmp_path / "corrupt.parquet", "train")
    assert "\n" not in str(error.value)


# --- bad input


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("gone.jpg,,,,,x,1,train", "no file or folder at the path"),
        ("notes.txt,,,,,x,1,train", "unreadable video"),
        (",,,,,x,1,train", "no path"),
        ("clip,30,40,,,x,1,train", "no frames from start to end"),
        ("clip,9,7,,,x,1,train", "no frames from start to end"),
        ("clip,soon,7,,,x,1,train", "start or end not a number"),
        ("film.mp4,1,9,,,x,1,train", "start and end not in the video, in this order"),
        ("film.mp4,1,4.2,,,x,1,train", "start and end not in the video, in this order"),
        ("film.mp4,2,1,,,x,1,train", "start and end not in the video, in this order"),
        ("film.mp4,-1,1,,,x,1,train", "start and end not in the video, in this order"),
        ("a.jpg,1,2,,,x,1,train", "start or end of a single image"),
        ("clip,,,1 2 3,,x,1,train", "box does not have four numbers"),
        ("clip,,,1 2 3 d,,x,1,train", "box not a number"),
        ("clip,,,5 2 5 4,,x,1,train", "box without area inside the image"),
        ("clip,,,100 2 130 4,,x,1,train", "box without area inside the image"),
        ("clip,,,,,,1,train", "no label"),
        ("clip,,,,,x,nan,train", "value NaN or infinite"),
        ("clip,,,,,x,inf,train", "value NaN or infinite"),
        ("clip,,,,,x,1e39,train", "value NaN or infinite"),
        ("clip,,,,,x,,train", "value not a number"),
    ],
)
def test_bad_rows_are_counted(media: Path, row: str, reason: str):
    data = table(media, "path,start,end,box,group,label,valence,split", "clip,,,,,x,1,train", row)
    assert len(data.samples) == 1
    assert data.skipped == {reason: 1}


def test_an_invalid_score(media: Path):
    data = table(media, "path,label_a,label_b,split", "clip,1,0,train", "clip,1,2,train", "clip,1,,train")
    assert data.skipped == {"label outside 0 to 1": 1, "label not a number": 1}


def test_images_and_clips_do_not_mix(media: Path):
    with pytest.raises(EmotionError, match=r"table\.csv: split train mixes single images with clips"):
        table(media, "path,label,split", "a.jpg,x,train", "clip,x,train")


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("file,label,split", None, r"no column path \(it has file, label, split\); expected columns path"),
        ("path,label,part", None, r"no column split \(it has"),
        ("path,split,note", None, r"no column of labels or values \(it has path, split, note\)"),
        ("path,label,split", Columns(labels=("joy",)), r"no column joy"),
        ("path,label,split", Columns(values=("pain",)), r"no column pain"),
        ("path,label,split", Columns(start="from", group="film"), r"no column from, film"),
        ("path,label,split", Columns(box=("x", "y")), r"box columns x, y: expected x1, y1, x2, y2, or one"),
    ],
)
def test_missing_columns(media: Path, header: str, columns: Columns | None, message: str):
    with pytest.raises(EmotionError, match=message):
        table(media, header, "clip,x,train", columns=columns)


def test_files_that_are_not_a_table(media: Path, tmp_path: Path):
    with pytest.raises(
        EmotionError, match=r"table: no file .*gone\.csv: give a CSV or Parquet file as --data"
    ):
        load_dataset("table", tmp_path / "gone.csv", "train")
    with pytest.raises(EmotionError, match=r"notes\.txt: suffix '\.txt', expected \.csv or \.parquet"):
        load_dataset("table", media / "notes.txt", "train")
    with pytest.raises(EmotionError, match=r"table\.csv: no row of split 'test' \(it has train, val\)"):
        table(media, "path,label,split", "clip,x,train", "clip,x,val", split="test")
    with pytest.raises(EmotionError, match=r"table\.csv: no rows; expected columns path and split"):
        table(media, "path,label,split")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(EmotionError, match=r"empty\.csv: no rows"):
        load_dataset("table", tmp_path / "empty.csv", "train")
    with pytest.raises(
        EmotionError, match=r"table train: none of 1 rows in .*table\.csv .*no file or folder"
    ):
        table(media, "path,label,split", "gone.jpg,x,train")


def test_only_a_table_has_columns_to_name(tmp_path: Path):
    with pytest.raises(EmotionError, match="bold: column names were given, but only the data set"):
        load_dataset("bold", tmp_path, "train", Columns())
