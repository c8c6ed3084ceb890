"""Small data sets in the layouts of the real ones; the colour of an image identifies its label."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from emotion_train.datasets.bold import CATEGORIES
from emotion_train.datasets.meld import EMOTIONS

SIZE = (80, 60)  # width, height


def picture(path: Path, colour: np.ndarray, rng: np.random.Generator) -> None:
    """One colour with a little noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = colour + rng.normal(0, 12, (SIZE[1], SIZE[0], 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=92)


def colour_of(number: int) -> np.ndarray:
    return np.array([40 + 53 * number % 180, 200 - 37 * number % 160, 30 + 91 * number % 190], float)


def _boxes(names: list[str]) -> dict[str, list[list[float]]]:
    # 80 x 60 in the detector's 640 px: times 8.
    return {name: [[160, 80, 480, 400, 0.9]] for name in names}


def meld_tree(root: Path) -> Path:
    """Three splits of 28 utterances, every class four times, two in a dialogue."""
    rng = np.random.default_rng(0)
    (root / "MELD.Raw").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        lines, boxes = ["Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID"], {}
        for number, label in enumerate(rng.permutation(np.arange(28) % 7)):
            clip = f"dia{number // 2}_utt{number % 2}"
            lines.append(f"{number},hey,Joey,{EMOTIONS[label]},neutral,{number // 2},{number % 2}")
            names = [f"frame_{n}.jpg" for n in range(3)]
            colour = colour_of(label) + rng.normal(0, 30, 3)  # no classifier gets all of them right
            for name in names:
                picture(root / "frames" / f"{split}_splits" / clip / name, colour, rng)
            boxes[clip] = _boxes(names)
        (root / "MELD.Raw" / f"{split}_sent_emo.csv").write_text("\n".join(lines) + "\n")
        (root / f"{split}_human_boxes.json").write_text(json.dumps(boxes))
    return root


def table_file(root: Path, *, labels: str = "several") -> Path:
    """A table of 90 images: several labels, or one, and two values; some rows have a box."""
    rng = np.random.default_rng(1)
    header = "label_red,label_dark" if labels == "several" else "label"
    lines = [f"path,split,x1,y1,x2,y2,{header},valence,arousal"]
    for number in range(90):
        red, dark = rng.random(2)
        picture(root / f"p{number}.jpg", np.array([60 + 190 * red, 120, 230 - 190 * dark]), rng)
        box = "20,10,60,50" if number % 3 else ",,,"
        told = (
            f"{int(red > 0.5)},{int(dark > 0.7)}" if labels == "several" else ("dim", "red")[int(red > 0.5)]
        )
        split = ("train", "train", "train", "val", "test")[number % 5]
        lines.append(f"p{number}.jpg,{split},{box},{told},{red - dark:.4f},{dark:.4f}")
    file = root / "table.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def bold_tree(root: Path) -> Path:
    """30 and 24 clips of three frames; category i of the first three by colour, "pain" only in val."""
    rng = np.random.default_rng(2)
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train", 30), ("val", 24)):
        lines = []
        for number in range(count):
            kind = number % 3
            clip = f"{split}{number:03d}.mp4/0001.mp4"
            for n in (1, 2, 3):
                picture(root / "mmextract" / clip / f"image_{n:05d}.jpg", colour_of(kind), rng)
            joints = np.zeros((3, 56))
            joints[:, 0] = [7, 8, 9]
            joints[:, 2:8] = [20, 10, 0.9, 60, 50, 0.9]
            target = root / "joints" / clip.replace("0001.mp4", "0001.npy")
            target.parent.mkdir(parents=True, exist_ok=True)
            np.save(target, joints)
            scores = [float(kind == i) for i in range(len(CATEGORIES))]
            scores[CATEGORIES.index("pain")] = float(split == "val" and number == 0)
            affect = [5 + kind + rng.normal(0, 0.1), 3 - kind, 5 + rng.normal()]
            row = [clip, 0, 0, 2, *scores, *affect, "Male", "Adult", "White", 0.9]
            lines.append(",".join(map(str, row)))
        (root / "annotations" / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


def liris_tree(root: Path) -> Path:
    """Two films of 110 seconds to learn from; one of 130 and one of 40 to be measured on."""
    rng = np.random.default_rng(3)
    films = {"train": {"One": 110, "Two": 110}, "test": {"Long": 130, "Short": 40}}
    for split, lengths in films.items():
        for film, seconds in lengths.items():
            names = [f"{second + 1:08d}.jpg" for second in range(seconds)]
            lines = ["Time\tValence\tArousal"]
            for second, name in enumerate(names):
                mood = np.sin(second / 15 + len(film))
                picture(root / "frames" / f"{film}.mp4" / name, 128 + 90 * np.array([mood, -mood, 0]), rng)
                lines.append(f"{second}\t{mood + rng.normal(0, 0.2):.4f}\t{-mood / 2:.4f}")
            folder = root / "annotations" / f"{split}set" / "annotations"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{film}_Valence-Arousal.txt").write_text("\n".join(lines) + "\n")
            (root / "bboxes" / f"{film}.mp4").mkdir(parents=True)
            (root / "bboxes" / f"{film}.mp4" / "human_boxes.json").write_text(json.dumps(_boxes(names)))
    return root


def emotic_tree(root: Path) -> Path:
    """Three splits of 24 images, one person each, the first three categories by colour."""
    rng = np.random.default_rng(4)
    for split in ("train", "val", "test"):
        lines, categories, values = ["Folder,Filename,Image Size,BBox"], [], []
        for number in range(24):
            name, kind = f"{split}{number}.jpg", number % 3
            picture(root / "emotic" / "mscoco" / "images" / name, colour_of(kind), rng)
            box = '"[10, 10, 50, 55]"'
            lines.append(f'mscoco/images,{name},"[{SIZE[0]}, {SIZE[1]}]",{box}')
            categories.append([float(kind == i or i > 22) for i in range(26)])
            values.append([5 + kind, 5 - kind, 6 + rng.normal()])
        (root / "annotations_pre").mkdir(exist_ok=True)
        (root / "annotations_pre" / f"{split}.csv").write_text("\n".join(lines) + "\n")
        np.save(root / "annotations_pre" / f"{split}_cat_arr.npy", categories)
        np.save(root / "annotations_pre" / f"{split}_cont_arr.npy", values)
    return root
