"""BoLD on a tree of three clips: labels, frames, and the box around a person's joints."""

import re
from pathlib import Path

import numpy as np
import pytest
from trees import jpeg, save_array, write_csv

from emotion_runtime.errors import EmotionError
from emotion_train.datasets import load_dataset
from emotion_train.datasets.bold import CATEGORIES
from emotion_train.datasets.boxes import joints_box

CLIP = "003/film.mp4/0114.mp4"
OTHER = "007/other.mp4/0002.mp4"
FIRST_FRAME = 4071  # of the joints, which count through the whole film


def row(video: str = CLIP, person: int = 0, **changes: object) -> list[object]:
    """Return a row of 37 columns; `changes` are by name of a category or dimension."""
    scores = [changes.get(name, 0.0) for name in CATEGORIES]
    affect = [changes.get(name, 5.0) for name in ("valence", "arousal", "dominance")]
    return [video, person, 0, 9, *scores, *affect, "Female", "Adult", "White", 0.9]


def joints(frame: int, person: int, *points: tuple[float, float, float]) -> list[float]:
    """Return a row of 18 joints; those not given are all zero."""
    flat = [value for point in points for value in point]
    return [FIRST_FRAME + frame - 1, person, *flat, *[0.0] * (54 - len(flat))]


@pytest.fixture
def bold(tmp_path: Path) -> Path:
    for number in range(1, 11):
        jpeg(tmp_path / "mmextract" / CLIP / f"image_{number:05d}.jpg")
    for number in (1, 2):
        jpeg(tmp_path / "mmextract" / OTHER / f"image_{number:05d}.jpg")
    person = [joints(n, 0, (10.2 + n, 20.7, 0.9), (30.0, 5.5 + n, 0.3)) for n in range(2, 11) if n != 5]
    somebody_else = [joints(n, 1, (1.0, 2.0, 0.5), (3.0, 4.0, 0.5)) for n in range(1, 11)]
    save_array(tmp_path / "joints" / CLIP.replace("0114.mp4", "0114.npy"), person + somebody_else)
    save_array(
        tmp_path / "joints" / OTHER.replace("0002.mp4", "0002.npy"), [joints(1, 3, (4, 4, 1), (9, 9, 1))]
    )
    write_csv(tmp_path / "annotations" / "train.csv", [row(peace=0.5, anger=0.49), row(OTHER, 3)])
    write_csv(tmp_path / "annotations" / "val.csv", [row(person=1, suffering=1.0, valence=2.5)])
    return tmp_path


def test_labels_and_keys(bold: Path):
    train = load_dataset("bold", bold, "train")
    assert [task.kind for task in train.tasks] == ["multi_label", "regression"]
    assert [task.name for task in train.tasks] == ["categories", "vad"]
    assert train.tasks[0].labels[0] == "peace"
    assert train.tasks[1].labels == ("valence", "arousal", "dominance")
    first, second = train.samples
    assert first.targets["categories"].tolist() == [1.0] + [0.0] * 25  # 0.5 counts, 0.49 does not
    assert first.targets["categories"].dtype == np.float32
    assert (first.group, second.group) == ("003/film.mp4", "007/other.mp4")
    val = load_dataset("bold", bold, "val").samples[0]
    assert val.targets["categories"].tolist() == [0.0] * 25 + [1.0]
    assert val.targets["vad"].tolist() == [2.5, 5.0, 5.0]
    assert len({first.key, second.key, val.key}) == 3


def test_the_order_of_the_labels(shared_data: Path):
    facts = (shared_data / "facts" / "emotionclip.md").read_text()
    stated = re.search(r"Label order: (peace, .*?suffering)\.", facts)
    assert stated
    assert ", ".join(CATEGORIES) == stated[1]


def test_frames_are_spread_over_the_whole_clip(bold: Path):
    pictures = load_dataset("bold", bold, "train").samples[0].images
    # linspace(0, 9, 8) = 0, 1.29, 2.57, 3.86, 5.14, 6.43, 7.71, 9, rounded down; names count from 1
    assert [p.path.name for p in pictures] == [f"image_{n:05d}.jpg" for n in (1, 2, 3, 4, 6, 7, 8, 10)]


def test_a_clip_shorter_than_eight_frames_repeats_them(bold: Path):
    pictures = load_dataset("bold", bold, "train").samples[1].images
    assert [p.path.name[-5] for p in pictures] == list("11111112")


def test_the_box_contains_the_joints_of_that_person_in_that_frame(bold: Path):
    pictures = load_dataset("bold", bold, "train").samples[0].images
    boxes = {int(p.path.stem[-5:]): p.boxes for p in pictures}
    assert boxes[1] == ()  # the person comes in with frame 2
    for n in (2, 3, 4, 6, 7, 8, 10):
        assert boxes[n] == ((np.floor(min(10.2 + n, 30)), np.floor(min(20.7, 5.5 + n)), 30.0, 21.0),), n


def test_a_box_is_extended_to_whole_pixels_and_ignores_missing_joints():
    found = np.zeros((18, 3))
    found[3], found[9] = (20.3, 40.6, 0.8), (25.0, 31.9, 0.0)
    assert joints_box(found) == (20, 31, 25, 41)
    found[5] = (np.nan, 2, 0.5)
    assert joints_box(found) == (20, 31, 25, 41)
    assert joints_box(np.zeros((18, 3))) is None


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(valence=float("nan")), "valence, arousal or dominance NaN or infinite"),
        (row(anger="nan"), "category NaN or infinite"),
        (row(fear=1.5), "category outside 0 to 1"),
        (row(pain="much"), "category not a number"),
        (row("004/gone.mp4/0001.mp4"), "no file of joints"),
        (row(person=9), "no joints of the person"),
        (row()[:30], "30 columns instead of 37"),
        (row(OTHER, 3), "no frames in the folder"),
    ],
)
def test_bad_rows_are_counted(bold: Path, bad: list[object], reason: str):
    for frame in (bold / "mmextract" / OTHER).iterdir():
        frame.unlink()
    write_csv(bold / "annotations" / "train.csv", [row(), bad, row(person=1)])
    train = load_dataset("bold", bold, "train")
    assert [sample.key for sample in train.samples] == [f"train/0/{CLIP}/0", f"train/2/{CLIP}/1"]
    assert train.skipped == {reason: 1}


def test_joints_without_a_frame_number_are_ignored(bold: Path):
    rows = [joints(n, 0, (4, 4, 1), (9, 9, 1)) for n in (1, 2)]
    rows[0][0] = float("nan")
    path = save_array(bold / "joints" / CLIP.replace("0114.mp4", "0114.npy"), rows)
    pictures = load_dataset("bold", bold, "train").samples[0].images
    assert [picture.boxes for picture in pictures] == [((4, 4, 9, 9),)] + [()] * 7  # now frame 1 of the clip
    save_array(path, np.zeros((0, 56)))
    assert load_dataset("bold", bold, "train").skipped == {"no joints of the person": 1}


def test_a_clip_without_a_folder_is_counted(bold: Path):
    (bold / "mmextract" / OTHER).rename(bold / "elsewhere")
    assert load_dataset("bold", bold, "train").skipped == {"no folder of frames": 1}


def test_a_split_with_only_bad_rows(bold: Path):
    write_csv(bold / "annotations" / "val.csv", [row(person=9), row(person=8)])
    with pytest.raises(
        EmotionError, match=r"bold val: none of 2 rows in .*no joints of the person: 2.*; expected"
    ):
        load_dataset("bold", bold, "val")


def test_an_empty_split(bold: Path):
    (bold / "annotations" / "val.csv").write_text("")
    with pytest.raises(
        EmotionError, match=r"bold val: none of 0 rows in .*\(no rows\); expected below --data: anno"
    ):
        load_dataset("bold", bold, "val")


def test_another_layout(bold: Path):
    with pytest.raises(EmotionError, match="bold has no split 'test': expected train or val"):
        load_dataset("bold", bold, "test")
    (bold / "annotations" / "val.csv").unlink()
    with pytest.raises(
        EmotionError, match=r"bold: file .*val\.csv is missing; expected below --data: annotations/"
    ):
        load_dataset("bold", bold, "val")
    path = save_array(bold / "joints" / OTHER.replace("0002.mp4", "0002.npy"), np.zeros((2, 38)))
    with pytest.raises(EmotionError, match=r"0002\.npy: array \(2, 38\) of float64, expected .* \(N, 56\)"):
        load_dataset("bold", bold, "train")
    path.write_bytes(b"corrupt")
    with pytest.raises(EmotionError, match=r"0002\.npy: not an array of numbers"):
        load_dataset("bold", bold, "train")
