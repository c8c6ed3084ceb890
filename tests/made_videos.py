"""Small videos, made with FFmpeg's own program, which makes what PyAV cannot: cuts, mirrors, odd pixels."""

import subprocess
from pathlib import Path

import imageio_ffmpeg

SIZE, RATE = (160, 90), 25


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
