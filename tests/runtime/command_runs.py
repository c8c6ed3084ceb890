"""Runs of the command line in a process of its own, and what they leave behind."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from made_videos import write_images

MAIN = "import sys; from emotion_runtime.cli import main; sys.exit(main())"
PROGRAM = [sys.executable, "-c", MAIN]

FRAMES, RATE = 30, 10


def write_video(path: Path, frames: int, rate: int = RATE) -> Path:
    """Write images of 128 x 96 that fade from black to red."""
    images = np.zeros((frames, 96, 128, 3), np.uint8)
    images[..., 0] = np.minimum(8 * np.arange(frames), 255)[:, None, None]
    return write_images(path, images, rate, codec="mjpeg", pixels="yuvj420p")


def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def events(path: Path) -> list[dict]:
    """Return the lines of frames; the first line of the file is about the run."""
    run, *frames = (json.loads(line) for line in path.read_text().splitlines())
    assert run["type"] == "run"
    assert all(line["type"] == "frame" for line in frames)
    return frames


def mistake(status: int, stderr: str, *, before: int = 0) -> str:
    """Return the message of a run that ended with a user's mistake, after some lines about its results."""
    lines = stderr.splitlines()
    assert status == 2, stderr
    assert len(lines) == before + 1, stderr
    assert lines[-1].startswith("emotion-runtime: error: ")
    return lines[-1]
