"""What brings pictures in and shows them: OpenCV, PyAV, cameras, a display."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from emotion_runtime.doctor.findings import FAIL, OK, WARN, Finding
from emotion_runtime.doctor.installed import installed

_SEVERAL = "pip uninstall -y {} && pip install opencv-python"


def opencv(path: Sequence[str] | None = None) -> Iterator[Finding]:
    """OpenCV: installed once, with GStreamer (for CSI cameras) or not, with windows or not.

    path: folders of installed packages; None: those of this Python.
    """
    found = installed("opencv", path)
    if len(found) > 1:
        names = " ".join(found)
        text = f"{names.replace(' ', ' and ')} are installed and own the same module"
        yield Finding("opencv", WARN, text, _SEVERAL.format(names))
    import cv2  # noqa: PLC0415 - may be missing

    built = cv2.getBuildInformation()
    gstreamer = "with" if _says(built, "GStreamer", "YES") else "without"
    windows = "no windows" if _says(built, "GUI", "NONE") else "windows"
    text = f"OpenCV {cv2.__version__}, {gstreamer} GStreamer (which csi:// cameras need), {windows}"
    if gstreamer == "without" and Path("/etc/nv_tegra_release").is_file():
        fix = "sudo apt install python3-opencv, and a venv --system-site-packages without pip's OpenCV"
        yield Finding("opencv", WARN, text, fix)
    else:
        yield Finding("opencv", OK, text)


def _says(built: str, what: str, value: str) -> bool:
    """Whether a line of OpenCV's build information says so."""
    return re.search(rf"^\s*{what}:\s+{value}", built, re.MULTILINE) is not None


def pyav() -> Iterator[Finding]:
    """PyAV, which reads files and writes recordings."""
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
    """Cameras that Linux shows. None is no fault: files and streams need none."""
    if sys.platform != "linux":
        yield Finding("cameras", OK, "not listed on this system; try --camera 0")
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
        yield Finding("cameras", OK, "none found; files and `demo` work without")


def display() -> Iterator[Finding]:
    """Whether a window can be shown."""
    name = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    if name or sys.platform in ("win32", "darwin"):
        yield Finding("display", OK, name or "that of the desktop")
    else:
        yield Finding("display", OK, "none, so no window; --record, --jsonl work without")
