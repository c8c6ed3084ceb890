"""Small videos, of images, or made with FFmpeg's own program: cuts, mirrors, odd pixels."""

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

SIZE, RATE = (160, 90), 25


def greys(levels: Iterable[int], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yield images of the size (width, height), each of one grey level."""
    for level in levels:
        yield np.full((size[1], size[0], 3), level, np.uint8)


def write_images(
    path: Path,
    images: Iterable[NDArray[np.uint8]],
    rate: int,
    *,
    codec: str = "mpeg4",
    pixels: str = "yuv420p",
    **options: str,
) -> Path:
    """Write RGB images (H, W, 3) uint8 as a video, with options of the codec, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        for index, image in enumerate(images):
            if index == 0:
                (stream.height, stream.width), stream.pix_fmt = image.shape[:2], pixels
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def ffmpeg(*arguments: object) -> None:
    """Run FFmpeg; the last argument is the file to write."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y"]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def moving(seconds: float = 4) -> tuple[str, ...]:
    """Return the input of a scene without symmetry, which moves."""
    return ("-f", "lavfi", "-i", f"testsrc2=s={SIZE[0]}x{SIZE[1]}:r={RATE}:d={seconds}")


def tone(seconds: float = 4) -> tuple[str, ...]:
    """Return the input of a sound."""
    return ("-f", "lavfi", "-i", f"sine=d={seconds}")


def clock(seconds: int) -> tuple[str, ...]:
    """Return the input of a scene whose grey level is 20 times the seconds of its time."""
    return (
        "-f", "lavfi", "-i",
        f"color=black:s=32x32:r={RATE}:d={seconds},format=gray,geq=lum='20*T'",
    )  # fmt: skip


H264 = (
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-crf",
    "12",
    "-bf",
    "2",
    "-g",
    "50",
    "-pix_fmt",
    "yuv420p",
)


def make_base(path: Path) -> Path:
    """Write 100 frames in 4 s with sound, a key frame every 2 s and B-frames."""
    ffmpeg(*moving(), *tone(), *H264, "-c:a", "aac", path)
    return path
