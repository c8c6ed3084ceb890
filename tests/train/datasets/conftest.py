"""Images, a folder of frames and a video for tables to name."""

from pathlib import Path

import pytest
from own_tables import FRAMES, RATE
from trees import jpeg

from made_videos import greys, write_images


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two images, a folder of frames 5 to 24, and a video of 4 s whose frame n has grey level 6 n."""
    root = tmp_path_factory.mktemp("media")
    for name in ("a.jpg", "b.png"):
        jpeg(root / name, (100, 80))
    for n in range(5, 25):
        jpeg(root / "clip" / f"frame_{n:03d}.jpg", (100, 80))
    images = greys(range(0, 6 * FRAMES, 6), (96, 64))
    write_images(root / "film.mp4", images, RATE, codec="libx264", crf="1")
    (root / "notes.txt").write_text("no video")
    return root
