"""Which family an ONNX detector belongs to, and whether it finds persons."""

import ast
import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError

STRIDES = (8, 16, 32)
PERSON = 0
# "0" means that the classes have no names.
HEAD_NAMES = {"head", "heads", "face", "faces"}
PERSON_NAMES = {"person", "people", "pedestrian", "human", *HEAD_NAMES, "0"}

_ROUNDING = 1e-3  # of half precision, by which a score may leave [0, 1]
_LARGEST = 12  # YOLOX states sizes as logarithms; e ** 12 cells are wider than any image

_CORNER = 2  # pixels of the network; boxes of cells and of persons reach much farther

EXPORT_AGAIN = "export it again, or give `face`"

Layout = Literal["yolox", "ultralytics", "end2end"]

SUPPORTED = (
    "(1, N, 5 + classes) from YOLOX, (1, 4 + classes, N) from ultralytics, where N is the number of cells of "
    "strides 8, 16 and 32, or (1, K, 6) from an end-to-end export"
)


def layout_of(shape: tuple[int, ...], size: tuple[int, int], session: Any, path: Path) -> Layout:
    """Return the family that an output belongs to.

    Args:
        shape: Shape of the first output.
        size: (height, width) of the input in pixels.
        session: The ONNX Runtime session. A shape may fit two families, as (1, 84, 84) does for 80 classes
            and 64 x 64 pixels; only ultralytics writes the names of classes into the metadata.
        path: The file, for the error message.

    Raises:
        EmotionError: The layout is not supported.
    """
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)
    if len(shape) == 3 and shape[0] == 1:
        by_ultralytics = "names" in session.get_modelmeta().custom_metadata_map
        if shape[1] == cells and shape[2] > 5 and not by_ultralytics:
            return "yolox"
        if shape[2] == cells and shape[1] > 4:
            return "ultralytics"
        if shape[2] == 6:
            return "end2end"
    raise EmotionError(
        f"detector {path}: output of shape {tuple(shape)} is not supported; expected {SUPPORTED}"
    )


def check_scores(output: NDArray[np.float32], layout: Layout, path: Path) -> None:
    """Check that the scores are probabilities.

    An export for another task has the same layout with other values behind the scores: key points in pixels,
    coefficients of masks, angles. Taken for scores of other classes, they would hide every person. The
    metadata that states the task is often lost when a file is simplified or converted.

    Args:
        output: The output without its batch axis.
        layout: The family of the network.
        path: The file, for the error message.

    Raises:
        EmotionError: A score lies outside [0, 1], or YOLOX's sizes are not logarithms. NaN is accepted here,
            see `NetworkDetector.check_numbers`.
    """
    scores = scores_in(output, layout)
    if scores.size and (scores.min() < -_ROUNDING or scores.max() > 1 + _ROUNDING):
        raise _not_a_detector(path, f"its class scores range from {scores.min():.3g} to {scores.max():.3g}")
    if layout == "yolox" and output.size and output[:, 2:4].max() > _LARGEST:
        largest = f"{output[:, 2:4].max():.3g}"
        raise EmotionError(
            f"detector {path}: sizes of up to {largest} where YOLOX has logarithms; expected {SUPPORTED}; "
            f"{EXPORT_AGAIN}"
        )


def check_boxes(output: NDArray[np.float32], layout: Layout, path: Path) -> None:
    """Check that boxes are in pixels: as fractions of the image they are points, where nobody would be found.

    Single boxes may be so small, but not all: an ultralytics output has a box for each cell of the image, and
    an end-to-end one lists the best of them. YOLOX states sizes as logarithms, which tell nothing here.

    Args:
        output: The output without its batch axis. Zeros alone are accepted: they are rows that are not used.
        layout: The family of the network.
        path: The file, for the error message.

    Raises:
        EmotionError: All boxes lie within two pixels of the corner.
    """
    boxes = output[:4] if layout == "ultralytics" else output[:, :4]
    if layout != "yolox" and 0 < boxes.max(initial=0) <= _CORNER:
        raise EmotionError(
            f"detector {path}: its boxes reach up to {boxes.max():.3g}, as if in fractions of the image; "
            "expected pixels of its input: export it with boxes in pixels, or give `face`"
        )


def scores_in(output: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """Return the part of an output (without its batch axis) that holds scores, in any shape."""
    if layout == "ultralytics":
        return output[4:]
    return output[:, 4:] if layout == "yolox" else output[:, 4]


def check_trial(session: Any, output: NDArray[np.float32], layout: Layout, path: Path) -> None:
    """Check that a file is for detection, by its output for a black image; see the checks of its parts.

    Raises:
        EmotionError: It seems to be for another task, or its boxes are not in pixels.
    """
    check_scores(output, layout, path)
    check_boxes(output, layout, path)
    if layout != "ultralytics":
        return
    if any(len(other.shape or ()) == 4 for other in session.get_outputs()[1:]):
        raise _not_a_detector(path, "it has a second output, which looks like prototypes of masks")
    # The angle of an oriented box is the last column. It may lie in [0, 1].
    if len(output) > 5 and (output[-1] > 0.5).mean() > 0.5:
        raise _not_a_detector(path, "it finds its last class in most cells of a black image")


def _not_a_detector(path: Path, evidence: str) -> EmotionError:
    return EmotionError(
        f"detector {path}: {evidence}, expected a detector with scores from 0 to 1; the file seems to be for "
        "another task (pose, segmentation, oriented boxes): export a model of the task 'detect', "
        "or give `face`"
    )


def check_task(session: Any, path: Path) -> None:
    """Check the task that ultralytics writes into the file."""
    task = session.get_modelmeta().custom_metadata_map.get("task", "detect")
    if task != "detect":  # outputs with masks or key points look like outputs with more classes
        raise EmotionError(f"detector {path}: its task is {task!r}, expected 'detect'; {EXPORT_AGAIN}")


def check_classes(session: Any, path: Path) -> bool:
    """Check the class names that ultralytics writes into the file: class 0 must be a person.

    The only class of a file may have any name, such as that of a person in another language.

    Returns:
        Whether class 0 is a head or face; otherwise, or if the file has no names, it is a whole person.
    """
    stated = metadata_of(session, "names", path) or {}
    try:
        pairs = stated.items() if isinstance(stated, dict) else enumerate(stated)
        names = {int(index): str(name) for index, name in pairs}
    except (TypeError, ValueError):
        names = {-1: "?"}
    if names and PERSON not in names:
        raise EmotionError(
            f"detector {path}: class names {stated}, expected a dict of names by number; {EXPORT_AGAIN}"
        )
    if not names or names[PERSON].lower() in PERSON_NAMES:
        return bool(names) and names[PERSON].lower() in HEAD_NAMES
    if len(names) > 1:
        raise EmotionError(
            f"detector {path}: class 0 is {names[PERSON]!r}; expected a detector whose class 0 is a person"
        )
    logging.getLogger(__name__).warning(
        "detector %s: its only class is %r; everything that it finds is taken for a person",
        path,
        names[PERSON],
    )
    return False


def metadata_of(session: Any, key: str, path: Path) -> Any:
    """Return an entry of the file's metadata, None if there is none; ultralytics writes Python literals."""
    text = session.get_modelmeta().custom_metadata_map.get(key)
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError) as error:
        raise EmotionError(f"detector {path}: {key} {text!r} cannot be read; {EXPORT_AGAIN}") from error
