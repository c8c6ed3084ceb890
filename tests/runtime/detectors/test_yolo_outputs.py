"""Which outputs of a network are boxes of people, and which are refused as those of another task."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError


@pytest.mark.parametrize("shape", [(1, 85, 252), (1, 252, 85), (1, 1000), (2, 84, 85), (1, 84, 4)])
def test_unsupported_output_shape_is_reported_with_the_supported_ones(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with pytest.raises(EmotionError, match="is not supported; expected") as caught:
        load_detector(fixed_model(tmp_path / "m.onnx", np.zeros(shape, np.float32)))
    assert str(shape) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 84, 85), (1, 84, 84), (1, 5, 84), (1, 300, 6)])
def test_supported_output_shapes_load_and_zeros_give_no_detections(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    detector = load_detector(fixed_model(tmp_path / "m.onnx", np.zeros(shape, np.float32)))
    assert len(detector(np.zeros((48, 64, 3), np.uint8)).boxes) == 0


def test_detector_of_another_class_is_rejected(tmp_path: Path) -> None:
    names = {0: "bicycle", 1: "person"}
    path = fixed_model(tmp_path / "m.onnx", np.zeros((1, 84, 84), np.float32), names=names)
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
    output = np.zeros((1, 4 + len(names), 84), np.float32)
    load_detector(fixed_model(tmp_path / "m.onnx", output, names=names))
    assert ("taken for a person" in caplog.text) == warned


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
    path: Path,
    output: NDArray[np.float32],
    *,
    names: Any = None,
    at_images: bool = False,
    masks: bool = False,
) -> str:
    """Write a model of 64 x 64 images that returns this output; with `at_images`, zeros for a black one."""
    helper = onnx.helper
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["largest"], keepdims=0),
        helper.make_node("Sign", ["largest"], ["lit"]),
        helper.make_node("Mul", ["fixed", "lit" if at_images else "one"], ["output"]),
        helper.make_node("AveragePool", ["images"], ["masks"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    outputs = [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, None)]
    if masks:
        outputs.append(helper.make_tensor_value_info("masks", onnx.TensorProto.FLOAT, (1, 3, 16, 16)))
    constants = {"fixed": output, "one": np.float32(1)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, (1, 3, 64, 64))],
        outputs,
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if names:
        helper.set_model_props(model, {"names": repr(names)})
    onnx.save(model, path)
    return str(path)


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
        load_detector(path)(np.full((64, 64, 3), 90, np.uint8))
    assert "\n" not in str(caught.value)
    assert "`face`" in str(caught.value)


def test_angles_and_masks_within_the_range_of_scores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EmotionError, match="oriented boxes"):
        load_detector(fixed_model(tmp_path / "obb.onnx", output_with_a_person(20, c19=0.785)))
    path = fixed_model(tmp_path / "segment.onnx", output_with_a_person(116, c84=0.3), masks=True)
    with pytest.raises(EmotionError, match="segmentation"):
        load_detector(path)


@pytest.mark.parametrize("classes", [1, 2, 3, 16, 79, 365])
def test_detectors_with_any_number_of_classes_find_the_person(tmp_path: Path, classes: int) -> None:
    path = fixed_model(tmp_path / "m.onnx", output_with_a_person(4 + classes))
    found = load_detector(path)(np.full((64, 64, 3), 90, np.uint8))
    np.testing.assert_allclose(found.boxes, [(22, 12, 42, 52)], atol=0.01)
    np.testing.assert_allclose(found.scores, [PERSON_SCORE], atol=1e-6)


def normalised(layout: str) -> NDArray[np.float32]:
    """Return an output with a person whose box is stated in fractions of the image."""
    if layout == "end to end":
        output = np.zeros((1, 300, 6), np.float32)
        output[0, 0] = 0.3, 0.2, 0.7, 1.0, 0.9, 0
        return output
    output = output_with_a_person(20)
    output[0, :4] = np.random.default_rng(0).random((4, CELLS))
    output[0, :4, 40] = 0.5, 0.5, 0.3, 0.9
    return output


@pytest.mark.parametrize("layout", ["ultralytics", "end to end"])
@pytest.mark.parametrize("at_images", [False, True])
def test_boxes_in_fractions_of_the_image_are_refused(tmp_path: Path, layout: str, *, at_images: bool) -> None:
    path = fixed_model(tmp_path / "m.onnx", normalised(layout), at_images=at_images)
    with pytest.raises(EmotionError, match="as if in fractions of the image; expected pixels") as caught:
        load_detector(path)(np.full((64, 64, 3), 90, np.uint8))
    assert "\n" not in str(caught.value)


def test_a_single_small_box_is_accepted(tmp_path: Path) -> None:
    output = np.zeros((1, 300, 6), np.float32)
    output[0, 0] = 30, 40, 31.5, 41.5, 0.9, 0
    output[0, 1] = 0, 0, 1, 1, 0.3, 0
    found = load_detector(fixed_model(tmp_path / "m.onnx", output))(np.full((64, 64, 3), 90, np.uint8))
    assert len(found.boxes) == 2
