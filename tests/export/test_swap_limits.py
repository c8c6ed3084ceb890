"""The limits from which on an embedding is of another person, measured on export."""

import numpy as np
import pytest

from emotion_export.swap_limits import limits_of, measure_swap_limits
from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError


def turning(start: float, step: float, count: int = 20) -> np.ndarray:
    """Return embeddings (N, 2) that turn by `step` degrees from one to the next."""
    angles = np.radians(start + step * np.arange(count))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_the_limits_lie_between_the_cosines_within_a_person_and_between_people():
    limits = limits_of([turning(0, 1), turning(60, 2)])
    assert limits.always == pytest.approx(np.cos(np.radians(2)) - 0.01, abs=1e-3)
    assert limits.suspicious >= limits.always


def test_similar_people_are_told_apart_only_on_suspicion():
    still, nodding = turning(0, 0), turning(10, 12, 12)  # nods by 12 degrees, and is 10 away from the other
    limits = limits_of([still, nodding])
    assert limits.always == pytest.approx(np.cos(np.radians(12)) - 0.01, abs=1e-3)
    changes = np.cos(np.radians([10 + 12 * i for i in range(4, 12)]))
    assert (changes < limits.suspicious).mean() >= 0.8


def test_one_person_is_not_enough():
    bundle = load_bundle("nano")
    with pytest.raises(EmotionError, match=r"--swap-videos : 0 people .* at least two"):
        measure_swap_limits(bundle.manifest, bundle.folder, [])


@pytest.mark.slow
def test_the_demo_has_two_people_who_are_told_apart():
    bundle = load_bundle("nano")
    limits = measure_swap_limits(bundle.manifest, bundle.folder, ["demo"])
    assert -1 < limits.always <= limits.suspicious < 1
