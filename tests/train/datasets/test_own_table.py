"""A table of a user: its labels, its images and clips, as CSV and Parquet."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_tables import numbers, table

from emotion_runtime.errors import EmotionError
from emotion_train.datasets import load_dataset
from emotion_train.datasets.images import load_image
from emotion_train.datasets.table import Columns


def test_classes_are_those_of_all_splits_sorted(media: Path):
    rows = ["a.jpg,sad,train", "b.png,angry,val", "a.jpg,happy,train", "film.mp4,sad,test"]
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
