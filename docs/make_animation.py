"""Write the moving image of the README: real output on the demo, then on a clip of three people.

python docs/make_animation.py intel_face-demographics-walking-and-pause.gif

The clip is by Intel (sample-videos, CC BY 4.0). It is enlarged before it is given to the runtime, so that the
labels are drawn at a readable size; nothing else is changed.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emotion_runtime import EmotionRuntime
from emotion_runtime.sinks.draw import Annotator
from emotion_runtime.sources import open_source
from emotion_runtime.types import Frame

OUT = Path(__file__).with_name("output.webp")
SIZE = (640, 360)  # width, height, pixels: that of the demo
STEP = 1 / 12  # seconds between two frames of the animation
DEMO_SECONDS = (1.8, 3.8)  # both people are known by then
HOLD = 1.5  # seconds for which the last frame stays


def main() -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", help="video of people, 16:9")
    clip = parser.parse_args().clip
    images = [*rendered("demo", *DEMO_SECONDS), *rendered(clip, 0.2, 60)]
    pictures = [Image.fromarray(np.ascontiguousarray(image[:, :, ::-1])) for image in images]
    durations = [round(1000 * STEP)] * (len(pictures) - 1) + [round(1000 * HOLD)]
    pictures[0].save(
        OUT, save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=70, method=6
    )
    sys.stdout.write(f"{OUT}: {len(pictures)} frames, {OUT.stat().st_size / 1e6:.2f} MB\n")
    return 0


def rendered(uri: str, start: float, end: float) -> Iterator[NDArray[np.uint8]]:
    """Yield annotated images (360, 640, 3) uint8 BGR between two times, `STEP` apart."""
    shown, annotate = start, Annotator()
    with EmotionRuntime() as runtime, open_source(uri) as source:
        for frame, event in runtime.follow([map(enlarged, source)]):
            if shown <= frame.t + STEP / 10 <= end:
                yield annotate(frame.image, event)
                shown += STEP


def enlarged(frame: Frame) -> Frame:
    """Return the frame at `SIZE`."""
    image = np.asarray(cv2.resize(frame.image, SIZE, interpolation=cv2.INTER_CUBIC), np.uint8)
    return Frame(image, frame.index, frame.t, frame.source)


if __name__ == "__main__":
    sys.exit(main())
