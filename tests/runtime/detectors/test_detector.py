"""What a detector is opened from, and its options."""

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from annotated_images import astronaut
from numpy.typing import NDArray

from emotion_runtime import EmotionRuntime, open_source
from emotion_runtime.detectors import load_detector, open_detector
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Detections


@pytest.mark.parametrize("size", [0, 63, 5000, -480, True, 480.0, "480", "big"])
def test_sizes_out_of_range_are_refused(size: Any) -> None:
    with pytest.raises(
        EmotionError, match=r"detector size .*expected `auto` or a whole number from 64 to 4096"
    ):
        load_detector("face", size=size)


@pytest.mark.parametrize("score", [0, 1, -0.1, 1.5, 7, float("nan"), "high"])
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


def test_number_of_threads_out_of_range_is_refused() -> None:
    with pytest.raises(EmotionError, match="expected"):
        load_detector("face", threads=-1)


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
