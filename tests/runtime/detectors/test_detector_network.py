"""Networks of detectors: what runs them, batches, and values that are not numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from emotion_runtime.backends.onnx import open_session
from emotion_runtime.detectors import batches, find_all, load_detector
from emotion_runtime.detectors.agreement import compare_detections, intersection_over_union
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.detectors.graph import INPUT
from emotion_runtime.detectors.network import CpuNetwork
from emotion_runtime.detectors.yolo import Yolo
from emotion_runtime.errors import EmotionError
from emotion_runtime.sources import open_source
from emotion_runtime.types import Detections


class Recording:
    """A network that runs several frames together, and records the shapes that it gets."""

    batches = True

    def __init__(self, inner: Any, spoil: float | None = None, which: int = 0) -> None:
        self._inner, self._spoil, self._which = inner, spoil, which
        self.shapes: list[tuple[int, ...]] = []

    def run(self, frames: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        self.shapes.append(frames.shape)
        outputs = [np.array(output) for output in self._inner.run(frames)]
        if self._spoil is not None:
            outputs[self._which][-1, ..., : 1 if self._which == 0 else None] = self._spoil
        return outputs

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(scope="module")
def scene() -> NDArray[np.uint8]:
    with open_source("demo") as source:
        return next(iter(source)).image


def small(threads: int = 1) -> CenterFace:
    return CenterFace(threads=threads, long_side=160)


def test_frames_of_one_size_go_through_a_network_together_and_come_back_in_order(scene: NDArray[np.uint8]):
    face = small()
    images = [scene, scene[:, :200], scene[:, ::-1], np.zeros_like(scene)]
    expected = [face(image) for image in images]
    assert not batches(face)
    face.network = network = Recording(face.network)
    assert batches(face)
    found = find_all(face, images)
    height, width = face.prepare(scene)[0].shape[:2]
    assert max(network.shapes) == (3, height, width, 3)
    assert len(network.shapes) == 2
    assert len(expected[0].boxes) == 2
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-3)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)


def test_graph_for_one_image_gets_one_at_a_time(shared_data: Path, scene: NDArray[np.uint8]):
    yolox = load_detector(str(shared_data / "weights" / "yolox_nano_416_coco.onnx"), threads=1)
    assert isinstance(yolox, Yolo)
    yolox.network = network = Recording(yolox.network)
    assert not batches(yolox)
    assert len(find_all(yolox, [scene, scene])) == 2
    assert network.shapes == [(1, 416, 416, 3)] * 2


def test_callable_of_the_user_gets_one_image_at_a_time():
    seen: list[NDArray[np.uint8]] = []

    def own(image: NDArray[np.uint8]) -> Detections:
        seen.append(image)
        return Detections.empty()

    images = [np.zeros((2, 2, 3), np.uint8), np.ones((3, 3, 3), np.uint8)]
    assert not batches(own)
    assert len(find_all(own, images)) == 2
    assert all(a is b for a, b in zip(seen, images, strict=True))


def test_scores_that_are_not_numbers_are_an_error_and_not_an_empty_room(scene: NDArray[np.uint8]):
    face = small()
    face.network = Recording(face.network, spoil=float("nan"))
    with pytest.raises(EmotionError, match=r"`face`.* not numbers, expected 0 to 1; .*--backend cpu"):
        face(scene)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("which", "what"), [(1, "boxes"), (2, "boxes"), (3, "landmarks")])
def test_places_that_are_not_numbers_are_an_error_and_not_an_empty_room(
    scene: NDArray[np.uint8], which: int, what: str, value: float
):
    face = small()
    face.network = Recording(face.network, value, which)
    with pytest.raises(EmotionError, match=rf"`face`.* returned {what} that are not numbers"):
        face(scene)


def test_boxes_of_a_file_that_are_not_numbers_are_an_error(shared_data: Path, scene: NDArray[np.uint8]):
    yolox = load_detector(str(shared_data / "weights" / "yolox_nano_416_coco.onnx"), threads=1)
    assert isinstance(yolox, Yolo)
    yolox.network = Recording(yolox.network, float("nan"))
    with pytest.raises(EmotionError, match=r"nano_416_coco.onnx.* returned boxes that are not numbers"):
        yolox(scene)


def test_normalisation_in_the_graph_equals_normalisation_of_pixels(shared_data: Path):
    """The converted graphs give the bits of the files they are made from."""
    rng = np.random.default_rng(0)
    path = shared_data / "weights" / "yolox_nano_416_coco.onnx"
    yolox = Yolo(path, threads=1)
    frame = rng.integers(0, 256, (1, 416, 416, 3), np.uint8)
    session = open_session(path, name="yolox", fix="", threads=1)
    planes = np.ascontiguousarray(frame.transpose(0, 3, 1, 2), np.float32)
    expected = session.run(None, {session.get_inputs()[0].name: planes})[0]
    np.testing.assert_array_equal(yolox.network.run(frame)[0], expected)


def test_graph_at_a_fixed_size_states_its_shapes(scene: NDArray[np.uint8]):
    face = small()
    pixels, placement = face.prepare(scene)
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(face.graph.at_size(placement.size)))
    dims = [dim.dim_value or dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", *placement.size, 3]
    (heatmap, *_) = model.graph.output
    assert [dim.dim_value for dim in heatmap.type.tensor_type.shape.dim][1:] == [
        1,
        placement.size[0] // 4,
        placement.size[1] // 4,
    ]
    with pytest.raises(EmotionError, match="cannot load it"):
        CpuNetwork(type(face.graph)("a detector", "none", b"no model", one_by_one=False), fix="")
    assert model.graph.input[0].name == INPUT
    assert pixels.dtype == np.uint8


def boxes(*rows: tuple[float, ...]) -> Detections:
    """Return detections of x1, y1, x2, y2, score."""
    values = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(values[:, :4], values[:, 4])


def test_overlap_of_boxes():
    a = np.array([(0, 0, 10, 10), (0, 0, 0, 0)], np.float32)
    b = np.array([(5, 0, 15, 10), (20, 20, 30, 30), (0, 0, 10, 10)], np.float32)
    np.testing.assert_allclose(intersection_over_union(a, b), [(1 / 3, 0, 1), (0, 0, 0)])


def test_agreement_counts_boxes_well_above_the_minimum_score():
    expected = [boxes((0, 0, 10, 10, 0.9), (50, 50, 60, 60, 0.31), (80, 80, 90, 90, 0.8)), boxes()]
    found = [boxes((0, 0, 10, 9, 0.8)), boxes((5, 5, 9, 9, 0.7), (1, 1, 3, 3, 0.32))]
    agreement = compare_detections(expected, found, score=0.3)
    assert (agreement.boxes, agreement.missing, agreement.extra) == (2, 1, 1)
    assert agreement.iou_min == agreement.iou_mean == pytest.approx(0.9)
    assert agreement.score_max == pytest.approx(0.1)
    nothing = compare_detections([boxes()], [boxes()], score=0.3)
    assert (nothing.boxes, nothing.missing, nothing.extra) == (0, 0, 0)
    assert np.isnan(nothing.iou_min)
