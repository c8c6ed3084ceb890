"""Emotic on a tree of three images."""

from pathlib import Path

import numpy as np
import pytest
from trees import jpeg, save_array, write_csv

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.datasets import load_dataset
from emotion_train.datasets.bold import CATEGORIES
from emotion_train.datasets.images import prepare_sample

HEADER = ["Index", "Folder", "Filename", "Image Size", "BBox", "Gender", "Age"]
ROWS = [
    [0, "mscoco/images", "a.jpg", "[640, 480]", "[86, 58, 564, 479]", "Male", "Adult"],
    [1, "mscoco/images", "a.jpg", "[640, 480]", "[0, 0, 100, 200]", "Female", "Kid"],
    [2, "ade20k/images", "b.jpg", "(400, 300)", "(10, 20, 200, 280)", "Male", "Adult"],
]


def write_labels(root: Path, split: str, categories: list[list[float]], affect: list[list[float]]) -> None:
    save_array(root / "annotations_pre" / f"{split}_cat_arr.npy", categories)
    save_array(root / "annotations_pre" / f"{split}_cont_arr.npy", affect)


def one_hot(*present: int) -> list[float]:
    return [float(c in present) for c in range(26)]


@pytest.fixture
def emotic(tmp_path: Path) -> Path:
    jpeg(tmp_path / "emotic" / "mscoco/images" / "a.jpg", (640, 480))
    jpeg(tmp_path / "emotic" / "ade20k/images" / "b.jpg", (200, 75))  # stated: 400 x 300
    write_csv(tmp_path / "annotations_pre" / "val.csv", [HEADER, *ROWS])
    write_labels(
        tmp_path, "val", [one_hot(0, 25), one_hot(11), one_hot()], [[5, 6, 7], [1, 10, 3], [2, 2, 2.5]]
    )
    return tmp_path


def test_labels_keys_and_the_short_side(emotic: Path):
    data = load_dataset("emotic", emotic, "val")
    assert [(task.name, task.kind) for task in data.tasks] == [
        ("categories", "multi_label"),
        ("vad", "regression"),
    ]
    assert data.short_side == 224
    labels = data.tasks[0].labels
    named = [[labels[c] for c in np.flatnonzero(s.targets["categories"])] for s in data.samples]
    assert named == [["affection", "yearning"], ["engagement"], []]
    assert data.samples[1].targets["vad"].tolist() == [1, 10, 3]
    assert len({sample.key for sample in data.samples}) == 3
    assert [sample.group for sample in data.samples] == ["mscoco/images/a.jpg"] * 2 + ["ade20k/images/b.jpg"]
    assert data.skipped == {}


def test_categories_are_those_of_bold_in_alphabetical_order(emotic: Path):
    labels = load_dataset("emotic", emotic, "val").tasks[0].labels
    assert list(labels) == sorted(labels)
    assert set(labels) == set(CATEGORIES)


def test_a_sample_is_one_image_with_its_own_box(emotic: Path):
    first, second, third = load_dataset("emotic", emotic, "val").samples
    assert [len(sample.images) for sample in (first, second, third)] == [1, 1, 1]
    assert first.images[0].boxes == ((86, 58, 564, 479),)
    assert second.images[0].boxes == ((0, 0, 100, 200),)
    assert third.images[0].boxes == ((5, 5, 100, 70),)


def test_patch_weights_are_those_of_the_authors(emotic: Path):
    """Their steps: the box is scaled with the short side to 224, extended, clipped and cropped."""
    data = load_dataset("emotic", emotic, "val")
    spec = PreprocessSpec(short_side=data.short_side or 256)
    _, weights = prepare_sample(data.samples[0], spec)
    width, height = int(224 * 640 / 480), 224
    ratio = min(640 / width, 480 / height)
    mask = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            mask[y, x] = 86 / ratio < x + 1 and x < 564 / ratio and 58 / ratio < y + 1 and y < 479 / ratio
    left = round((width - 224) / 2)
    cropped = mask[:, left : left + 224]
    np.testing.assert_allclose(weights[0], cropped.reshape(7, 32, 7, 32).mean((1, 3)).ravel(), atol=1e-6)


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        (2, "gone.jpg", "missing frame"),
        (2, "corrupt.jpg", "unreadable frame"),
        (4, "", "BBox is not a list of numbers"),
        (4, "[1, 2, 3]", "BBox is not a list of 4 numbers"),
        (4, "[1, 2, 3, None]", "BBox not a number"),
        (4, "[300, 20, 100, 200]", "box without area inside the image"),
        (4, "[640, 20, 700, 200]", "box without area inside the image"),
        (3, "large", "Image Size is not a list of numbers"),
        (3, "[0, 480]", "Image Size without area"),
    ],
)
def test_bad_rows_are_counted(emotic: Path, column: int, cell: str, reason: str):
    (emotic / "emotic" / "mscoco/images" / "corrupt.jpg").write_bytes(b"no picture")
    bad = [*ROWS[1]]
    bad[column] = cell
    write_csv(emotic / "annotations_pre" / "val.csv", [HEADER, ROWS[0], bad, ROWS[2]])
    data = load_dataset("emotic", emotic, "val")
    assert data.skipped == {reason: 1}
    assert [sample.targets["vad"].tolist() for sample in data.samples] == [[5, 6, 7], [2, 2, 2.5]]


def test_invalid_labels_are_counted(emotic: Path):
    write_labels(emotic, "val", [one_hot(), [2.0] * 26, one_hot()], [[5, np.nan, 7], [1, 10, 3], [2, 2, 2.5]])
    data = load_dataset("emotic", emotic, "val")
    assert len(data.samples) == 1
    assert data.skipped == {
        "valence, arousal or dominance NaN or infinite": 1,
        "category outside 0 to 1": 1,
    }


def test_another_layout(emotic: Path):
    write_labels(emotic, "val", [one_hot()] * 2, [[5, 5, 5]] * 3)
    with pytest.raises(
        EmotionError, match=r"val_cat_arr\.npy: 2 rows, but the table has 3; expected below --data"
    ):
        load_dataset("emotic", emotic, "val")
    write_labels(emotic, "val", [[0.0] * 25] * 3, [[5, 5, 5]] * 3)
    with pytest.raises(
        EmotionError, match=r"val_cat_arr\.npy: array \(3, 25\) of float64, expected .*\(N, 26\)"
    ):
        load_dataset("emotic", emotic, "val")
    with pytest.raises(EmotionError, match=r"emotic: file .*annotations_pre/train\.csv is missing"):
        load_dataset("emotic", emotic, "train")
    with pytest.raises(EmotionError, match="emotic has no split 'dev': expected train or val or test"):
        load_dataset("emotic", emotic, "dev")
    write_csv(emotic / "annotations_pre" / "val.csv", [["Folder", "Filename"], ["a", "b"]])
    with pytest.raises(EmotionError, match=r"val\.csv: no column Image Size, BBox"):
        load_dataset("emotic", emotic, "val")


def test_an_empty_split(emotic: Path):
    write_csv(emotic / "annotations_pre" / "val.csv", [HEADER])
    write_labels(emotic, "val", np.zeros((0, 26)), np.zeros((0, 3)))
    with pytest.raises(EmotionError, match=r"emotic val: none of 0 rows in .*\(no rows\)"):
        load_dataset("emotic", emotic, "val")
