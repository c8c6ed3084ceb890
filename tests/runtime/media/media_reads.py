"""Reading videos as sources do, and what is compared with it."""

import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from emotion_runtime.errors import SourceBroken
from emotion_runtime.sources import open_source
from emotion_runtime.types import Frame

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def read(path: Path | str) -> list[Frame]:
    with open_source(path) as source:
        return list(source)


def failure(path: Path) -> tuple[int, str]:
    """Return how many frames a file gives before it fails, and the message."""
    count = 0
    with pytest.raises(SourceBroken) as caught, open_source(path) as source:  # noqa: PT012 - counts
        for _ in source:
            count += 1
    assert "\n" not in str(caught.value)
    return count, str(caught.value)


def shown_by_ffmpeg(path: Path) -> int:
    """Return how many frames FFmpeg's own program shows."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "quiet", "-i", str(path), "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-f", "framemd5", "-"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sum(not line.startswith("#") for line in lines)


def difference(one: Pixels, other: Pixels) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())
