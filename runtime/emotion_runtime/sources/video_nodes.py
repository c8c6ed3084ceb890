"""Cameras as Linux shows them: /dev/videoN, their names, and why one cannot be used."""

import errno
import os
import re
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from emotion_runtime.errors import ConnectionLost

# From <linux/videodev2.h>. A request holds the size of the structure that it reads or writes.
_QUERY_CAPABILITIES, _CAPABILITIES = 0x80685600, struct.Struct("16s32s32s3I12x")
_REQUEST_BUFFERS, _BUFFERS = 0xC0145608, struct.Struct("4I4x")
_LIST_FORMATS, _FORMAT = 0xC0405602, struct.Struct("3I32s4s16x")
_CAPTURE, _CAPTURE_PLANES, _HAS_DEVICE_CAPABILITIES = 0x1, 0x1000, 0x80000000
_TYPE_CAPTURE, _TYPE_CAPTURE_PLANES, _MEMORY_MAPPED = 1, 9, 1

_JETSON_SENSOR = "vi-output"
_RASPBERRY_SENSOR = re.compile(r"unicam|rp1-cfe")
_PERMISSION = "run `sudo usermod -aG video $USER`, then log in again"


@dataclass(frozen=True, slots=True)
class CameraDescription:
    """A video device of Linux.

    Attributes:
        node: Its device file, such as /dev/video0.
        name: What its driver calls it; empty if unknown.
        uri: The URI to open it by; None: it delivers no images.
        stable: A path of the device that stays the same when it is connected again; None: it has none.
    """

    node: Path
    name: str
    uri: str | None
    stable: Path | None = None


def describe_cameras(
    devices: Path = Path("/dev"), classes: Path = Path("/sys/class/video4linux")
) -> list[CameraDescription]:
    """List the video devices of this machine, in the order of their numbers; empty on other systems."""
    links = {link.resolve(): link for link in sorted((devices / "v4l/by-id").glob("*"))}
    found = []
    for node in _nodes(devices):
        name = _name(node, classes)
        uri: str | None = f"v4l2://{node}"
        if (sensor := _sensor_uri(node, classes)) is not None:
            uri = sensor
        elif (capabilities := _capabilities(node)) is not None and not capabilities & (
            _CAPTURE | _CAPTURE_PLANES
        ):
            uri = None
        found.append(CameraDescription(node, name, uri, links.get(node.resolve())))
    return found


def problem_of(node: Path, classes: Path = Path("/sys/class/video4linux")) -> ConnectionLost | None:
    """Return why a device cannot deliver images; None if there is no reason to be found.

    Args:
        node: Its device file.
        classes: Where Linux lists the video devices with their names.
    """
    if not node.exists():
        present = ", ".join(map(str, _nodes(node.parent)))
        found = f"found {present}" if present else "no camera is connected"
        return ConnectionLost(f"{node} does not exist ({found}); connect the camera", "device")
    if not os.access(node, os.R_OK | os.W_OK):
        return ConnectionLost(f"no permission for {node}; {_PERMISSION}", "permission")
    if (uri := _sensor_uri(node, classes)) is not None:
        return ConnectionLost(
            f"{node} is the sensor of a CSI camera, whose data are no images yet; use --source {uri}",
            "format",
        )
    try:
        device = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return _refusal(node, error)
    try:
        return _problem_of_device(node, device)
    finally:
        os.close(device)


def pixel_formats(node: Path) -> list[str]:
    """Return the pixel formats of a device, such as YUYV, in its order; empty if they cannot be read."""
    from fcntl import ioctl  # noqa: PLC0415 - not on Windows

    formats: list[str] = []
    with suppress(OSError):
        device = os.open(node, os.O_RDWR | os.O_NONBLOCK)
        try:
            while True:  # the number after the last is an error
                answer = bytearray(_FORMAT.pack(len(formats), _TYPE_CAPTURE, 0, b"", b""))
                ioctl(device, _LIST_FORMATS, answer)
                formats.append(_FORMAT.unpack(answer)[4].decode("ascii", "replace").strip())
        finally:
            os.close(device)
    return formats


def _problem_of_device(node: Path, device: int) -> ConnectionLost | None:
    from fcntl import ioctl  # noqa: PLC0415 - Linux

    capabilities = _capabilities_of(device)
    if capabilities is None:
        return ConnectionLost(f"{node} is not a video device; give /dev/videoN", "format")
    if not capabilities & (_CAPTURE | _CAPTURE_PLANES):
        others = [str(one.node) for one in describe_cameras(node.parent) if one.uri and one.node != node]
        return ConnectionLost(
            f"{node} delivers no images (a camera may have a second device, for its metadata); "
            f"use {' or '.join(others) or 'another device'}",
            "format",
        )
    kind = _TYPE_CAPTURE if capabilities & _CAPTURE else _TYPE_CAPTURE_PLANES
    try:  # ask for no buffers: refused while another program streams, without effect otherwise
        ioctl(device, _REQUEST_BUFFERS, bytearray(_BUFFERS.pack(0, kind, _MEMORY_MAPPED, 0)))
    except OSError as error:
        return _refusal(node, error, device)
    return None


def _refusal(node: Path, error: OSError, device: int | None = None) -> ConnectionLost | None:
    """Return what an error of the system says about a device, open as `device`; None if it says nothing."""
    if error.errno == errno.EBUSY:
        user = _users(node, device)
        fix = "close it" if user else f"`sudo fuser -v {node}` shows which; close it"
        return ConnectionLost(f"{node} is in use by {user or 'another program'}; {fix}", "device")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConnectionLost(
            f"no permission for {node}; {_PERMISSION}; in a container, start it with --device {node}",
            "permission",
        )
    if error.errno in (errno.ENODEV, errno.ENXIO, errno.EIO, errno.ENOENT):
        return ConnectionLost(
            f"{node} does not respond ({error.strerror}); unplug the camera and connect it again", "device"
        )
    return None


def _users(node: Path, own: int | None) -> str | None:
    """Name the programs that have a device open, as far as this user may see them.

    Args:
        node: The device file.
        own: A file descriptor of this program that does not count. None: all count.
    """
    users = []
    for folder in Path("/proc").glob("[0-9]*"):
        this = int(folder.name) == os.getpid()
        try:
            opened = [file for file in (folder / "fd").iterdir() if not (this and file.name == str(own))]
            name = (folder / "comm").read_text().strip()
        except OSError:  # of another user, or ended
            continue
        if any(_target(file) == str(node) for file in opened):
            users.append("another source of this program" if this else f"{name} ({folder.name})")
    return " and ".join(users) or None


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - a name: not always that of a file
    except OSError:  # closed meanwhile
        return ""


def _nodes(devices: Path) -> list[Path]:
    nodes = [node for node in devices.glob("video*") if node.name[len("video") :].isdigit()]
    return sorted(nodes, key=lambda node: int(node.name[len("video") :]))


def _name(node: Path, classes: Path) -> str:
    try:
        return (classes / node.name / "name").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _sensor_uri(node: Path, classes: Path) -> str | None:
    """Return how to open the CSI camera whose raw sensor a node is; None if it is none."""
    name = _name(node, classes)
    if name.startswith(_JETSON_SENSOR):
        sensors = [one for one in _nodes(node.parent) if _name(one, classes).startswith(_JETSON_SENSOR)]
        return f"csi://{sensors.index(node) if node in sensors else 0}"
    return '"gst:libcamerasrc"' if _RASPBERRY_SENSOR.search(name) else None


def _capabilities(node: Path) -> int | None:
    try:
        device = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return _capabilities_of(device)
    finally:
        os.close(device)


def _capabilities_of(device: int) -> int | None:
    if sys.platform == "win32":
        return None
    from fcntl import ioctl  # noqa: PLC0415 - not on Windows

    answer = bytearray(_CAPABILITIES.size)
    try:
        ioctl(device, _QUERY_CAPABILITIES, answer)
    except OSError:
        return None
    _, _, _, _, every, of_node = _CAPABILITIES.unpack(answer)
    return int(of_node if every & _HAS_DEVICE_CAPABILITIES else every)
