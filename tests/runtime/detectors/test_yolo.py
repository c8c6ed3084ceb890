"""Detectors of YOLO from files, against the decoding of ultralytics and people marked by hand."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from annotated_images import ASTRONAUT, PEDESTRIANS, astronaut, frames, iou
from ultralytics import YOLO

from emotion_runtime.detectors import Detector, load_detector
from emotion_runtime.detectors.constant_weights import make_weights_constant, with_constant_weights
from emotion_runtime.detectors.yolo import Yolo


def weights_as_inputs(path: Path) -> onnx.ModelProto:
    """Return a model whose graph inputs also list the weights, as older exporters of PyTorch write it."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    return model


def test_weights_listed_as_inputs_become_constants(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "weights" / "yolox_nano_416_coco.onnx"
    listed = tmp_path / "listed.onnx"
    model = weights_as_inputs(source)
    onnx.save(model, listed)
    assert make_weights_constant(model)
    assert [value.name for value in model.graph.input] == [v.name for v in onnx.load(source).graph.input]
    assert not make_weights_constant(model)
    assert with_constant_weights(source) == source  # unchanged: the file is not read twice
    assert isinstance(with_constant_weights(listed), bytes)
    image = next(frames(shared_data / "videos" / "vtest.avi", 0))
    expected, found = (load_detector(str(path), threads=1)(image) for path in (source, listed))
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_weights_of_old_files_stay_inputs(shared_data: Path) -> None:
    """Before IR version 4 a file is only valid if its inputs include its weights."""
    model = weights_as_inputs(shared_data / "weights" / "yolox_nano_416_coco.onnx")
    model.ir_version = 3
    inputs = len(model.graph.input)
    assert not make_weights_constant(model)
    assert len(model.graph.input) == inputs


@pytest.fixture(scope="module")
def yolox(shared_data: Path) -> Detector:
    return load_detector(str(shared_data / "weights" / "yolox_nano_416_coco.onnx"), threads=1)


def test_yolox_finds_the_astronaut(yolox: Detector) -> None:
    found = yolox(astronaut())
    assert len(found.boxes) == 1
    assert iou(found.boxes[0], ASTRONAUT) >= 0.8


def test_yolox_finds_the_pedestrians(yolox: Detector, shared_data: Path) -> None:
    (image,) = frames(shared_data / "videos" / "vtest.avi", 0)
    found = yolox(image)
    for person in PEDESTRIANS:
        assert max(iou(box, person) for box in found.boxes) >= 0.75
    assert (np.diff(found.scores) <= 0).all()


def test_yolox_gives_mirrored_boxes_for_a_mirrored_image(yolox: Detector, shared_data: Path) -> None:
    (image,) = frames(shared_data / "videos" / "vtest.avi", 0)
    width = image.shape[1]
    plain = yolox(image)
    mirrored = yolox(np.ascontiguousarray(image[:, ::-1]))
    back = mirrored.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
    for box, score in zip(plain.boxes, plain.scores, strict=True):
        if score > 0.6:
            assert max(iou(box, other) for other in back) >= 0.7


def test_yolox_takes_bgr(yolox: Detector) -> None:
    image = astronaut()
    assert yolox(image).scores[0] > yolox(image[:, :, ::-1].copy()).scores[0]


def export(folder: Path, name: str, *, dynamic: bool) -> Path:
    """Export a randomly initialised ultralytics model with spread-out scores, for images of 192 x 256."""
    torch.manual_seed(0)
    model = YOLO(f"{name}.yaml")
    net = model.model.train()
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    image = torch.from_numpy(cv2.resize(astronaut(), (256, 192))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        net(torch.cat([image, image.flip(-1), image.flip(-2), image / 2]))  # without this, activations vanish
        net.eval()
        for key, parameter in net.named_parameters():
            if "cv3" in key and key.endswith(".2.bias"):
                parameter[:] = -4
                parameter[0] = -1
    written = model.export(
        format="onnx", imgsz=(192, 256), dynamic=dynamic, simplify=False, opset=17, nms=False, verbose=False
    )
    return Path(written).rename(folder / f"{name}-{dynamic}.onnx")


@pytest.mark.parametrize(
    ("name", "dynamic", "outputs"),
    [
        ("yolo11n", False, (1, 84, 1008)),
        ("yolov8n", True, None),
        ("yolo26n", False, (1, 300, 6)),
        ("yolov10n", False, (1, 300, 6)),
    ],
)
def test_decoding_matches_ultralytics_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, dynamic: bool, outputs: tuple[int, ...] | None
) -> None:
    monkeypatch.chdir(tmp_path)  # ultralytics writes into the working directory
    path = export(tmp_path, name, dynamic=dynamic)
    declared = onnx.load(path).graph.output[0].type.tensor_type.shape.dim
    assert outputs is None or tuple(size.dim_value for size in declared) == outputs
    detector = Yolo(path, threads=1, score=0.2, iou=0.5)
    compared = 0
    for image in (astronaut()[:301], astronaut()[:, :201], astronaut()[100:150, 200:240]):
        (result,) = YOLO(path, task="detect").predict(
            image, conf=0.2, iou=0.5, classes=[0], imgsz=(192, 256), verbose=False, device="cpu", max_det=300
        )
        boxes, scores = result.boxes.xyxy.numpy(), result.boxes.conf.numpy()
        seen = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)  # random heads also give empty boxes
        found = detector(image)
        assert len(found.boxes) == seen.sum()
        np.testing.assert_allclose(found.scores, scores[seen], atol=1e-4)
        np.testing.assert_allclose(found.boxes, boxes[seen], atol=0.5)
        compared += len(found.boxes)
    assert compared >= 20


def test_dynamic_file_accepts_any_size_rounded_to_the_stride(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = export(tmp_path, "yolov8n", dynamic=True)
    detector = Yolo(path, threads=1, score=0.2, size=300)
    (result,) = YOLO(path, task="detect").predict(
        astronaut(), conf=0.2, iou=0.5, classes=[0], imgsz=320, verbose=False, device="cpu", max_det=300
    )
    np.testing.assert_allclose(detector(astronaut()).scores, result.boxes.conf.numpy(), atol=1e-4)
