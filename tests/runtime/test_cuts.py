"""Scene cuts are found, and continuous videos have none at any frame rate."""

from pathlib import Path

import numpy as np
import pytest

from emotion_runtime.cuts import CutDetector
from emotion_runtime.sources import open_source

CLIPS = (
    "intel_face-demographics-walking-and-pause.gif",
    "intel_head-pose-face-detection-female-and-male.gif",
)


def room(seed: int) -> np.ndarray:
    patches = np.random.default_rng(seed).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    patches[..., seed % 3] //= 4  # every room has its own colours
    return np.kron(patches, np.ones((20, 20, 1), np.uint8))


@pytest.mark.parametrize("elapsed", [1 / 60, 1 / 25, 0.2])
def test_another_room_is_a_cut(elapsed: float):
    detector = CutDetector()
    assert not detector.cut(room(0), 0)
    assert detector.cut(room(1), elapsed)
    assert not detector.cut(room(1), elapsed)


def test_a_change_of_light_is_no_cut():
    detector = CutDetector()
    detector.cut(room(0), 0)
    assert not detector.cut((room(0) * 0.4).astype(np.uint8), 0.04)
    assert not detector.cut(room(0), 0.04)


def test_black_frames_are_passed_over():
    detector, black = CutDetector(), np.zeros((180, 320, 3), np.uint8)
    assert [detector.cut(image, 0.04) for image in (room(0), black, room(0), black, room(1))] == [
        False
    ] * 4 + [True]


@pytest.mark.parametrize("rate", [25, 10, 5, 1])
def test_continuous_videos_have_no_cut(shared_data: Path, rate: float):
    for source in ("demo", *(str(shared_data / "videos" / clip) for clip in CLIPS)):
        detector, last = CutDetector(), -np.inf
        with open_source(source) as frames:
            for frame in frames:
                if frame.t - last >= 0.97 / rate:
                    assert not detector.cut(frame.image, min(frame.t - last, 1.0)), (source, frame.t)
                    last = frame.t
