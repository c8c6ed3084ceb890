"""`emotion-train prepare-probe` for BoLD, LIRIS-ACCEDE and MovieGraphs: small made trees, read back."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_runtime.detectors import Detections
from emotion_runtime.media.images import read_image
from emotion_train.cli import main
from emotion_train.commands import prepare_probe
from emotion_train.datasets import load_dataset
from emotion_train.datasets.video import video_frames
from emotion_train.probe_data.clip_frames import frames_by_second
from made_videos import greys, write_images

SIZE = (64, 48)
BOX = (8.0, 6.0, 40.0, 30.0)


def write_video(path: Path, frames: int, rate: int = 24) -> Path:
    """Frame i has the grey level 2 i + 20."""
    return write_images(path, greys(range(20, 20 + 2 * frames, 2), SIZE), rate, b="4000000")


def one_person(_image_bgr: NDArray[np.uint8]) -> Detections:
    return Detections(np.array([BOX], np.float32), np.array([0.875], np.float32))


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setattr(prepare_probe, "load_detector", lambda *_, **__: one_person)
    (tmp_path / "persons.onnx").write_bytes(b"a detector")
    return f"--detector={tmp_path / 'persons.onnx'}"


def prepare(dataset: str, raw: Path, out: Path, *options: str) -> None:
    assert main(["prepare-probe", f"--dataset={dataset}", f"--data={raw}", f"--out={out}", *options]) == 0


def level(path: Path) -> float:
    return float(np.asarray(read_image(path)).mean())


def bold_row(video: str, person: int = 0) -> str:
    return ",".join([video, str(person), "0", "29", *["0.6"] * 26, "5", "5", "5", "f", "adult", "x", "0.9"])


def test_bold_has_the_frames_that_the_joints_are_numbered_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    raw, out = tmp_path / "BOLD_public", tmp_path / "out"
    clip = "003/NAME.mp4/0114.mp4"
    write_video(raw / "videos" / clip, 30)
    (raw / "videos/003/NAME.mp4/0115.mp4").write_bytes(b"no video")
    (raw / "annotations").mkdir()
    for split in ("train", "val"):
        rows = [clip, "003/NAME.mp4/0115.mp4", "003/NAME.mp4/0116.mp4"] if split == "train" else [clip]
        (raw / f"annotations/{split}.csv").write_text("\n".join(map(bold_row, rows)))
    # A person who moves to the right by a pixel per frame; the film's frame 500 is the clip's first.
    joints = np.zeros((30, 56))
    joints[:, 0] = np.arange(500, 530)
    joints[:, 2:5] = [10, 10, 0.9]
    joints[:, 5:8] = [20, 30, 0.9]
    joints[:, 2] += np.arange(30)
    joints[:, 5] += np.arange(30)
    (raw / "joints/003/NAME.mp4").mkdir(parents=True)
    np.save(raw / "joints/003/NAME.mp4/0114.npy", joints)
    prepare("bold", raw, out)
    messages = capsys.readouterr().err
    assert "0115.mp4 is left out: " in messages
    assert "1 prepared, 1 unreadable, 1 without a video" in messages
    (sample,) = load_dataset("bold", out, "val").samples
    numbers = [int(image.path.stem.split("_")[1]) for image in sample.images]
    assert numbers == [1, 5, 9, 13, 17, 21, 25, 30]
    for number, image in zip(numbers, sample.images, strict=True):
        assert level(image.path) == pytest.approx(2 * (number - 1) + 20, abs=3)
        assert image.boxes[0][0] == 10 + number - 1
    # A run that was killed in the middle of a clip leaves no half of it, and goes on.
    folder = out / "mmextract" / clip
    folder.rename(folder.with_name("0114.mp4.unfinished"))
    prepare("bold", raw, out)
    assert len(list(folder.iterdir())) == 8


def test_liris_has_the_frame_of_each_second(tmp_path: Path, detector: str):
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw = raw / "latest"  # "test" within a word says nothing
    for archive, film in (("DevSet-Part1", "00"), ("TestSet", "54")):
        folder = raw / f"MEDIAEVAL18-{archive}-Valence_Arousal-annotations" / "annotations"
        folder.mkdir(parents=True)
        rows = ["Time\tValence\tArousal", *(f"{t}\t{t / 10}\t-0.5" for t in range(5))]
        (folder / f"MEDIAEVAL18_{film}_Valence-Arousal.txt").write_text("\n".join(rows))
        write_video(raw / f"MEDIAEVAL18-{archive}-Data" / "data" / f"MEDIAEVAL18_{film}.mp4", 90)
    prepare("liris", raw.parent, out, detector)
    for split, film in (("train", "00"), ("test", "54")):
        data = load_dataset("liris", out, split)
        assert data.skipped == {"missing frame": 1}  # the film ends before its last annotation
        assert [sample.group for sample in data.samples] == [f"MEDIAEVAL18_{film}"] * 4
        for second, sample in enumerate(data.samples):
            assert level(sample.images[0].path) == pytest.approx(2 * 24 * second + 20, abs=3)
            np.testing.assert_allclose(sample.images[0].boxes, [BOX], atol=1e-3)
            assert sample.targets["va"][0] == pytest.approx(second / 10)


@pytest.mark.parametrize("rate", [10, 25, 30])
def test_the_frame_of_a_second_is_the_one_that_is_shown_then(tmp_path: Path, rate: int):
    video = write_video(tmp_path / "film.mp4", 2 * rate + 3, rate)
    found = dict(frames_by_second(video))
    assert list(found) == [0, 1, 2]
    for second, image in found.items():
        assert (image[..., ::-1] == video_frames(video, [float(second)])[0]).all()


def test_moviegraphs_has_the_frames_of_its_labelled_scenes(
    tmp_path: Path, detector: str, capsys: pytest.CaptureFixture[str]
):
    raw, out = tmp_path / "raw", tmp_path / "out"
    for name in ("mg/py3loader", "mg_videoinfo/scene_boundaries", "mg_videoinfo/video_boundaries"):
        (raw / "official" / name).mkdir(parents=True)
    official = raw / "official"
    labels = {"tt1": {"0": ["Anger"], "1": ["Peace", "Fear"], "9": ["Anger"]}, "tt2": {"0": ["Anger"]}}
    (official / "mg/py3loader/emotion_labels.json").write_text(json.dumps(labels))
    (official / "mg/split.json").write_text(json.dumps({"train": ["tt1"], "val": [], "test": ["tt2"]}))
    # Shots start at frames 0, 20, 50 and 60.
    (official / "mg_videoinfo/video_boundaries/tt1.videvents").write_text(
        "header\n20 0.8 CUT\n50 2.1 CUT\n60 2.5 CUT\n"
    )
    (official / "mg_videoinfo/scene_boundaries/tt1.scenes.gt").write_text("1 1 1\n2 2 1\n")
    write_video(raw / "films" / "tt1.mp4", 62)
    prepare("moviegraphs", raw, out, detector)
    assert "1 prepared, 1 without a video" in capsys.readouterr().err
    data = load_dataset("moviegraphs", out, "train")
    assert data.skipped == {"no such scene in the film": 1}
    first, second = data.samples
    assert [int(image.path.stem[6:]) for image in first.images] == [0, 2, 5, 8, 10, 13, 16, 19]
    assert [int(image.path.stem[6:]) for image in second.images] == [20, 24, 28, 32, 36, 40, 44, 49]
    for image in (*first.images, *second.images):
        assert level(image.path) == pytest.approx(2 * int(image.path.stem[6:]) + 20, abs=3)
        np.testing.assert_allclose(image.boxes, [BOX], atol=1e-3)
    # Labels are written by hand: another scene's frames are added later.
    labels["tt1"]["2"] = ["Anger"]
    (official / "mg/py3loader/emotion_labels.json").write_text(json.dumps(labels))
    boundaries = official / "mg_videoinfo/scene_boundaries/tt1.scenes.gt"
    scenes = boundaries.read_text()
    boundaries.write_text(scenes + "3 3 1\n")
    prepare("moviegraphs", raw, out, detector)
    assert len(load_dataset("moviegraphs", out, "train").samples) == 3
    # Without its boundaries, or as a shorter copy, a film is left out, and comes back.
    boundaries.write_text("")
    prepare("moviegraphs", raw, out, detector)
    assert "tt1 is left out: none of its labelled scenes has boundaries below " in capsys.readouterr().err
    boundaries.write_text(scenes + "3 3 1\n")
    whole = (raw / "films/tt1.mp4").read_bytes()
    for path in (out / "frames/tt1").iterdir():
        path.unlink()
    write_video(raw / "films/tt1.mp4", 30)
    prepare("moviegraphs", raw, out, detector)
    assert "tt1.mp4 ends before frame 32; " in capsys.readouterr().err
    assert len(load_dataset("moviegraphs", out, "train").samples) == 1
    (raw / "films/tt1.mp4").write_bytes(whole)
    prepare("moviegraphs", raw, out, detector)
    assert len(load_dataset("moviegraphs", out, "train").samples) == 3


def test_a_link_to_a_folder_that_was_moved_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    raw, out = tmp_path / "raw", tmp_path / "out"
    for name in ("annotations", "joints", "videos"):
        (raw / name).mkdir(parents=True)
    for split in ("train", "val"):
        (raw / f"annotations/{split}.csv").write_text(bold_row("003/NAME.mp4/0114.mp4"))
    out.mkdir()
    (out / "annotations").symlink_to(tmp_path / "moved")
    assert main(["prepare-probe", "--dataset=bold", f"--data={raw}", f"--out={out}"]) == 2
    assert f"is a link to {tmp_path / 'moved'}, which is not there any more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("bold", "annotations/train.csv is missing; expected --data with annotations"),
        ("liris", "no file *_Valence-Arousal.txt below"),
        ("moviegraphs", "emotion_labels.json is missing; expected below --data: official"),
    ],
)
def test_a_folder_without_the_data_is_one_line(
    dataset: str, words: str, tmp_path: Path, detector: str, capsys: pytest.CaptureFixture[str]
):
    options = [] if dataset == "bold" else [detector]
    argv = ["prepare-probe", f"--dataset={dataset}", f"--data={tmp_path}", f"--out={tmp_path / 'out'}"]
    assert main([*argv, *options]) == 2
    line, end = capsys.readouterr().err.split("\n")
    assert words in line
    assert not end
