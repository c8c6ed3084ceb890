"""Build the archive of labelled faces that training on rendered scenes reads, see `faces.load_faces`."""

import csv
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_train.language.labels import EKMAN, ekman_index
from emotion_train.scenes.faces import Split

SIDE = 48  # pixels of a face
LEAST_SIDE = 16  # pixels: smaller images show no expression
FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # 0 to 6 in fer2013.csv
_SPLITS: dict[str, Split] = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
_OTHER_COLUMNS = ("Usage", "Image name")  # of fer2013new.csv; the others are votes
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


@dataclass(frozen=True, slots=True)
class LabelledFace:
    """One row of the archive.

    Attributes:
        split: Its split.
        label: Name of its class.
        image: (48, 48) uint8 greyscale; None if the image is missing.
        votes: Number of votes in the order of the archive's vote names; empty without votes.
    """

    split: Split
    label: str
    image: NDArray[np.uint8] | None
    votes: tuple[int, ...] = ()


def read_fer2013(faces: Path, votes: Path) -> tuple[list[LabelledFace], list[str]]:
    """Read Kaggle's fer2013.csv and Microsoft's fer2013new.csv, whose rows belong together.

    Returns:
        The faces, and the names of the votes.

    Raises:
        EmotionError: A file is missing or has another format, or the files differ in their number of rows.
    """
    pictures, ballots = _rows(faces, ("emotion", "pixels", "Usage")), _rows(votes, _OTHER_COLUMNS)
    if len(pictures) != len(ballots):
        raise EmotionError(
            f"{faces} has {len(pictures)} rows and {votes} has {len(ballots)}: expected the same faces "
            "in the same order; use both files as they were published"
        )
    names = [name for name in ballots[0] if name not in _OTHER_COLUMNS] if ballots else []
    found = []
    line = 1
    try:
        for line, (picture, ballot) in enumerate(zip(pictures, ballots, strict=True), start=2):  # noqa: B007
            pixels = np.array(picture["pixels"].split(), np.uint8).reshape(SIDE, SIDE)
            label = FER2013_CLASSES[int(picture["emotion"])]
            counts = tuple(int(ballot[name]) for name in names)
            found.append(LabelledFace(_SPLITS[picture["Usage"]], label, pixels, counts))
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise EmotionError(
            f"line {line} of {faces} or {votes}: {error}; expected a class from 0 to 6, {SIDE * SIDE} grey "
            "levels, Training, PublicTest or PrivateTest, and whole numbers of votes"
        ) from error
    return found, names


def read_folder(folder: Path) -> list[LabelledFace]:
    """Read images from FOLDER/CLASS/ or FOLDER/train, val and test/CLASS/.

    Without folders for the splits, a hash of the pixels puts a tenth of the faces into `val` and a tenth into
    `test`, always the same ones, so that copies of an image are in one split. An image that is not square is
    continued by its borders, so that the face keeps its shape.

    Raises:
        EmotionError: The folder has no image of one of the seven classes, or an image is too small or cannot
            be read.
    """
    if not folder.is_dir():
        raise EmotionError(f"{folder}: no such folder; expected one with {', '.join(EKMAN)}")
    splits: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}
    given = {name: split for name, split in splits.items() if (folder / name).is_dir()}
    found: list[LabelledFace] = []
    for place, split in given.items() if given else ((".", None),):
        found += _of_classes(folder / place, split)
    if not found:
        raise EmotionError(
            f"{folder} has no images: expected folders {', '.join(EKMAN)}, or these in train, val and test"
        )
    return found


def write_archive(path: Path, faces: list[LabelledFace], vote_names: list[str]) -> dict[Split, int]:
    """Write the archive and return the number of faces of each split.

    Raises:
        EmotionError: A split has no face, or the file cannot be written.
    """
    classes = sorted({face.label for face in faces})
    arrays: dict[str, NDArray[np.generic]] = {"classes": np.array(classes)}
    if vote_names:
        arrays["vote_names"] = np.array(vote_names)
    counts: dict[Split, int] = {}
    for split in ("train", "val", "test"):
        rows = [face for face in faces if face.split == split]
        if not rows:
            raise EmotionError(
                f"no face is in the split {split}: expected some in train, val and test; give more "
                "images, or folders train, val and test with a folder for each emotion"
            )
        encoded = [_png(face.image) for face in rows]
        arrays[f"{split}_bytes"] = np.concatenate(encoded)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, encoded)])
        arrays[f"{split}_labels"] = np.array([classes.index(face.label) for face in rows], np.uint8)
        if vote_names:
            arrays[f"{split}_votes"] = np.array([face.votes for face in rows], np.uint8)
        counts[split] = len(rows)
    content = BytesIO()
    savez: Callable[..., None] = np.savez  # its stubs take any keyword for `allow_pickle`
    savez(content, **arrays)
    write_atomically(path, content.getvalue())
    return counts


def _of_classes(folder: Path, split: Split | None) -> Iterator[LabelledFace]:
    for place in sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ():
        try:
            ekman_index(place.name.lower())
        except EmotionError as error:
            raise EmotionError(
                f"folder {place}: {error}, or these in train, val and test; rename it, or move it elsewhere"
            ) from error
        for file in sorted(path for path in place.iterdir() if path.suffix.lower() in _IMAGES):
            content = np.frombuffer(file.read_bytes(), np.uint8)
            grey = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) if len(content) else None
            if grey is None:
                raise EmotionError(f"{file} is not an image that can be read: remove it or replace it")
            if min(grey.shape) < LEAST_SIDE:
                height, width = grey.shape
                raise EmotionError(
                    f"{file} has {width} x {height} pixels: expected a face of {LEAST_SIDE} or more; remove "
                    "it or replace it"
                )
            image = _square(np.asarray(grey, np.uint8))
            yield LabelledFace(split or _drawn_split(image), place.name.lower(), image)


def _square(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image of any size as one of the archive, (48, 48)."""
    height, width = grey.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    around = (top, side - height - top, left, side - width - left)
    whole = cv2.copyMakeBorder(grey, *around, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(whole, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _drawn_split(image: NDArray[np.uint8]) -> Split:
    tenth = hashlib.sha256(image.tobytes()).digest()[0] % 10
    return "val" if tenth == 0 else "test" if tenth == 1 else "train"


def _rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise EmotionError(f"{path} has no column {', '.join(missing)}: expected the published file")
            return list(reader)
    except (OSError, UnicodeDecodeError) as error:
        raise EmotionError(f"{path} cannot be read ({error}): expected a CSV file") from error


def _png(image: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if image is None:
        return np.zeros(0, np.uint8)
    return np.asarray(cv2.imencode(".png", image)[1].ravel(), np.uint8)
