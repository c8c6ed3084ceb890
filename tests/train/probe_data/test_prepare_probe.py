"""prepare-probe on small trees as the authors of the data sets publish them, read as the probes read them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat

from emotion_runtime.media.images import read_image
from emotion_runtime.types import Detections
from emotion_train.cli import main
from emotion_train.commands import prepare_probe
from emotion_train.datasets import load_dataset
from emotion_train.datasets.bold import CATEGORIES
from made_videos import greys, write_images

HEADER = ["Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"]
SIZE = (320, 180)
BOX = (40.0, 30.0, 200.0, 150.0)
FOLDERS = {
    "train": "train/train_splits",
    "dev": "dev/dev_splits_complete",
    "test": "test/output_repeated_splits_test",
}


def write_video(path: Path, frames: int) -> None:
    """Frame i has the grey level 5 i + 20."""
    write_images(path, greys(range(20, 20 + 5 * frames, 5), SIZE), 24, b="4000000")


@pytest.fixture
def meld_raw(tmp_path: Path) -> Path:
    """The archive as it unpacks: the table of `train` inside its folder, the others above theirs."""
    root = tmp_path / "MELD.Raw"
    for split, folder in FOLDERS.items():
        table = (root / "train" if split == "train" else root) / f"{split}_sent_emo.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            [1, "Oh, well", "Joey", "joy", "positive", 0, 0],
            [2, "What?", "Ross", "anger", "negative", 0, 1],
        ]
        with table.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([HEADER, *rows])
        write_video(root / folder / "dia0_utt0.mp4", 30)
        write_video(root / folder / "dia0_utt1.mp4", 3)
        (root / folder / "dia9_utt9.mp4").write_bytes(b"")  # videos without a row are not read
    return root


class OnePerson:
    """Finds a person in each image, and counts the images."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        self.seen += 1
        assert image_bgr.shape == (SIZE[1], SIZE[0], 3)
        return Detections(np.array([BOX], np.float32), np.array([0.875], np.float32))


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OnePerson:
    finder = OnePerson()
    monkeypatch.setattr(prepare_probe, "load_detector", lambda *_, **__: finder)
    (tmp_path / "persons.onnx").write_bytes(b"a detector")
    return finder


def prepare_meld(raw: Path, *options: str) -> int:
    out, onnx = str(raw.parent / "out"), str(raw.parent / "persons.onnx")
    return main(
        ["prepare-probe", "--dataset=meld", f"--data={raw}", f"--out={out}", f"--detector={onnx}", *options]
    )


def test_meld_is_read_as_if_all_frames_were_there(meld_raw: Path, detector: OnePerson):
    assert prepare_meld(meld_raw) == 0
    for split in FOLDERS:
        data = load_dataset("meld", meld_raw.parent / "out", split)
        assert data.skipped == {}
        long, short = data.samples
        assert [int(image.path.stem[6:]) for image in long.images] == [0, 4, 8, 12, 16, 20, 24, 29]
        assert [int(image.path.stem[6:]) for image in short.images] == [0, 0, 0, 0, 1, 1, 1, 2]
        for image in (*long.images, *short.images):
            level = 5 * int(image.path.stem[6:]) + 20
            np.testing.assert_allclose(np.asarray(read_image(image.path)).mean(), level, atol=3)
            np.testing.assert_allclose(image.boxes, [BOX], atol=1e-3)
    assert detector.seen == 3 * (8 + 3)


def test_meld_goes_on_where_it_was_stopped(meld_raw: Path, detector: OnePerson):
    assert prepare_meld(meld_raw) == 0
    out = meld_raw.parent / "out"
    before = (out / "test_human_boxes.json").read_bytes()
    (out / "test_human_boxes.json").unlink()
    (out / "frames/test_splits/dia0_utt1/boxes.json").unlink()
    assert prepare_meld(meld_raw) == 0
    assert (out / "test_human_boxes.json").read_bytes() == before
    assert detector.seen == 3 * (8 + 3) + 3


def test_meld_names_videos_that_are_damaged_and_counts_those_that_are_missing(
    meld_raw: Path, detector: OnePerson, capsys: pytest.CaptureFixture[str]
):
    (meld_raw / FOLDERS["dev"] / "dia0_utt0.mp4").write_bytes(b"no video")
    (meld_raw / FOLDERS["test"] / "dia0_utt1.mp4").unlink()
    assert prepare_meld(meld_raw) == 0
    messages = capsys.readouterr().err
    assert "dia0_utt0 is left out: " in messages
    assert "4 prepared" in messages
    assert "1 unreadable" in messages
    assert "1 without a video" in messages
    assert load_dataset("meld", meld_raw.parent / "out", "dev").skipped == {"no folder of frames": 1}
    assert detector.seen == 3 * (8 + 3) - 8 - 3


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda _: None, ("--detector-score=0.3",), "was begun with another data set, detector or score"),
        (lambda raw: (raw / "train/train_sent_emo.csv").unlink(), (), "train_sent_emo.csv is missing below"),
        (lambda raw: (raw / "dev_splits_complete").mkdir(), (), "dev_splits_complete exists 2 times"),
        (lambda raw: (raw / "dev_sent_emo.csv").write_text("Emotion\njoy\n"), (), "Dialogue_ID"),
    ],
)
def test_meld_mistakes_are_one_line(
    meld_raw: Path,
    detector: OnePerson,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    options: tuple[str, ...],
    words: str,
):
    assert prepare_meld(meld_raw) == 0
    capsys.readouterr()
    change(meld_raw)
    assert prepare_meld(meld_raw, *options) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("emotion-train prepare-probe: error: ")
    assert words in line
    assert detector.seen == 3 * (8 + 3)


@pytest.mark.slow
def test_meld_with_a_real_person_detector(meld_raw: Path, shared_data: Path):
    onnx = shared_data / "weights" / "yolox_nano_416_coco.onnx"
    people = shared_data / "videos" / "mmtracking_demo.mp4"
    (meld_raw / FOLDERS["dev"] / "dia0_utt0.mp4").write_bytes(people.read_bytes())
    assert prepare_meld(meld_raw, f"--detector={onnx}") == 0
    sample, *_ = load_dataset("meld", meld_raw.parent / "out", "dev").samples
    assert all(image.boxes for image in sample.images), "nobody was found in a frame with many people"


def person(box: list[int], categories: list[str], affect: list[float], *, combined: bool) -> dict:
    """One person, as savemat takes a struct."""
    named = dict(zip(("valence", "arousal", "dominance"), affect, strict=True))
    one = {"worker_id": "A1", "categories": np.array(categories[:1], object)}
    result = {
        "body_bbox": box,
        "annotations_categories": one,
        "annotations_continuous": {"worker_id": "A1", **named},
    }
    if combined:
        result["annotations_continuous"] = {"worker_id": "A1", "valence": 1, "arousal": 1, "dominance": 1}
        result["combined_categories"] = np.array(categories, object)
        result["combined_continuous"] = named
    return result


@pytest.fixture
def emotic_raw(tmp_path: Path) -> Path:
    """Images of one and of two people, in the authors' structures."""
    from PIL import Image  # noqa: PLC0415

    root = tmp_path / "raw"
    (root / "Annotations").mkdir(parents=True)
    entries = {}
    for split in ("train", "val", "test"):
        combined = split != "train"
        people = [
            person([10, 20, 300, 400], ["Engagement", "Doubt/Confusion"], [5, 6, 7.5], combined=combined),
            person([0, 0, 100, 200], ["Happiness"], [8, 3, np.nan], combined=combined),
        ]
        for name, folder, size, shown in (
            ("a.jpg", "mscoco/images", (640, 480), people),
            ("b.jpg", "framesdb/images", (300, 500), people[:1]),
        ):
            (root / "emotic" / folder).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size).save(root / "emotic" / folder / name)
            entry = {"filename": name, "folder": folder, "image_size": {"n_col": size[0], "n_row": size[1]}}
            entries.setdefault(split, []).append(entry | {"person": shown if len(shown) > 1 else shown[0]})
    savemat(root / "Annotations" / "Annotations.mat", entries)
    return root


def test_emotic_is_converted_from_the_authors_structures(emotic_raw: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert main(["prepare-probe", "--dataset=emotic", f"--data={emotic_raw}", f"--out={out}"]) == 0
    for split in ("train", "val", "test"):
        data = load_dataset("emotic", out, split)
        assert data.skipped == {"valence, arousal or dominance NaN or infinite": 1}
        first, second = data.samples
        names = [data.tasks[0].labels[i] for i in np.flatnonzero(first.targets["categories"])]
        # Of the training people, whose single annotator chose one category in this tree.
        assert names == (["engagement"] if split == "train" else ["doubt/confusion", "engagement"])
        assert first.targets["vad"].tolist() == [5, 6, 7.5]
        assert first.images[0].boxes == ((10, 20, 300, 400),)
        assert (first.group, second.group) == ("mscoco/images/a.jpg", "framesdb/images/b.jpg")
    assert len(CATEGORIES) == 26


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dataset=meld"], "meld needs --detector"),
        (["--dataset=meld", "--detector=face"], "finds faces: expected an ONNX file"),
        (["--dataset=emotic", "--detector=a.onnx"], "--detector does not apply to emotic"),
        (["--dataset=emotic"], "Annotations.mat is missing; expected --data with"),
        (["--dataset=emotic", "--data=/absent"], "--data /absent is not a folder"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
):
    assert main(["prepare-probe", f"--data={tmp_path}", f"--out={tmp_path / 'out'}", *options]) == 2
    line, end = capsys.readouterr().err.split("\n")
    assert words in line
    assert not end


def test_a_file_that_is_not_the_authors(emotic_raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = emotic_raw / "Annotations" / "Annotations.mat"
    for write in (lambda: path.write_bytes(b"no MATLAB"), lambda: savemat(path, {"train": [1, 2]})):
        write()
        assert (
            main(["prepare-probe", "--dataset=emotic", f"--data={emotic_raw}", f"--out={tmp_path / 'o'}"])
            == 2
        )
        line, end = capsys.readouterr().err.split("\n")
        assert "is not the authors' file" in line
        assert not end


def test_boxes_of_a_frame_are_in_the_scale_of_the_authors_detector(meld_raw: Path, detector: OnePerson):
    assert prepare_meld(meld_raw) == 0
    boxes = json.loads((meld_raw.parent / "out" / "dev_human_boxes.json").read_text())
    assert boxes["dia0_utt1"]["frame_0.jpg"] == [[80, 60, 400, 300, 0.875]]  # 640 / 320 = 2
    assert detector.seen
