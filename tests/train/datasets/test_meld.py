"""MELD with its real annotation files and frames made for a few utterances."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from trees import jpeg, write_csv, write_json

from emotion_runtime.errors import EmotionError
from emotion_train.datasets import load_dataset
from emotion_train.datasets.meld import EMOTIONS

SPLITS = ("train", "dev", "test")
# Row, dialogue and utterance that were published without a video.
WITHOUT_VIDEO = {"train": (1165, "125", "3"), "dev": (1084, "110", "7")}


def real_rows(folder: Path, split: str) -> list[dict[str, str]]:
    with (folder / f"{split}_sent_emo.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="session")
def whole_meld(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tree of every utterance of the real files; all show the same two frames."""
    root = tmp_path_factory.mktemp("meld")
    (root / "MELD.Raw").mkdir()
    frames = root / "two"
    for n in (0, 1):
        jpeg(frames / f"frame_{n}.jpg")
    nobody = {"frame_0.jpg": [], "frame_1.jpg": []}
    for split in SPLITS:
        shutil.copy(shared_data / "data" / "meld" / f"{split}_sent_emo.csv", root / "MELD.Raw")
        clips = [f"dia{r['Dialogue_ID']}_utt{r['Utterance_ID']}" for r in real_rows(root / "MELD.Raw", split)]
        folder = root / "frames" / f"{split}_splits"
        folder.mkdir(parents=True)
        for clip in clips:
            (folder / clip).symlink_to(frames)
        write_json(root / f"{split}_human_boxes.json", dict.fromkeys(clips, nobody))
    return root


@pytest.fixture
def meld(shared_data: Path, tmp_path: Path) -> Path:
    """Make a tree of the real dev split with frames and boxes for its first two utterances."""
    (tmp_path / "MELD.Raw").mkdir()
    shutil.copy(shared_data / "data" / "meld" / "dev_sent_emo.csv", tmp_path / "MELD.Raw")
    boxes = {"dia0_utt0": {}, "dia0_utt1": {}}
    for clip, count in (("dia0_utt0", 30), ("dia0_utt1", 3)):
        for n in range(count):
            jpeg(tmp_path / "frames" / "dev_splits" / clip / f"frame_{n}.jpg", (128, 72))
            boxes[clip][f"frame_{n}.jpg"] = [
                [100, 50, 300, 350, 0.9],
                [0, 0, 50, 50, 0.5],
                [600, 300, 700, 400, 0.6],
            ]
    write_json(tmp_path / "dev_human_boxes.json", boxes)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_every_real_row_but_the_two_without_video(whole_meld: Path, split: str):
    rows = real_rows(whole_meld / "MELD.Raw", split)
    data = load_dataset("meld", whole_meld, split)
    if split in WITHOUT_VIDEO:
        number, dialogue, utterance = WITHOUT_VIDEO[split]
        gone = rows.pop(number)
        assert (gone["Dialogue_ID"], gone["Utterance_ID"]) == (dialogue, utterance)
    assert data.skipped == ({"known to have no video": 1} if split in WITHOUT_VIDEO else {})
    assert [EMOTIONS[sample.targets["emotion"]] for sample in data.samples] == [
        row["Emotion"] for row in rows
    ]
    keys = [f"{split}/dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}" for row in rows]
    assert [sample.key for sample in data.samples] == keys
    assert len(set(keys)) == len(keys)


def test_class_counts_and_the_order_of_classes(whole_meld: Path, shared_data: Path):
    data = load_dataset("meld", whole_meld, "test")
    counts = Counter(int(sample.targets["emotion"]) for sample in data.samples)
    # neutral, surprise, fear, sadness, joy, disgust, anger, as published for the test split
    assert [counts[c] for c in range(7)] == [1256, 281, 50, 208, 402, 68, 345]
    assert data.tasks[0].labels == EMOTIONS
    facts = (shared_data / "facts" / "emotionclip.md").read_text()
    assert f"Class order: {', '.join(EMOTIONS)}." in facts
    assert data.samples[0].targets["emotion"].dtype == np.int64
    assert data.samples[0].targets["emotion"].shape == ()


def test_groups_are_dialogues(whole_meld: Path):
    samples = load_dataset("meld", whole_meld, "dev").samples
    groups = Counter(sample.group for sample in samples)
    rows = real_rows(whole_meld / "MELD.Raw", "dev")
    dialogues = Counter(f"dev/dia{row['Dialogue_ID']}" for row in rows)
    dialogues["dev/dia110"] -= 1
    assert groups == dialogues


def test_frames_and_boxes_and_utterances_without_them(meld: Path):
    data = load_dataset("meld", meld, "dev")
    first, second = data.samples
    # linspace(0, 29, 8) = 0, 4.1, 8.3, 12.4, 16.6, 20.7, 24.9, 29
    assert [int(p.path.stem[6:]) for p in first.images] == [0, 4, 8, 12, 16, 20, 24, 29]
    assert [int(p.path.stem[6:]) for p in second.images] == [0, 0, 0, 0, 1, 1, 1, 2]
    # 640 over 128 pixels: a fifth; a score of 0.5 is nobody; the last box ends with the picture
    assert first.images[0].boxes == ((20, 10, 60, 70), (120, 60, 128, 72))
    assert data.skipped == {"no folder of frames": 1109 - 3, "known to have no video": 1}


def test_frames_without_boxes_are_counted(meld: Path):
    write_json(meld / "dev_human_boxes.json", {"dia0_utt1": {f"frame_{n}.jpg": [] for n in range(3)}})
    data = load_dataset("meld", meld, "dev")
    assert [sample.key for sample in data.samples] == ["dev/dia0_utt1"]
    assert data.samples[0].images[0].boxes == ()
    assert data.skipped["no boxes for a frame"] == 1


def test_bad_rows_are_counted(meld: Path):
    table = meld / "MELD.Raw" / "dev_sent_emo.csv"
    header = ["Dialogue_ID", "Utterance_ID", "Emotion"]
    rows = [[0, 0, "joy"], [0, 1, "contempt"], ["x", 1, "joy"], [0, 1, ""], [0, 1]]
    write_csv(table, [header, *rows])
    data = load_dataset("meld", meld, "dev")
    assert len(data.samples) == 1
    assert data.skipped == {
        "unknown label: 'contempt'": 1,
        "dialogue not a number": 1,
        "no label": 2,
    }


def test_another_layout(meld: Path):
    with pytest.raises(EmotionError, match="meld has no split 'val': expected train or dev or test"):
        load_dataset("meld", meld, "val")
    with pytest.raises(
        EmotionError, match=r"meld: file .*MELD\.Raw/test_sent_emo\.csv is missing; expected below --data"
    ):
        load_dataset("meld", meld, "test")
    write_json(meld / "dev_human_boxes.json", {"dia0_utt0": {"frame_0.jpg": [[1, 2, 3, 4]]}})
    with pytest.raises(EmotionError, match=r"dev_human_boxes\.json: .*`array` of length 5"):
        load_dataset("meld", meld, "dev")
    (meld / "dev_human_boxes.json").write_text("{corrupt")
    with pytest.raises(EmotionError, match=r"dev_human_boxes\.json: JSON is malformed"):
        load_dataset("meld", meld, "dev")
    write_json(meld / "dev_human_boxes.json", {})
    write_csv(meld / "MELD.Raw" / "dev_sent_emo.csv", [["Emotion", "Dialogue"], ["joy", 0]])
    with pytest.raises(
        EmotionError, match=r"dev_sent_emo\.csv: no column Dialogue_ID, Utterance_ID; expected"
    ):
        load_dataset("meld", meld, "dev")
    (meld / "MELD.Raw" / "dev_sent_emo.csv").write_bytes(b"Emotion,Dialogue_ID,Utterance_ID\n\xff\xfe,0,0\n")
    with pytest.raises(EmotionError, match=r"dev_sent_emo\.csv: not a table of text"):
        load_dataset("meld", meld, "dev")


def test_no_row_is_left(meld: Path):
    shutil.rmtree(meld / "frames")
    with pytest.raises(
        EmotionError, match=r"meld dev: none of 1109 rows in .*no folder of frames: 1108"
    ) as error:
        load_dataset("meld", meld, "dev")
    assert "\n" not in str(error.value)


def test_no_folder_and_no_such_data_set(tmp_path: Path):
    with pytest.raises(
        EmotionError, match=r"meld: folder .*gone does not exist: set --data to the folder of the data set"
    ):
        load_dataset("meld", tmp_path / "gone", "dev")
    with pytest.raises(
        EmotionError, match="unknown data set 'afew': expected one of bold, moviegraphs, meld, emotic, liris"
    ):
        load_dataset("afew", tmp_path, "train")
