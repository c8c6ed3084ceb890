"""Check what reads and shows video: OpenCV, PyAV, cameras, the display."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from emotion_runtime.doctor.findings import FAIL, OK, WARN, Finding
from emotion_runtime.errors import ConnectionLost
from emotion_runtime.installed import installed
from emotion_runtime.jetson import RELEASE
from emotion_runtime.sources.pipeline_errors import BINDINGS
from emotion_runtime.sources.video_nodes import CameraDescription, describe_cameras

_SEVERAL = "pip uninstall -y {} && pip install opencv-python"


def opencv(path: Sequence[str] | None = None) -> Iterator[Finding]:
    """Check that OpenCV is installed exactly once, and report whether it can show windows.

    Args:
        path: Folders of installed packages; None: those of this Python.
    """
    found = installed("opencv", path)
    if len(found) > 1:
        names = " ".join(found)
        text = f"{names.replace(' ', ' and ')} are installed, but share one module"
        yield Finding("opencv", WARN, text, _SEVERAL.format(names))
    import cv2  # noqa: PLC0415 - may be missing

    windows = "no windows" if _has_line(cv2.getBuildInformation(), "GUI", "NONE") else "windows"
    yield Finding("opencv", OK, f"OpenCV {cv2.__version__}, {windows}")


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


def gstreamer(jetson: Path = RELEASE) -> Iterator[Finding]:
    """Check GStreamer, which csi:// and gst: sources need. Elsewhere than on a Jetson it may be missing.

    Args:
        jetson: A file that exists on a Jetson.
    """
    from emotion_runtime.sources.gstreamer import find_gstreamer  # noqa: PLC0415 - loads NumPy

    needs = jetson.is_file()
    try:
        version, has_sensor = find_gstreamer("nvarguscamerasrc")
    except ConnectionLost:
        text = "GStreamer's Python bindings are not installed, which csi:// and gst: sources need"
        fix = f"sudo apt install {BINDINGS}, and make the venv with --system-site-packages"
        yield Finding("gstreamer", WARN, text, fix) if needs else Finding("gstreamer", OK, text)
        return
    if needs and not has_sensor:
        text = f"{version} has no nvarguscamerasrc, which csi:// sources need"
        yield Finding("gstreamer", WARN, text, "sudo apt install nvidia-l4t-gstreamer")
    else:
        yield Finding("gstreamer", OK, version)


def cameras(
    devices: Path = Path("/dev"), classes: Path = Path("/sys/class/video4linux")
) -> Iterator[Finding]:
    """List cameras. Having no camera is not an error: files and streams work without one.

    Args:
        devices: Folder of the device files.
        classes: Folder where Linux lists the names of video devices.
    """
    if sys.platform != "linux":
        yield Finding("cameras", OK, "cannot be listed on this system; try --camera 0")
        return
    found = describe_cameras(devices, classes)
    closed = [str(one.node) for one in found if not os.access(one.node, os.R_OK | os.W_OK)]
    if closed:
        text = f"no permission for {', '.join(closed)}"
        yield Finding("cameras", WARN, text, "sudo usermod -aG video $USER, then log in again")
    opened = [_described(one) for one in found if one.uri and str(one.node) not in closed]
    if opened:
        yield Finding("cameras", OK, ", ".join(opened))
    elif not closed:
        yield Finding("cameras", OK, "none found; files and `demo` work without one")


def _described(camera: CameraDescription) -> str:
    named = f"{camera.node} ({camera.name})" if camera.name else str(camera.node)
    other = camera.uri != f"v4l2://{camera.node}"  # a sensor at a CSI port
    return f"{named}, which opens with --source {camera.uri}" if other else named


def display() -> Iterator[Finding]:
    """Check whether a window can be shown."""
    name = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    if name or sys.platform in ("win32", "darwin"):
        yield Finding("display", OK, name or "the desktop")
    else:
        yield Finding("display", OK, "none, so no window can be shown; --record and --jsonl work without one")
