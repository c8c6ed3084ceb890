"""An ultralytics detector as an ONNX file that the runtime and TensorRT take.

ultralytics is AGPL-3.0, and so are its weights: the exported file stays under its terms. It is imported here,
when somebody asks for it, and by the tests; the runtime never imports it.
"""

import logging
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emotion_export.folder import atomic_path
from emotion_export.reference import run_graph
from emotion_export.samples import DEMO
from emotion_runtime.detectors.yolo import STRIDES, Yolo
from emotion_runtime.errors import EmotionError
from emotion_runtime.sources import open_source

OPSET = 17  # of ultralytics' own exporter; TensorRT reads 17 to 20
_LARGEST = 1e-4  # difference of a score, or of a box as a part of the picture's side
_END_TO_END = 6  # columns: box, score, class
_GREY = 114
# What ultralytics raises for files that are no model of its own; these share no base class but Exception.
_NO_MODEL = (
    OSError,
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)


def export_detector(
    model: str, out: Path, *, imgsz: int = 640, report: Callable[[str], None] = lambda _: None
) -> None:
    """Write a detector as the ONNX file `out`, for pictures of imgsz x imgsz, one at a time.

    model: a .pt file, which ultralytics unpickles: give only files you trust. Or the name or file of a .yaml,
    which gives random weights. Non-maximum suppression stays outside, where the runtime does it: TensorRT
    refuses it inside. Models that need none (YOLO26, v10) are exported with their end-to-end head.

    Raises:
        EmotionError: ultralytics is missing, the model is none or finds something else than boxes, the file
            is not what the model computes, or `out` cannot be written.

    """
    if out.suffix != ".onnx":
        raise EmotionError(f"--out {out}: expected the name of an .onnx file, for example detector.onnx")
    if imgsz < STRIDES[-1] or imgsz % STRIDES[-1]:
        raise EmotionError(f"--imgsz {imgsz}: expected a positive multiple of {STRIDES[-1]}, for example 640")
    yolo = _load(model)
    report(f"exporting {model} for {imgsz} x {imgsz}: made with ultralytics, under AGPL-3.0")
    if Path(model).suffix != ".pt":
        report("its weights are random: it finds nothing, and serves to try things out")
    with atomic_path(out) as path:
        _write(yolo, path, imgsz)
        Yolo(path, threads=1)  # as a runtime will: what it would refuse is not put in place
        report(f"compared with torch: largest difference {_compare(yolo, path, imgsz):.1e}")


def _load(model: str) -> Any:
    """An `ultralytics.YOLO` for detection.

    Raises:
        EmotionError: there is none.

    """
    if Path(model).suffix not in (".pt", ".yaml", ".yml"):
        raise EmotionError(f"detector {model}: expected an ultralytics .pt or .yaml")
    if Path(model).suffix == ".pt" and not Path(model).is_file():
        raise EmotionError(f"detector {model}: no such file; download it first, nothing is fetched for you")
    try:
        from ultralytics.models import YOLO  # noqa: PLC0415 (AGPL-3.0, optional, seconds to import)
    except ModuleNotFoundError as error:
        raise EmotionError("ultralytics is not installed: pip install ultralytics (AGPL-3.0)") from error
    try:
        yolo = YOLO(model)
    except _NO_MODEL as error:
        reason = " ".join(str(error).split())[:200]
        raise EmotionError(
            f"detector {model}: ultralytics cannot load it ({reason}); download it again"
        ) from error
    if yolo.task != "detect":  # masks and key points have the shape of further classes
        raise EmotionError(f"detector {model}: made for the task {yolo.task!r}, expected 'detect'")
    return yolo


def _write(yolo: Any, path: Path, side: int) -> None:
    from ultralytics.utils import LOGGER  # noqa: PLC0415 (see _load)

    # ultralytics writes beside the file that a model came from.
    yolo.model.pt_path = str(path.with_suffix(".pt"))
    level = LOGGER.level
    LOGGER.setLevel(logging.WARNING)  # it would praise the temporary file that it writes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, on how ultralytics exports; the result is compared
            yolo.export(
                format="onnx",
                imgsz=side,
                dynamic=False,
                simplify=False,
                opset=OPSET,
                nms=False,
                verbose=False,
                device="cpu",
            )
    finally:
        LOGGER.setLevel(level)


def _compare(yolo: Any, path: Path, side: int) -> float:
    """Largest difference from torch on the demo's scene: of scores, and of boxes as a part of the side.

    Raises:
        EmotionError: it is not tolerated.

    """
    pixels = _picture(side)
    found = run_graph(path, "output0")({"images": pixels})
    net = yolo.model.float().eval()
    if found.shape[-1] == _END_TO_END and not net.end2end:  # models with both heads export this one
        net.end2end = True
    with torch.inference_mode():
        expected = np.asarray(net(torch.from_numpy(pixels))[0].numpy())
    if expected.shape != found.shape:
        raise EmotionError(f"{path.name} gives {found.shape}, the torch model {expected.shape}")
    difference = np.abs(expected - found)
    if expected.shape[-1] == _END_TO_END:
        # The best 300 in order: rows of nearly equal scores change places, the scores themselves do not.
        largest = float(difference[..., 4].max())
    else:
        difference[:, :4] /= side  # boxes are in pixels, scores in [0, 1]
        largest = float(difference.max())
    if not largest <= _LARGEST:  # what is no number is refused
        raise EmotionError(
            f"{path.name} differs from the torch model by {largest:.1e}, expected {_LARGEST:.0e} or less. "
            "Nothing was written: export with the versions of pyproject.toml"
        )
    return largest


def _picture(side: int) -> NDArray[np.float32]:
    """(1, 3, side, side) float32 RGB in [0, 1]: the upper left of the demo's first frame, on grey."""
    canvas = np.full((side, side, 3), _GREY, np.uint8)
    with open_source(DEMO) as source:
        image = next(iter(source)).image[:side, :side, ::-1]
    canvas[: image.shape[0], : image.shape[1]] = image
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
