"""The number of frames that a source will give, for progress bars."""

import os
from pathlib import Path

import numpy as np
from command_runs import write_video
from PIL import Image

from emotion_runtime.sources.length import estimate_frames


def test_length_of_a_file_and_of_its_first_seconds(tmp_path: Path):
    path = str(write_video(tmp_path / "a.avi", 30))
    assert estimate_frames(path) == 30
    assert estimate_frames(path, 2.0) == 20
    assert estimate_frames(path, 60.0) == 30


def test_length_of_other_sources(tmp_path: Path):
    photo, pipe, text = tmp_path / "a.png", tmp_path / "pipe", tmp_path / "a.mp4"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(photo)
    os.mkfifo(pipe)
    text.write_text("no video")
    assert estimate_frames(str(photo)) == 1
    assert estimate_frames("demo") == 150
    assert estimate_frames("demo", 2.0) == 50
    for unknown in (str(pipe), str(text), "0", str(tmp_path)):
        assert estimate_frames(unknown) is None
