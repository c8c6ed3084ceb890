"""A face that shows the same photograph as a known one is found, and no other one."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from emotion_bench.copies import SAME, likeness


def photographs(count: int, seed: int) -> NDArray[np.uint8]:
    """Return smooth images of 60 pixels, from which crops of 48 are cut."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8), np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize((60, 60))) for each in coarse])


KNOWN = photographs(20, seed=0)


@pytest.mark.parametrize("kind", ["identical", "moved", "mirrored", "darker", "compressed"])
def test_copies_are_found(kind: str):
    across = 8 if kind == "moved" else 6
    copy = KNOWN[:, 6:54, across : across + 48]
    if kind == "mirrored":
        copy = copy[:, :, ::-1]
    if kind == "darker":
        copy = (copy * 0.6).astype(np.uint8)
    if kind == "compressed":
        jpegs = [cv2.imencode(".jpg", each, [cv2.IMWRITE_JPEG_QUALITY, 40])[1] for each in copy]
        copy = np.stack([cv2.imdecode(each, cv2.IMREAD_GRAYSCALE) for each in jpegs])
    assert likeness(copy, KNOWN[:, 6:54, 6:54]).min() > SAME


def test_other_photographs_are_no_copies():
    other = photographs(300, seed=1)[:, 6:54, 6:54]
    assert likeness(other, KNOWN[:, 6:54, 6:54]).max() < SAME


def test_the_likeness_is_the_correlation_of_pixels():
    one, other = photographs(1, seed=2)[:, :48, :48], photographs(1, seed=3)[:, :48, :48]
    moved = [np.pad(one[0], 2, "edge")[y : y + 48, x : x + 48] for y in (0, 2, 4) for x in (0, 2, 4)]
    expected = max(np.corrcoef(a.ravel(), other.ravel())[0, 1] for m in moved for a in (m, m[:, ::-1]))
    assert likeness(one, other)[0] == pytest.approx(expected, abs=1e-5)
