"""ultralytics detectors as files for the runtime."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from ultralytics import YOLO

import emotion_export.detector
from emotion_runtime.detectors import load_detector
from emotion_runtime.sources.demo import read_demo

pytestmark = pytest.mark.slow

Main = Callable[[list[str]], int]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .pt file whose random scores spread, as a trained one's do."""
    torch.manual_seed(0)
    yolo = YOLO("yolo11n.yaml")
    net = yolo.model.train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    frame = np.ascontiguousarray(next(iter(read_demo())).image[:320, :320, ::-1])
    picture = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        net(torch.cat([picture, picture.flip(-1)]))  # else activations die out
        net.eval()
        for name, parameter in net.named_parameters():
            if "cv3" in name and name.endswith(".2.bias"):
                parameter[:] = -4
                parameter[0] = -1
    path = tmp_path_factory.mktemp("weights") / "people.pt"
    yolo.save(path)
    return path


def refusal(to_onnx: Main, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Return the last line on stderr; ultralytics logs before it."""
    assert to_onnx([str(argument) for argument in arguments]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("emotion-export onnx: error: ")
    return line


def test_the_runtime_finds_what_ultralytics_finds(
    weights: Path, tmp_path: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "people.onnx"
    assert to_onnx(["--detector", str(weights), "--imgsz", "320", "--out", str(out)]) == 0
    assert "AGPL-3.0" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["people.onnx"]
    assert [path.name for path in weights.parent.iterdir()] == ["people.pt"]  # nothing beside the weights
    frame = np.ascontiguousarray(next(iter(read_demo())).image[:320, :320])
    found = load_detector(str(out), threads=1, score=0.2)(frame)
    # `rect` off: a square picture, as the exported file takes it.
    (result,) = YOLO(weights).predict(
        frame, conf=0.2, iou=0.5, classes=[0], imgsz=320, verbose=False, device="cpu", max_det=3000
    )
    boxes, scores = result.boxes.xyxy.numpy(), result.boxes.conf.numpy()
    seen = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    assert len(found.boxes) == seen.sum() > 5
    np.testing.assert_allclose(found.scores, scores[seen], atol=1e-4)
    np.testing.assert_allclose(found.boxes, boxes[seen], atol=0.5)


def test_a_detector_of_something_else_is_named(
    weights: Path, tmp_path: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]
):
    yolo = YOLO(weights)
    yolo.model.names = yolo.model.names | {0: "anger"}
    emotions = tmp_path / "emotions.pt"
    yolo.save(emotions)
    line = refusal(to_onnx, capsys, "--detector", emotions, "--imgsz", "320", "--out", tmp_path / "out.onnx")
    assert f"detector {emotions}: class 0 is 'anger'" in line
    assert [path.name for path in tmp_path.iterdir()] == ["emotions.pt"]


@pytest.mark.parametrize(("name", "shape"), [("yolo11n", (1, 84, 84)), ("yolo26n", (1, 84, 6))])
def test_a_configuration_gives_random_weights_and_says_so(
    name: str, shape: tuple[int, ...], tmp_path: Path, to_onnx: Main, capsys: pytest.CaptureFixture[str]
):
    """64 x 64 pixels are 84 cells; YOLO26 keeps its end-to-end head: rows of box, score, class."""
    out = tmp_path / "new" / f"{name}.onnx"
    assert to_onnx(["--detector", f"{name}.yaml", "--imgsz", "64", "--out", str(out)]) == 0
    assert "has random weights" in capsys.readouterr().err
    model = onnx.load(out)
    (output,) = model.graph.output
    assert tuple(size.dim_value for size in output.type.tensor_type.shape.dim) == shape
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"NonMaxSuppression", "NonZero"}  # TensorRT refuses them
    assert 17 <= model.opset_import[0].version <= 20
    assert str(tmp_path).encode() not in out.read_bytes()
    load_detector(str(out), threads=1)


def test_a_file_that_is_not_the_model_is_refused(
    weights: Path,
    tmp_path: Path,
    to_onnx: Main,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    write = emotion_export.detector._write

    def write_with_fault(yolo: YOLO, path: Path, side: int) -> None:
        write(yolo, path, side)
        model = onnx.load(path)
        tensor = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.01), tensor.name))
        onnx.save(model, path)

    monkeypatch.setattr(emotion_export.detector, "_write", write_with_fault)
    out = tmp_path / "people.onnx"
    line = refusal(to_onnx, capsys, "--detector", weights, "--imgsz", "320", "--out", out)
    assert "people.onnx differs from the torch model" in line
    assert not list(tmp_path.iterdir())


def test_bad_arguments(
    tmp_path: Path, to_onnx: Main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out.onnx"
    junk, other = tmp_path / "junk.pt", tmp_path / "list.pt"
    junk.write_bytes(b"not a model")
    torch.save([1, 2], other)
    for model, words in (
        ("faces.tflite", "expected an ultralytics .pt or .yaml"),
        (tmp_path / "absent.pt", "no such file; download it first"),
        ("no-such-model.yaml", "cannot load it"),
        (junk, "cannot load it"),
        (other, "cannot load it"),
        ("yolo11n-seg.yaml", "trained for the task 'segment', expected 'detect'"),
    ):
        assert words in refusal(to_onnx, capsys, "--detector", model, "--out", out)
    for side in ("0", "-32", "100"):
        line = refusal(to_onnx, capsys, "--detector", "yolo11n.yaml", "--imgsz", side, "--out", out)
        assert "positive multiple of 32" in line
    assert ".onnx file" in refusal(to_onnx, capsys, "--detector", "yolo11n.yaml", "--out", tmp_path / "out")
    for name in [name for name in sys.modules if name.split(".")[0] == "ultralytics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ultralytics", None)  # as if it were not installed
    assert "pip install ultralytics" in refusal(to_onnx, capsys, "--detector", "yolo11n.yaml", "--out", out)
    assert {path.name for path in tmp_path.iterdir()} == {"junk.pt", "list.pt"}
