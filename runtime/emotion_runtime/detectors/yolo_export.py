"""Which family an ONNX detector belongs to, and whether it finds persons."""

import ast
from pathlib import Path
from typing import Any, Literal

from emotion_runtime.errors import EmotionError

STRIDES = (8, 16, 32)
PERSON = 0
# "0" means that the classes have no names.
PERSON_NAMES = {"person", "people", "pedestrian", "human", "head", "face", "0"}

EXPORT_AGAIN = "export it again, or give `face`"

Layout = Literal["yolox", "ultralytics", "end2end"]

SUPPORTED = (
    "(1, N, 5 + classes) from YOLOX, (1, 4 + classes, N) from ultralytics, where N is the number of cells of "
    "strides 8, 16 and 32, or (1, K, 6) from an end-to-end export"
)


def layout_of(shape: tuple[int, ...], size: tuple[int, int], path: Path) -> Layout:
    """Return the family that an output belongs to.

    Args:
        shape: Shape of the first output.
        size: (height, width) of the input in pixels.
        path: The file, for the error message.

    Raises:
        EmotionError: The layout is not supported.
    """
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)
    if len(shape) == 3 and shape[0] == 1:
        if shape[1] == cells and shape[2] > 5:
            return "yolox"
        if shape[2] == cells and shape[1] > 4:
            return "ultralytics"
        if shape[2] == 6:
            return "end2end"
    raise EmotionError(
        f"detector {path}: output of shape {tuple(shape)} is not supported; expected {SUPPORTED}"
    )


def check_classes(session: Any, path: Path) -> None:
    """Check the task and class names that ultralytics writes into the file: class 0 must be a person."""
    task = session.get_modelmeta().custom_metadata_map.get("task", "detect")
    if task != "detect":  # outputs with masks or key points look like outputs with more classes
        raise EmotionError(f"detector {path}: its task is {task!r}, expected 'detect'; {EXPORT_AGAIN}")
    names = metadata_of(session, "names", path) or {}
    if not isinstance(names, dict) or (names and PERSON not in names):
        raise EmotionError(
            f"detector {path}: class names {names}, expected a dict of names by number; {EXPORT_AGAIN}"
        )
    if len(names) > 1 and str(names[PERSON]).lower() not in PERSON_NAMES:
        raise EmotionError(
            f"detector {path}: class 0 is {names[PERSON]!r}; expected a detector whose class 0 is a person"
        )


def metadata_of(session: Any, key: str, path: Path) -> Any:
    """Return an entry of the file's metadata, None if there is none; ultralytics writes Python literals."""
    text = session.get_modelmeta().custom_metadata_map.get(key)
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError) as error:
        raise EmotionError(f"detector {path}: {key} {text!r} cannot be read; {EXPORT_AGAIN}") from error
