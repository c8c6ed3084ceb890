"""Check what reads and shows video: OpenCV, PyAV, cameras, the display."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from emotion_runtime.doctor.findings import FAIL, OK, WARN, Finding
from emotion_runtime.doctor.installed import installed

_SEVERAL = "pip uninstall -y {} && pip install opencv-python"


def opencv(path: Sequence[str] | None = None) -> Iterator[Finding]:
    """Check that OpenCV is installed exactly once, and report whether it has GStreamer and windows.

    Args:
        path: Folders of installed packages; None: those of this Python.
    """
    found = installed("opencv", path)
    if len(found) > 1:
        names = " ".join(found)
        text = f"{names.replace(' ', ' and ')} are installed, but share one module"
        yield Finding("opencv", WARN, text, _SEVERAL.format(names))
    import cv2  # noqa: PLC0415 - may be missing

    built = cv2.getBuildInformation()
    gstreamer = "with" if _has_line(built, "GStreamer", "YES") else "without"
    windows = "no windows" if _has_line(built, "GUI", "NONE") else "windows"
    text = f"OpenCV {cv2.__version__}, {gstreamer} GStreamer (needed for csi:// cameras), {windows}"
    if gstreamer == "without" and Path("/etc/nv_tegra_release").is_file():
        fix = "sudo apt install python3-opencv, and use a venv --system-site-packages without pip's OpenCV"
        yield Finding("opencv", WARN, text, fix)
    else:
        yield Finding("opencv", OK, text)


def _has_line(build_information: str, name: str, value: str) -> bool:
    """Return whether OpenCV's build information has a line with this name and value."""
    return re.search(rf"^\s*{name}:\s+{value}", build_information, re.MULTILINE) is not None


def pyav() -> Iterator[Finding]:
    """Check PyAV, which reads files and writes recordings."""
    import av  # noqa: PLC0415 - may be missing

    encoders = [name for name in ("libx264", "libopenh264", "mpeg4") if name in av.codecs_available]
    if encoders:
        yield Finding("pyav", OK, f"PyAV {av.__version__}, records with {encoders[0]}")
    else:
        yield Finding(
            "pyav",
            FAIL,
            f"PyAV {av.__version__} has no encoder for --record",
            "pip install --force-reinstall av",
        )


def cameras(devices: Path = Path("/dev")) -> Iterator[Finding]:
    """List cameras. Having no camera is not an error: files and streams work without one."""
    if sys.platform != "linux":
        yield Finding("cameras", OK, "cannot be listed on this system; try --camera 0")
        return
    nodes = sorted(devices.glob("video[0-9]*"), key=lambda node: (len(node.name), node.name))
    closed = [str(node) for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    if closed:
        text = f"no permission for {', '.join(closed)}"
        yield Finding("cameras", WARN, text, "sudo usermod -aG video $USER, then log in again")
    opened = [str(node) for node in nodes if str(node) not in closed]
    if opened:
        yield Finding("cameras", OK, ", ".join(opened))
    elif not closed:
        yield Finding("cameras", OK, "none found; files and `demo` work without one")


def display() -> Iterator[Finding]:
    """Check whether a window can be shown."""
    name = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    if name or sys.platform in ("win32", "darwin"):
        yield Finding("display", OK, name or "the desktop")
    else:
        yield Finding("display", OK, "none, so no window can be shown; --record and --jsonl work without one")
