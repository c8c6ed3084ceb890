"""`--target` of emotion-export trt: the GPUs that the installed TensorRT for RTX can build for."""

import pytest

from emotion_export.targets import parse_targets, targets_of
from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt.api import TensorRT
from emotion_runtime.tensorrt.gpu import load_tensorrt


@pytest.fixture(scope="module")
def library() -> TensorRT:
    return load_tensorrt("tensorrt-rtx")


@pytest.mark.parametrize(
    ("text", "capability"),
    [("SM75", "7.5"), ("sm86", "8.6"), ("SM121", "12.1"), ("sm80, SM86,SM80", "8.0 8.6")],
)
def test_targets(library: TensorRT, text: str, capability: str):
    found = parse_targets(text, library)
    assert found == capability
    assert parse_targets(",".join(targets_of(found)), library) == found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Ampere", r"target 'Ampere' is not known: expected one of SM75, SM80, .*SM121 \(tensorrt-rtx "),
        ("8.6", r"target '8\.6' is not known"),
        ("SM", r"target 'SM' is not known"),
        ("SM130", r"target SM130 is newer than this builder: .*pip install --upgrade tensorrt-rtx"),
        ("SM90", r"target SM90 is not supported by tensorrt-rtx .*with --flavor tensorrt"),
    ],
)
def test_bad_targets_are_one_line(library: TensorRT, text: str, line: str):
    with pytest.raises(EmotionError, match=line) as error:
        parse_targets(text, library)
    assert "\n" not in str(error.value)
