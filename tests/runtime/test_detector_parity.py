"""The parity check of detectors accepts the graph itself, and refuses engines with other boxes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from engine_stand_ins import StandIn, sorted_rows
from numpy.typing import NDArray

from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.detector_parity import DetectorCheck, make_detector_check
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.detectors.graph import INPUT
from emotion_runtime.errors import EmotionError

SIZE = (192, 320)

Wrong = Callable[[NDArray[np.uint8], dict[str, NDArray[np.float32]]], dict[str, NDArray[np.float32]]]

# Made by a wrong engine from the right outputs of all frames of a batch; 538 is the size of faces.
WRONG: dict[str, Wrong] = {
    "first frame for all": lambda _, out: {n: np.repeat(v[:1], len(v), 0) for n, v in out.items()},
    "scores 5 % lower": lambda _, out: {n: v * (0.95 if n == "537" else 1) for n, v in out.items()},
    "sizes 10 % larger": lambda _, out: {n: v + (0.1 if n == "538" else 0) for n, v in out.items()},
    "zeros": lambda _, out: {n: np.zeros_like(v) for n, v in out.items()},
    "NaN": lambda _, out: {n: np.full_like(v, np.nan) for n, v in out.items()},
}


@pytest.fixture(scope="module")
def check() -> DetectorCheck:
    return make_detector_check(CenterFace(threads=1), SIZE, "face", Limits(2, 2))


def test_the_parity_check_accepts_the_graph_itself(check: DetectorCheck):
    graph = StandIn(check.detector.graph.at_size(SIZE), flavor="tensorrt")
    rows, failure = check.run(graph, "fp32")
    assert failure == ""
    assert [(row.frames, row.samples) for row in rows] == [(1, 12), (2, 24)]


@pytest.mark.parametrize("wrong", WRONG)
def test_the_parity_check_refuses_wrong_engines(check: DetectorCheck, wrong: str):
    class Engine(StandIn):
        def run(self, feeds: Feeds) -> Outputs:
            return WRONG[wrong](feeds[INPUT], dict(super().run(feeds)))

    _, failure = check.run(Engine(check.detector.graph.at_size(SIZE), flavor="tensorrt"), "fp16")
    assert failure.startswith("fp16")


def test_the_parity_check_refuses_outputs_of_another_shape(check: DetectorCheck):
    class Engine(StandIn):
        def run(self, feeds: Feeds) -> Outputs:
            return {name: values[..., 1:] for name, values in super().run(feeds).items()}

    with pytest.raises(
        EmotionError, match=r"output 537 has shape \(1, 1, 48, 79\), expected \(1, 1, 48, 80\)"
    ):
        check.run(Engine(check.detector.graph.at_size(SIZE), flavor="tensorrt"), "fp32")


def test_rows_that_rounding_exchanges_are_not_compared_by_their_place(tmp_path: Path):
    right, exchanged, wrong = (
        sorted_rows(tmp_path / "a.onnx"),
        sorted_rows(tmp_path / "b.onnx", exchanged=True),
        sorted_rows(tmp_path / "c.onnx", person=0.8),
    )
    check = make_detector_check(right, (64, 64), "a", Limits(1, 1))
    of_exchanged, of_wrong = (
        check.run(StandIn(each.graph.at_size((64, 64)), flavor="tensorrt"), "fp16")[1]
        for each in (exchanged, wrong)
    )
    assert of_exchanged == ""
    assert "scores differ by up to 0.100" in of_wrong
