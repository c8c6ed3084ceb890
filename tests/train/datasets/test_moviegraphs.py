"""MovieGraphs on a tree of three films."""

from pathlib import Path

import numpy as np
import pytest
from trees import jpeg, write_json

from emotion_runtime.errors import EmotionError
from emotion_train.datasets import load_dataset
from emotion_train.datasets.bold import CATEGORIES

FILM, OTHER, TRAINED = "tt0000001", "tt0000002", "tt0000003"
# Shots of both films: 0-19, 20-49, 50-99, 100 and on
SHOTS = "4 shots\n20 0.833 CUT\n50 2.083 CUT\n100 4.167 CUT\n"
SCENES = "1 2 1 \n3 3 0 \n2 4 1 \n"
SCENE_0 = [0, 7, 14, 21, 28, 35, 42, 49]  # shots 1 and 2
SCENE_1 = [50, 57, 64, 71, 78, 85, 92, 99]  # shot 3
# shots 2 to 4, of which the last has no end: 20 to 20 + 192, linspace rounded down
SCENE_2 = [20, 47, 74, 102, 129, 157, 184, 212]

Labels = dict[str, dict[str, list[str]]]


def write_film(root: Path, film: str, scenes: str = SCENES, shots: str = SHOTS) -> None:
    info = root / "official" / "mg_videoinfo"
    for path, text in (
        (info / "scene_boundaries" / f"{film}.scenes.gt", scenes),
        (info / "video_boundaries" / f"{film}.videvents", shots),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def write_labels(root: Path, labels: Labels) -> None:
    write_json(root / "official" / "mg" / "py3loader" / "emotion_labels.json", labels)


@pytest.fixture
def moviegraphs(tmp_path: Path) -> Path:
    labels = {
        FILM: {"0": ["Fear", "Doubt/Conf"], "1": ["Affection"], "2": ["Yearning", "affection"]},
        OTHER: {"1": ["Peace"]},
        TRAINED: {"0": ["Pain"]},
    }
    write_labels(tmp_path, labels)
    write_json(
        tmp_path / "official" / "mg" / "split.json", {"train": [TRAINED], "val": [FILM], "test": [OTHER]}
    )
    boxes = {}
    for film in labels:
        write_film(tmp_path, film)
        for n in {*SCENE_0, *SCENE_1, *SCENE_2}:
            jpeg(tmp_path / "frames" / film / f"frame_{n}.jpg", (64, 32))
        boxes[film] = {f"frame_{n}.jpg": [] for n in range(300)}
    boxes[FILM]["frame_7.jpg"] = [[100, 10, 200, 310, 0.51], [0, 0, 640, 320, 0.5]]
    write_json(tmp_path / "all_human_boxes.json", boxes)
    return tmp_path


def test_labels_are_those_of_bold_in_alphabetical_order(moviegraphs: Path):
    data = load_dataset("moviegraphs", moviegraphs, "val")
    (task,) = data.tasks
    assert (task.name, task.kind) == ("emotions", "multi_label")
    assert list(task.labels) == sorted(CATEGORIES)
    assert (task.labels[0], task.labels[-1]) == ("affection", "yearning")
    named = [[task.labels[c] for c in np.flatnonzero(s.targets["emotions"])] for s in data.samples]
    assert named == [["doubt/confusion", "fear"], ["affection"], ["affection", "yearning"]]
    assert data.samples[0].targets["emotions"].dtype == np.float32


def test_splits_are_films(moviegraphs: Path):
    groups = {
        split: [sample.group for sample in load_dataset("moviegraphs", moviegraphs, split).samples]
        for split in ("train", "val", "test")
    }
    assert groups == {"train": [TRAINED], "val": [FILM] * 3, "test": [OTHER]}
    assert load_dataset("moviegraphs", moviegraphs, "test").samples[0].key == f"test/{OTHER}/1"


def test_scenes_are_cut_at_their_shots(moviegraphs: Path):
    samples = load_dataset("moviegraphs", moviegraphs, "val").samples
    numbers = [[int(p.path.stem.removeprefix("frame_")) for p in sample.images] for sample in samples]
    assert numbers == [SCENE_0, SCENE_1, SCENE_2]
    assert samples[0].images[0].path == moviegraphs / "frames" / FILM / "frame_0.jpg"


def test_the_subject_is_everyone(moviegraphs: Path):
    pictures = load_dataset("moviegraphs", moviegraphs, "val").samples[0].images
    assert pictures[1].boxes == ((10, 1, 20, 31),)  # 640 over 64 pixels: a tenth; a score of 0.5 is nobody
    assert [p.boxes for p in pictures[2:]] == [()] * 6


def test_the_film_that_is_shorter_than_its_annotation(moviegraphs: Path):
    film = "tt0388795"
    write_labels(moviegraphs, {film: {"207": ["Sadness"]}})
    write_json(moviegraphs / "official" / "mg" / "split.json", {"train": [film]})
    write_film(
        moviegraphs, film, scenes="1 1 1\n" * 207 + "2 2 1\n", shots="2 shots\n184265 1 CUT\n193300 1 CUT\n"
    )
    numbers = range(184265, 184273)
    for n in numbers:
        jpeg(moviegraphs / "frames" / film / f"frame_{n}.jpg")
    write_json(moviegraphs / "all_human_boxes.json", {film: {f"frame_{n}.jpg": [] for n in numbers}})
    (sample,) = load_dataset("moviegraphs", moviegraphs, "train").samples
    assert [p.path.stem for p in sample.images] == [f"frame_{n}" for n in numbers]


@pytest.mark.parametrize(
    ("clips", "reason"),
    [
        ({"3": ["Fear"]}, "no such scene in the film"),
        ({"first": ["Fear"]}, "clip not a number"),
        ({"1": ["Contempt"]}, "unknown label: 'contempt'"),
        ({"1": []}, "no label"),
    ],
)
def test_bad_rows_are_counted(moviegraphs: Path, clips: dict[str, list[str]], reason: str):
    write_labels(moviegraphs, {FILM: {"0": ["Fear"], **clips}})
    data = load_dataset("moviegraphs", moviegraphs, "val")
    assert [sample.key for sample in data.samples] == [f"val/{FILM}/0"]
    assert data.skipped == {reason: 1}


def test_scenes_without_frames_or_boxes_are_counted(moviegraphs: Path):
    (moviegraphs / "frames" / FILM / "frame_57.jpg").unlink()
    data = load_dataset("moviegraphs", moviegraphs, "val")
    assert [sample.key[-1] for sample in data.samples] == ["0", "2"]
    assert data.skipped == {"missing frame": 1}
    write_json(moviegraphs / "all_human_boxes.json", {FILM: {f"frame_{n}.jpg": [] for n in SCENE_0}})
    data = load_dataset("moviegraphs", moviegraphs, "val")
    assert data.skipped == {"missing frame": 1, "no boxes for a frame": 1}
    with pytest.raises(EmotionError, match=r"moviegraphs test: none of 1 rows .*no boxes for a frame: 1"):
        load_dataset("moviegraphs", moviegraphs, "test")


def test_a_film_without_boundaries_is_counted(moviegraphs: Path):
    write_json(moviegraphs / "official" / "mg" / "split.json", {"val": [FILM, OTHER, "tt9"]})
    (moviegraphs / "official" / "mg_videoinfo" / "video_boundaries" / f"{FILM}.videvents").unlink()
    data = load_dataset("moviegraphs", moviegraphs, "val")
    assert data.skipped == {"film without scene or shot boundaries": 3}
    assert [sample.group for sample in data.samples] == [OTHER]


def test_scenes_of_missing_shots_are_counted(moviegraphs: Path):
    write_film(moviegraphs, FILM, scenes="0 2 1\n3 3 1\n4 5 1\n")
    data = load_dataset("moviegraphs", moviegraphs, "val")
    assert [sample.key for sample in data.samples] == [f"val/{FILM}/1"]
    assert data.skipped == {"scene of shots that the film does not have": 2}


def test_another_layout(moviegraphs: Path):
    write_film(moviegraphs, FILM, shots="4 shots\nzero 1 CUT\n")
    with pytest.raises(EmotionError, match=rf"boundaries of {FILM} are not numbers"):
        load_dataset("moviegraphs", moviegraphs, "val")
    with pytest.raises(EmotionError, match="moviegraphs has no split 'dev'"):
        load_dataset("moviegraphs", moviegraphs, "dev")
    write_json(moviegraphs / "official" / "mg" / "split.json", {"train": [TRAINED]})
    with pytest.raises(EmotionError, match=r"moviegraphs val: none of 0 rows .*\(no rows\)"):
        load_dataset("moviegraphs", moviegraphs, "val")
    write_json(moviegraphs / "all_human_boxes.json", [1])
    with pytest.raises(EmotionError, match=r"all_human_boxes\.json: Expected `object`"):
        load_dataset("moviegraphs", moviegraphs, "train")
    (moviegraphs / "official" / "mg" / "py3loader" / "emotion_labels.json").unlink()
    with pytest.raises(
        EmotionError, match=r"file .*emotion_labels\.json is missing; expected below --data: official/"
    ):
        load_dataset("moviegraphs", moviegraphs, "train")
