"""A backend that returns NaN ends the run with one line; it would stay in the state of a person."""

import math

import numpy as np
import pytest

from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.encoder import Batch, FrameEncoder, TemporalEncoder
from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec


class Faulty:
    description = "a GPU with faulty memory"

    def __init__(self, value: float) -> None:
        self._value = value

    def run(self, feeds: Feeds) -> Outputs:
        persons = len(feeds["frame_index" if "frame_index" in feeds else "embeddings"])
        rows = np.zeros((persons, 4), np.float32)
        rows[-1, 2] = self._value
        return {"embeddings": rows, "features": rows}

    def close(self) -> None:
        """Do nothing."""


SPEC = PreprocessSpec(size=16, patch=16)
BATCH = Batch(np.zeros((1, 16, 16, 3), np.uint8), np.zeros(2, np.int64), np.ones((2, 1), np.float32))
CLIPS = [np.zeros((8, 4), np.float32)] * 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(value: float):
    with pytest.raises(
        EmotionError, match="a GPU with faulty memory returned embeddings with NaN or infinity"
    ):
        FrameEncoder(Faulty(value), SPEC).embed(BATCH)
    with pytest.raises(
        EmotionError, match=r"returned features with NaN or infinity, .* --backend cpu"
    ) as error:
        TemporalEncoder(Faulty(value)).features(CLIPS)
    assert "\n" not in str(error.value)


def test_finite_values_pass():
    assert FrameEncoder(Faulty(1.0), SPEC).embed(BATCH).shape == (2, 4)
    assert TemporalEncoder(Faulty(1.0)).features(CLIPS).shape == (2, 4)
