"""LIRIS-ACCEDE on a tree of three films."""

from pathlib import Path

import numpy as np
import pytest
from trees import jpeg, write_json

from emotion_runtime.errors import EmotionError
from emotion_train.datasets import load_dataset

DEV, TEST = "DevSet-Valence_Arousal-annotations", "TestSet-Valence_Arousal-annotations"
SECONDS = 12


def write_annotation(root: Path, folder: str, film: str, rows: list[list[object]]) -> Path:
    path = root / "annotations" / folder / "annotations" / f"{film}_Valence-Arousal.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [["Time", "Valence", "Arousal"], *rows]
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    return path


@pytest.fixture
def liris(tmp_path: Path) -> Path:
    for folder, film in ((DEV, "MEDIAEVAL18_00"), (DEV, "MEDIAEVAL18_10"), (TEST, "MEDIAEVAL18_54")):
        # Out of order on purpose, and longer than the frames by two seconds.
        rows = [[t, t / 100, -t / 50] for t in range(SECONDS + 2)]
        write_annotation(tmp_path, folder, film, rows[5:] + rows[:5])
        boxes = {f"{n:08d}.jpg": [[10, 20, 110, 220, 0.9]] for n in range(1, SECONDS + 1)}
        for name in boxes:
            jpeg(tmp_path / "frames" / f"{film}.mp4" / name, (320, 160))
        boxes["00000003.jpg"] = []
        parts = [{name: found} for name, found in boxes.items()]
        write_json(tmp_path / "bboxes" / f"{film}.mp4" / "human_boxes.json", parts)
    return tmp_path


def test_films_follow_one_another_in_time_order(liris: Path):
    data = load_dataset("liris", liris, "train")
    expected = [(film, t) for film in ("MEDIAEVAL18_00", "MEDIAEVAL18_10") for t in range(SECONDS)]
    assert [(s.group, int(s.key.rsplit("/")[-1])) for s in data.samples] == expected
    assert data.tasks[0].kind == "regression"
    assert data.tasks[0].labels == ("valence", "arousal")
    values = np.array([sample.targets["va"] for sample in data.samples])
    np.testing.assert_allclose(values[:, 0], [t / 100 for _, t in expected], atol=1e-7)
    np.testing.assert_allclose(values[:, 1], [-t / 50 for _, t in expected], atol=1e-7)
    assert data.skipped == {"missing frame": 4}


def test_the_test_split_is_the_folder_with_test_in_its_name(liris: Path):
    assert {sample.group for sample in load_dataset("liris", liris, "test").samples} == {"MEDIAEVAL18_54"}


def test_the_frame_of_the_label_is_repeated_eight_times(liris: Path):
    samples = load_dataset("liris", liris, "test").samples
    for t, sample in enumerate(samples):
        assert len(sample.images) == 8
        assert len(set(sample.images)) == 1
        assert sample.images[0].path.name == f"{t + 1:08d}.jpg"  # of a film at 1 fps, counted from 1
    assert samples[0].images[0].boxes == ((5, 10, 55, 110),)  # 640 over 320 pixels
    assert samples[2].images[0].boxes == ()


def test_boxes_in_one_object_are_accepted(liris: Path):
    listed = load_dataset("liris", liris, "test").samples
    whole = {f"{n:08d}.jpg": [] if n == 3 else [[10, 20, 110, 220, 0.9]] for n in range(1, SECONDS + 1)}
    write_json(liris / "bboxes" / "MEDIAEVAL18_54.mp4" / "human_boxes.json", whole)
    assert [s.images for s in load_dataset("liris", liris, "test").samples] == [s.images for s in listed]


def test_bad_rows_are_counted(liris: Path):
    rows = [[0, 0.1, 0.2], [1, "nan", 0.2], [2, 0.1], [3.5, 0, 0], ["x", 0, 0], [4, "", 0], [5, 0, 0]]
    write_annotation(liris, TEST, "MEDIAEVAL18_54", rows)
    boxes = {f"{n:08d}.jpg": [] for n in range(1, 6)}
    write_json(liris / "bboxes" / "MEDIAEVAL18_54.mp4" / "human_boxes.json", boxes)
    data = load_dataset("liris", liris, "test")
    assert [sample.key for sample in data.samples] == ["test/MEDIAEVAL18_54/0"]
    assert data.skipped == {
        "valence or arousal NaN or infinite": 1,
        "2 columns instead of 3": 1,
        "time not a whole number": 1,
        "time not a number": 1,
        "valence or arousal not a number": 1,
        "no boxes for a frame": 1,
    }


def test_films_without_frames_or_boxes_and_other_files_are_counted(liris: Path):
    write_annotation(liris, DEV, "MEDIAEVAL18_99", [[0, 0, 0], [1, 0, 0]])
    (liris / "bboxes" / "MEDIAEVAL18_10.mp4" / "human_boxes.json").unlink()
    fear = liris / "annotations" / "DevSet-Fear" / "annotations" / "MEDIAEVAL18_00_Fear.txt"
    fear.parent.mkdir(parents=True)
    fear.write_text("3\t17\n")
    data = load_dataset("liris", liris, "train")
    assert {sample.group for sample in data.samples} == {"MEDIAEVAL18_00"}
    assert data.skipped == {
        "film without frames": 2,
        "film without boxes": SECONDS + 2,
        "file without the columns Time, Valence, Arousal": 1,
        "missing frame": 2,
    }


def test_the_longest_matching_name_is_that_of_the_film(liris: Path):
    (liris / "frames" / "MEDIAEVAL18.mp4").mkdir()
    assert len(load_dataset("liris", liris, "test").samples) == SECONDS


def test_another_layout(liris: Path):
    with pytest.raises(EmotionError, match="liris has no split 'val': expected train or test"):
        load_dataset("liris", liris, "val")
    write_json(liris / "bboxes" / "MEDIAEVAL18_54.mp4" / "human_boxes.json", {"a.jpg": [[1, 2]]})
    with pytest.raises(EmotionError, match=r"human_boxes\.json: Expected `array` of length 5"):
        load_dataset("liris", liris, "test")
    (liris / "annotations").rename(liris / "labels")
    with pytest.raises(
        EmotionError, match=r"liris test: none of 0 rows .*\(no rows\); expected below --data: annot"
    ):
        load_dataset("liris", liris, "test")
