"""Draw something of your own into the video.

python examples/own_overlay.py [SOURCE] [OUT.mp4] [FRAMES]
"""

import sys
from itertools import islice

import cv2
import numpy as np

from emotion_runtime import EmotionEvent, EmotionRuntime, VideoSink, draw

source = sys.argv[1] if len(sys.argv) > 1 else "demo"
path = sys.argv[2] if len(sys.argv) > 2 else "overlay.mp4"
frames = int(sys.argv[3]) if len(sys.argv) > 3 else None  # None: all frames


def render(image: np.ndarray, event: EmotionEvent) -> np.ndarray:
    """Return the image to record: the usual boxes and labels, and the mood of the room above them."""
    happy = [person.emotions.get("happiness", 0.0) for person in event.persons if person.state != "lost"]
    mood = sum(happy) / len(happy) if happy else 0.0
    canvas = draw(image, event)  # a copy: (height, width, 3) uint8, in the order blue, green, red
    width = canvas.shape[1]
    cv2.rectangle(canvas, (0, 0), (round(mood * width), 6), (48, 192, 250), -1)
    return canvas


sink = VideoSink(path, render)
# With `with_frames` the stream gives the frame as well: its image, its time, its number.
with EmotionRuntime().stream(source, with_frames=True) as stream:
    for frame, event in islice(stream, frames):
        sink.write(frame, event)
sink.close()  # without it the video has no end
print(f"wrote {path}")
