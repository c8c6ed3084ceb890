"""An ultralytics detector as an ONNX file that the runtime and TensorRT take.

ultralytics is AGPL-3.0, and so are its weights: the exported file stays under its terms. It is imported here,
when somebody asks for it, and by the tests; the runtime never imports it.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emotion_export.folder import file_in_place_of
from emotion_export.reference import run_graph
from emotion_export.samples import DEMO
from emotion_runtime.detectors.yolo import STRIDES, Yolo
from emotion_runtime.errors import EmotionError
from emotion_runtime.sources import open_source

OPSET = 17  # of ultralytics' own exporter; TensorRT reads 17 to 20
_LARGEST_PART = 1e-4  # of the largest magnitude of the output: boxes are in pixels, scores in [0, 1]
_GREY = 114


def export_detector(
    model: str, out: Path, *, imgsz: int = 640, report: Callable[[str], None] = lambda _: None
) -> None:
    """Write a detector as the ONNX file `out`, for pictures of imgsz x imgsz, one at a time.

    model: a .pt file, which ultralytics unpickles: give only files you trust. Or the name or file of a .yaml,
    which has random weights. Non-maximum suppression stays outside, where the runtime does it: TensorRT
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
    with file_in_place_of(out) as path:
        # ultralytics writes beside the file that a model came from.
        yolo.model.pt_path = str(path.with_suffix(".pt"))
        yolo.export(
            format="onnx",
            imgsz=imgsz,
            dynamic=False,
            simplify=False,
            opset=OPSET,
            nms=False,
            verbose=False,
            device="cpu",
        )
        Yolo(path, threads=1)  # as a runtime will: what it would refuse is not put in place
        report(f"compared with torch: largest difference {_compare(yolo, path, imgsz):.1e} of the output")


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
        from ultralytics import YOLO  # noqa: PLC0415 (AGPL-3.0, optional, seconds to import)
    except ModuleNotFoundError as error:
        raise EmotionError("ultralytics is not installed: pip install ultralytics (AGPL-3.0)") from error
    try:
        yolo = YOLO(model)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EmotionError(
            f"detector {model}: ultralytics cannot load it ({reason}); download it again"
        ) from error
    if yolo.task != "detect":  # masks and key points have the shape of further classes
        raise EmotionError(f"detector {model}: made for the task {yolo.task!r}, expected 'detect'")
    return yolo


def _compare(yolo: Any, path: Path, side: int) -> float:
    """Largest difference from torch, as a part of the largest magnitude of the output, on the demo's scene.

    Raises:
        EmotionError: it is not tolerated.

    """
    pixels = _picture(side)
    net = yolo.model.float().eval()
    with torch.inference_mode():
        output = net(torch.from_numpy(pixels))
    expected = np.asarray((output[0] if isinstance(output, (tuple, list)) else output).numpy())
    found = run_graph(path, "output0")({"images": pixels})
    if expected.shape == found.shape and expected.shape[-1] == 6:
        # The best 300 in order: rows of nearly equal scores change places, the scores themselves do not.
        expected, found = expected[..., 4], found[..., 4]
    same = expected.shape == found.shape
    part = float(np.abs(expected - found).max() / np.abs(expected).max()) if same else float("inf")
    if not part <= _LARGEST_PART:  # what is no number is refused
        raise EmotionError(
            f"{path.name} differs from the torch model by {part:.1e} of the largest output, expected "
            f"{_LARGEST_PART:.0e} or less. Nothing was written: export with the versions of pyproject.toml"
        )
    return part


def _picture(side: int) -> NDArray[np.float32]:
    """(1, 3, side, side) float32 RGB in [0, 1]: the upper left of the demo's first frame, on grey."""
    canvas = np.full((side, side, 3), _GREY, np.uint8)
    with open_source(DEMO) as source:
        image = next(iter(source)).image[:side, :side, ::-1]
    canvas[: image.shape[0], : image.shape[1]] = image
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
