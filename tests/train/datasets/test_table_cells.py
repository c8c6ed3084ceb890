"""Cells of a table of a user: boxes, spellings and files as programs write them, and bad input."""

from pathlib import Path

import numpy as np
import pytest
from own_tables import table
from PIL import Image
from trees import jpeg

from emotion_runtime.errors import EmotionError
from emotion_train.datasets import load_dataset
from emotion_train.datasets.images import load_image
from emotion_train.datasets.table import Columns


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


@pytest.mark.parametrize("second", ["val", "test"])
def test_a_row_in_two_splits_is_refused(media: Path, second: str):
    rows = ["a.jpg,sad,train", "b.png,happy,train", f"a.jpg,sad,{second}"]
    for split in ("train", second):
        with pytest.raises(EmotionError, match=rf"1 rows of split {split} are in another split, .* a\.jpg"):
            table(media, "path,label,split", *rows, split=split)
    parts = ["film.mp4,sad,train,0,1", f"film.mp4,sad,{second},2,3"]
    table(media, "path,label,split,start,end", *parts, split=second)


@pytest.mark.parametrize("again", ["./a.jpg", ".\\a.jpg"])
def test_one_file_by_two_names_is_one_row(media: Path, again: str):
    with pytest.raises(EmotionError, match=r"1 rows of split val are in another split, .* a\.jpg"):
        table(media, "path,label,split", "a.jpg,sad,train", f"{again},sad,val", split="val")


def test_rows_without_a_path_are_left_out_and_are_not_one_row(media: Path):
    data = table(media, "path,label,split", "a.jpg,sad,train", ",sad,train", ",sad,val", split="train")
    assert len(data.samples) == 1
    assert data.skipped == {"no path": 1}


def test_a_group_in_two_splits_is_a_warning(media: Path, caplog: pytest.LogCaptureFixture):
    rows = ["a.jpg,sad,train,anna", "b.png,sad,val,anna"]
    table(media, "path,label,split,group", *rows, split="train")
    assert caplog.messages == []
    table(media, "path,label,split,group", *rows, split="val")
    (message,) = caplog.messages
    assert "1 of 1 groups of split val are in another split, too, for example anna" in message


def test_two_columns_of_one_name_are_refused(media: Path):
    with pytest.raises(EmotionError, match="two columns are called label: rename one of each"):
        table(media, "path,label,split,label", "a.jpg,sad,train,happy")
    table(media, "path,label,split,,", "a.jpg,sad,train,,")  # nameless ones, as spreadsheets leave them


def test_labels_that_differ_in_case_only_are_a_warning(media: Path, caplog: pytest.LogCaptureFixture):
    table(media, "path,label,split", "a.jpg,Sad,train", "b.png,sad,train")
    (message,) = caplog.messages
    assert message.endswith("differ in case only are different classes: Sad and sad")


def test_rows_that_are_left_out_are_a_warning_with_an_example(media: Path, caplog: pytest.LogCaptureFixture):
    table(
        media, "path,label,split", "a.jpg,x,train", "gone.jpg,x,train", "a.jpg,nan,train", "lost.jpg,x,train"
    )
    (message,) = caplog.messages
    missing = f"no file or folder at the path: 2, such as {media / 'gone.jpg'}"
    assert message == f"table train: 3 of 4 rows are left out ({missing}; no label: 1)"
    with pytest.raises(EmotionError, match=rf"no file or folder at the path: 1, such as {media}/gone\.jpg"):
        table(media, "path,label,split", "gone.jpg,x,train")


def test_a_table_in_another_encoding_says_how_to_save_it(tmp_path: Path):
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "table.csv").write_text("path,label,split\nB\u00e4r.jpg,x,train\n", encoding=encoding)
        with pytest.raises(EmotionError, match=r"not a table of text in UTF-8 .*: save it as CSV UTF-8"):
            load_dataset("table", tmp_path / "table.csv", "train")
