"""Write a folder in the layout of the training data, made of the demo's two portraits and invented sentences.

    python train/examples/make_data.py runs/sample-data

It lets you walk through every training command on any machine. A model learns nothing from it: there are two
faces, and their labels are assigned in turn. The folder holds

    data/fer2013_plus.npz        420 + 84 + 84 grey images of 48 x 48 pixels with votes, as of FER2013
    faces/SPLIT/EMOTION/*.png    the same images, as `emotion-train prepare-faces --folder` reads them
    data/goemotions_ekman/       sentences of seven emotions, in the layout of GoEmotions
    videos/demo.mp4              30 seconds of the demo, without sound
    captions/demo.vtt            what could be said in it
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.detectors import load_detector
from emotion_runtime.sources.demo import RATE, read_demo

SIDE = 48  # pixels of a face
FACES = {"train": 420, "val": 84, "test": 84}
LOOPS = 5  # of the six-second demo
SECONDS_PER_LINE = 3.4  # of captions; clips must be longer than 2 s

SUBJECTS = ("this", "the film", "the weather", "my day", "the news", "our trip")
PHRASES = {
    "anger": ("{} makes me so angry", "I am furious, {} is an outrage", "shut up, I hate {}"),
    "disgust": ("{} is disgusting", "{} makes me sick", "yuck, {} is revolting"),
    "fear": ("{} scares me", "I am terrified, {} is frightening", "I am so afraid of {}"),
    "joy": ("I love {} so much", "{} makes me happy", "thank you, {} is great"),
    "neutral": ("{} is on Tuesday", "{} starts at the office", "they wrote about {}"),
    "sadness": ("{} makes me so sad", "I am sorry, {} is a loss", "I cried because of {}"),
    "surprise": ("wow, {} is a surprise", "I had no idea about {}", "oh, {} is unexpected"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write")
    out: Path = parser.parse_args(argv).out
    for name in ("data/goemotions_ekman", "videos", "captions"):
        (out / name).mkdir(parents=True, exist_ok=True)
    write_faces(out / "data" / "fer2013_plus.npz", out / "faces")
    write_sentences(out / "data" / "goemotions_ekman")
    write_video(out / "videos" / "demo.mp4")
    write_captions(out / "captions" / "demo.vtt")
    sys.stdout.write(f"{out} holds sample data; a model learns nothing from it\n")
    return 0


def write_faces(path: Path, folder: Path) -> None:
    """Write varied images of the two faces, as PNG bytes one after the other with offsets, and as files."""
    rng = np.random.default_rng(0)
    scene = next(read_demo()).image
    boxes = load_detector("face")(scene).boxes  # (2, 4)
    grey = cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY)
    arrays: dict[str, NDArray[np.generic]] = {
        "classes": np.array(list(PHRASES)),
        "vote_names": np.array(["happiness" if name == "joy" else name for name in PHRASES]),
    }
    for split, count in FACES.items():
        encoded = [
            cv2.imencode(".png", varied(grey, boxes[i % len(boxes)], rng))[1].ravel() for i in range(count)
        ]
        arrays[f"{split}_bytes"] = np.concatenate(encoded)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, encoded)])
        labels = np.arange(count) % len(PHRASES)
        arrays[f"{split}_labels"] = labels
        for i, content in enumerate(encoded):
            place = folder / split / list(PHRASES)[labels[i]]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i:03}.png").write_bytes(content.tobytes())
        votes = 8 * np.eye(len(PHRASES), dtype=np.uint8)[labels]  # of ten people, two see something else
        arrays[f"{split}_votes"] = votes + 2 * np.roll(votes // 8, 1, axis=1)
    np.savez(path, **arrays)


def varied(
    grey: NDArray[np.generic], box: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.generic]:
    """Return a face, (48, 48) uint8, slightly turned, moved, scaled and lit at random."""
    x1, y1, x2, y2 = box.tolist()
    side = (x2 - x1) * rng.uniform(0.85, 1.15)
    center = ((x1 + x2) / 2 + rng.normal(0, 3), (y1 + y2) / 2 + rng.normal(0, 3))
    matrix = cv2.getRotationMatrix2D(center, rng.normal(0, 8), SIDE / side)
    matrix[:, 2] += SIDE / 2 - np.array(center)
    face = cv2.warpAffine(grey, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    return cv2.convertScaleAbs(face, alpha=rng.uniform(0.8, 1.2), beta=rng.uniform(-20, 20))


def write_sentences(folder: Path) -> None:
    """Write `labels.txt` and the three splits: sentence, index of the label, identifier."""
    (folder / "labels.txt").write_text("\n".join(PHRASES), encoding="utf-8")
    rows = [f"{text}\t{label}\tsample{i}\n" for i, (text, label) in enumerate(sentences())]
    for split in ("train", "dev", "test"):
        (folder / f"{split}.tsv").write_text("".join(rows), encoding="utf-8")


def sentences() -> Iterator[tuple[str, int]]:
    """Yield each sentence with the index of its emotion."""
    for label, templates in enumerate(PHRASES.values()):
        for template, subject in product(templates, SUBJECTS):
            yield template.format(subject), label


def write_video(path: Path) -> None:
    """Write the demo several times in a row, H.264 at 640 x 360."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        images = [frame.image for frame in read_demo()] * LOOPS
        for i, image in enumerate(images):
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            picture.pts, picture.time_base = i, Fraction(1, RATE)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def write_captions(path: Path) -> None:
    """Write one caption for each emotion, one after the other."""
    lines = ["WEBVTT", ""]
    for i, templates in enumerate(PHRASES.values()):
        start = 1 + i * (SECONDS_PER_LINE + 0.6)
        text = templates[0].format("this").capitalize()
        lines += [f"{clock(start)} --> {clock(start + SECONDS_PER_LINE)}", f"{text}.", ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def clock(seconds: float) -> str:
    """Return a time of day for WebVTT."""
    return f"00:00:{seconds:06.3f}"


if __name__ == "__main__":
    sys.exit(main())
