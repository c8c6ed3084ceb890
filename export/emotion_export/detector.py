"""Export an ultralytics detector as an ONNX file for the runtime and for TensorRT.

ultralytics and its weights are licensed under AGPL-3.0, and so is the exported file. The package is imported
only here, when a detector is exported, and by the tests; the runtime never imports it.
"""

import logging
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emotion_export.folder import atomic_path
from emotion_export.samples import DEMO
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.detectors.yolo import Yolo
from emotion_runtime.detectors.yolo_export import STRIDES
from emotion_runtime.errors import EmotionError
from emotion_runtime.parity import only_output
from emotion_runtime.sources import open_source

_log = logging.getLogger(__name__)

OPSET = 17  # the one that ultralytics' own exporter uses; TensorRT reads 17 to 20
_LARGEST = 1e-4  # tolerated difference of a score, or of a box relative to the image side
_END_TO_END = 6  # number of columns of an end-to-end head: box, score, class
_GREY = 114
# Raised by ultralytics for files that are not its models; these share no base class but Exception.
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


def export_detector(model: str, out: Path, *, imgsz: int = 640) -> None:
    """Export a detector as the ONNX file `out`, for one image of imgsz x imgsz pixels at a time.

    Non-maximum suppression is not part of the graph: the runtime does it, and TensorRT refuses it. Models
    that need none (YOLO26, v10) are exported with their end-to-end head.

    Args:
        model: A .pt file, which ultralytics unpickles: pass only files that you trust. Or the name or path of
            a .yaml file, which gives random weights.
        out: The file to write.
        imgsz: Side of the input image, in pixels.

    Raises:
        EmotionError: ultralytics is not installed, the model cannot be loaded or is not a box detector, the
            graph differs from the model, or `out` cannot be written.
    """
    if out.suffix != ".onnx":
        raise EmotionError(f"--out {out}: expected the name of an .onnx file, for example detector.onnx")
    if imgsz < STRIDES[-1] or imgsz % STRIDES[-1]:
        raise EmotionError(f"--imgsz {imgsz}: expected a positive multiple of {STRIDES[-1]}, for example 640")
    yolo = _load(model)
    _log.info("exporting %s for %d x %d px with ultralytics (AGPL-3.0)", model, imgsz, imgsz)
    if Path(model).suffix != ".pt":
        _log.warning("%s has random weights: the detector finds nothing and is only good for trials", model)
    with atomic_path(out) as path:
        _write(yolo, path, imgsz)
        try:
            Yolo(path, threads=1)  # a detector that the runtime would refuse is never put in place
        except EmotionError as error:
            raise EmotionError(str(error).replace(str(path), model)) from error
        _log.info("largest difference from torch: %.1e", _compare(yolo, path, imgsz))


def _load(model: str) -> Any:
    """Load an `ultralytics.YOLO` for detection.

    Raises:
        EmotionError: The model cannot be loaded, or was trained for another task.
    """
    if Path(model).suffix not in (".pt", ".yaml", ".yml"):
        raise EmotionError(f"detector {model}: expected an ultralytics .pt or .yaml")
    if Path(model).suffix == ".pt" and not Path(model).is_file():
        raise EmotionError(
            f"detector {model}: no such file; download it first, weights are never downloaded automatically"
        )
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
    if yolo.task != "detect":  # the outputs for masks and key points look like more classes
        raise EmotionError(f"detector {model}: trained for the task {yolo.task!r}, expected 'detect'")
    return yolo


def _write(yolo: Any, path: Path, side: int) -> None:
    from ultralytics.utils import LOGGER  # noqa: PLC0415 (see _load)

    # ultralytics writes its export beside the file that the model was loaded from.
    yolo.model.pt_path = str(path.with_suffix(".pt"))
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)  # it announces the temporary file, and warns of what most models have
    try:
        with warnings.catch_warnings():
            # Warnings about how ultralytics uses the exporter; the result is compared below.
            warnings.simplefilter("ignore")
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
    """Return the largest difference from torch on the demo's first frame.

    Boxes are compared relative to the side of the image.

    Raises:
        EmotionError: The difference exceeds the tolerance.
    """
    pixels = _sample_image(side)
    found = only_output(OnnxBackend(path))({"images": pixels})
    net = yolo.model.float().eval()
    if (
        found.shape[-1] == _END_TO_END and not net.end2end
    ):  # a model with both heads is exported with this one
        net.end2end = True
    with torch.inference_mode():
        expected = np.asarray(net(torch.from_numpy(pixels))[0].numpy())
    if expected.shape != found.shape:
        raise EmotionError(
            f"{path.name} returns {found.shape}, expected {expected.shape} as from the torch model"
        )
    difference = np.abs(expected - found)
    if expected.shape[-1] == _END_TO_END:
        # The best 300 detections, sorted: rows with nearly equal scores may swap.
        largest = float(difference[..., 4].max())
    else:
        difference[:, :4] /= side  # boxes are in pixels, scores in [0, 1]
        largest = float(difference.max())
    if not largest <= _LARGEST:  # refuses NaN, too
        raise EmotionError(
            f"{path.name} differs from the torch model by {largest:.1e}, expected {_LARGEST:.0e} or less. "
            "Nothing was written: export with the package versions of pyproject.toml"
        )
    return largest


def _sample_image(side: int) -> NDArray[np.float32]:
    """Return (1, 3, side, side) float32 RGB in [0, 1]: the upper left of the demo's first frame, on grey."""
    canvas = np.full((side, side, 3), _GREY, np.uint8)
    with open_source(DEMO) as source:
        image = next(iter(source)).image[:side, :side, ::-1]
    canvas[: image.shape[0], : image.shape[1]] = image
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
