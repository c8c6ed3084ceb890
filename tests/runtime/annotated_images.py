"""Images with people, marked by hand, for tests of detectors."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Box = Sequence[float]

# Annotated by hand in scikit-image's image of an astronaut, 512 x 512.
ASTRONAUT_HEAD = (154, 16, 301, 178)
ASTRONAUT = (18, 16, 366, 512)
# The three pedestrians of the first frame of vtest.avi.
PEDESTRIANS = ((254, 220, 284, 307), (503, 157, 530, 232), (643, 240, 684, 323))


def astronaut() -> NDArray[np.uint8]:
    folder = find_spec("skimage").submodule_search_locations[0]
    return cv2.imread(f"{folder}/data/astronaut.png")


def iou(a: Box, b: Box) -> float:
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    both = max(across, 0) * max(down, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def frames(path: Path, *indices: int) -> Iterator[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in indices:
                yield frame.to_ndarray(format="bgr24")


# Eyes, nose and corners of the mouth, annotated by hand.
ASTRONAUT_LANDMARKS = ((203, 101), (249, 103), (226, 125), (205, 143), (244, 143))
