"""MELD: utterances of a TV series, each labelled with one of seven emotions.

Source: paper Sec. 4.1, reference [60]; layout and label order are those of the authors' evaluation.
"""

from pathlib import Path

from emotion_train.datasets.base import Dataset, Sample, Task
from emotion_train.datasets.boxes import Detection, image_of_everyone
from emotion_train.datasets.frames import clip_frames, image_size
from emotion_train.datasets.layout import Layout
from emotion_train.datasets.rows import BadRow, assemble, class_of, whole

SPLITS = ("train", "dev", "test")
EMOTIONS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
TASKS = (Task("emotion", "single_label", EMOTIONS),)

_WITHOUT_VIDEO = {("train", 125, 3), ("dev", 110, 7)}  # split, dialogue, utterance: never published
_TREE = (
    "below --data: MELD.Raw/{train,dev,test}_sent_emo.csv, frames/<split>_splits/dia<D>_utt<U>/"
    "frame_<n>.jpg, <split>_human_boxes.json"
)

ClipDetections = dict[str, dict[str, list[Detection]]]  # by clip, then by file name


def load(root: Path, split: str) -> Dataset:
    """Load one split.

    A row is an utterance; its eight frames are spread over all frames in its folder, sorted by number. The
    subject is everyone in the frame. A group is a dialogue.

    Raises:
        EmotionError: The layout is another, or no row is usable.
    """
    layout = Layout("meld", root, _TREE)
    layout.check_split(split, SPLITS)
    table = layout.file("MELD.Raw", f"{split}_sent_emo.csv")
    rows = layout.records(table, ("Emotion", "Dialogue_ID", "Utterance_ID"))
    boxes = layout.json(layout.file(f"{split}_human_boxes.json"), ClipDetections)

    def sample(row: dict[str, str]) -> Sample:
        dialogue = whole(row["Dialogue_ID"], "dialogue")
        utterance = whole(row["Utterance_ID"], "utterance")
        if (split, dialogue, utterance) in _WITHOUT_VIDEO:
            raise BadRow("known to have no video")
        clip = f"dia{dialogue}_utt{utterance}"
        emotion = class_of(row["Emotion"], EMOTIONS)
        paths = [path for _, path in clip_frames(root / "frames" / f"{split}_splits" / clip)]
        size = image_size(paths[0])  # all frames of a video have one size
        return Sample(
            key=f"{split}/{clip}",
            group=f"{split}/dia{dialogue}",
            images=tuple(image_of_everyone(path, boxes.get(clip, {}), *size) for path in paths),
            targets={"emotion": emotion},
        )

    return assemble(layout, split, TASKS, rows, sample)
