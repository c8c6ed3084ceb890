"""MELD: from the published videos and tables to frames and boxes of people.

What is published, MELD.Raw.tar.gz, has {train,dev,test}_sent_emo.csv, and below train.tar.gz, dev.tar.gz and
test.tar.gz the folders train_splits, dev_splits_complete and output_repeated_splits_test with one video
dia<Dialogue_ID>_utt<Utterance_ID>.mp4 for each row. Sources: https://affective-meld.github.io and the
repository declare-lab/MELD, which state tables, columns and names of videos; the names of the folders are
those in the archive.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from emotion_runtime.detectors import Detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import make_folder, write_atomically
from emotion_train.datasets.layout import Layout
from emotion_train.datasets.meld import SPLITS
from emotion_train.probe_data.clip_frames import ClipBoxes, prepare_clip
from emotion_train.probe_data.shared import prepare_each

VIDEO_FOLDERS = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}
_TREE = (
    "below --data, at any depth: {train,dev,test}_sent_emo.csv, and the unpacked folders "
    f"{', '.join(VIDEO_FOLDERS.values())} with videos dia<D>_utt<U>.mp4"
)


def prepare(data: Path, out: Path, detector: Detector) -> Counter[str]:
    """Write the layout that `emotion_train.datasets.meld` reads.

    A run that was stopped goes on with the clips that are missing. A video that cannot be read is left out
    and named; its row is left out by the reader.

    Returns:
        The number of clips by outcome.

    Raises:
        EmotionError: A table or a folder is missing, or `out` cannot be written.
    """
    make_folder(out / "MELD.Raw")
    layout = Layout("meld", data, _TREE)
    tables = {split: _only(data, f"{split}_sent_emo.csv") for split in SPLITS}
    folders = {split: _only(data, VIDEO_FOLDERS[split]) for split in SPLITS}
    outcomes: Counter[str] = Counter()
    for split in SPLITS:
        boxes: dict[str, ClipBoxes] = {}
        frames = out / "frames" / f"{split}_splits"

        def prepare_one(
            clip: str, video: Path, boxes: dict[str, ClipBoxes] = boxes, frames: Path = frames
        ) -> None:
            boxes[clip] = prepare_clip(video, frames / clip, detector)

        videos = {clip: folders[split] / f"{clip}.mp4" for clip in _clips(layout, tables[split])}
        outcomes += prepare_each(videos, prepare_one, f"meld {split}")
        write_atomically(out / f"{split}_human_boxes.json", json.dumps(boxes))
        shutil.copyfile(tables[split], out / "MELD.Raw" / f"{split}_sent_emo.csv")
    return outcomes


def _clips(layout: Layout, table: Path) -> Iterator[str]:
    for row in layout.records(table, ("Emotion", "Dialogue_ID", "Utterance_ID")):
        yield f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"


def _only(data: Path, name: str) -> Path:
    """Return the one file or folder with a name, at any depth."""
    found = sorted(data.rglob(name))
    if len(found) != 1:
        problem = "is missing" if not found else f"exists {len(found)} times ({found[0]}, {found[1]})"
        raise EmotionError(f"meld: {name} {problem} below {data}; expected {_TREE}")
    return found[0]
