"""What Linux tells about video devices, in folders that stand in for /dev and /sys."""

import errno
import fcntl
import os
import sys
from pathlib import Path

import pytest

from emotion_runtime.sources import video_nodes
from emotion_runtime.sources.video_nodes import describe_cameras, problem_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="devices of Linux")

CAPTURE, METADATA = 0x1, 0x00800000


class Machine:
    """Video devices that are plain files, with what their drivers would answer."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.devices, self.classes = folder / "dev", folder / "class"
        self.devices.mkdir()
        self.refuses: int | None = None
        self._capabilities: dict[str, int] = {}
        monkeypatch.setattr(fcntl, "ioctl", self._ioctl)

    def add(self, number: int, name: str, capabilities: int = CAPTURE) -> Path:
        node = self.devices / f"video{number}"
        node.touch()
        (self.classes / node.name).mkdir(parents=True)
        (self.classes / node.name / "name").write_text(f"{name}\n")
        self._capabilities[node.name] = capabilities
        return node

    def _ioctl(self, device: int, request: int, buffer: bytearray) -> int:
        node = Path(f"/proc/self/fd/{device}").readlink().name
        if request == video_nodes._QUERY_CAPABILITIES:
            answer = (b"driver", b"card", b"bus", 1, 0x84A00001, self._capabilities[node])
            buffer[:] = video_nodes._CAPABILITIES.pack(*answer)
        elif self.refuses is not None:
            raise OSError(self.refuses, os.strerror(self.refuses))
        return 0


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_sizes_and_numbers_of_the_requests_fit_together() -> None:
    """The kernel refuses a request whose number holds another size."""
    for request, structure in (
        (video_nodes._QUERY_CAPABILITIES, video_nodes._CAPABILITIES),
        (video_nodes._REQUEST_BUFFERS, video_nodes._BUFFERS),
        (video_nodes._LIST_FORMATS, video_nodes._FORMAT),
    ):
        assert request >> 16 & 0x3FFF == structure.size


def test_cameras_have_names_and_stable_paths(machine: Machine) -> None:
    webcam = machine.add(0, "HD Pro Webcam C920")
    machine.add(1, "HD Pro Webcam C920", METADATA)
    machine.add(10, "Dummy video device")
    machine.add(2, "vi-output, imx219 9-0010")
    by_id = machine.devices / "v4l" / "by-id"
    by_id.mkdir(parents=True)
    (by_id / "usb-046d_C920-video-index0").symlink_to("../../video0")
    found = describe_cameras(machine.devices, machine.classes)
    assert [(one.node.name, one.name, one.uri) for one in found] == [
        ("video0", "HD Pro Webcam C920", f"v4l2://{webcam}"),
        ("video1", "HD Pro Webcam C920", None),
        ("video2", "vi-output, imx219 9-0010", "csi://0"),
        ("video10", "Dummy video device", f"v4l2://{machine.devices / 'video10'}"),
    ]
    assert [one.stable for one in found] == [by_id / "usb-046d_C920-video-index0", None, None, None]


def test_no_cameras(tmp_path: Path) -> None:
    assert describe_cameras(tmp_path / "dev", tmp_path / "class") == []


def test_a_good_device_has_no_problem(machine: Machine) -> None:
    assert problem_of(machine.add(0, "C920"), machine.classes) is None


def test_a_missing_device_says_which_exist(machine: Machine) -> None:
    missing = machine.devices / "video7"
    error = problem_of(missing, machine.classes)
    assert str(error) == f"{missing} does not exist (no camera is connected); connect the camera"
    present = machine.add(2, "C920")
    error = problem_of(missing, machine.classes)
    assert error is not None
    assert f"(found {present})" in str(error)
    assert error.cause == "device"  # it comes back when it is plugged in


def test_no_permission(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    node = machine.add(0, "C920")
    monkeypatch.setattr(os, "access", lambda *_: False)
    error = problem_of(node, machine.classes)
    assert error is not None
    assert (error.cause, "usermod -aG video" in str(error)) == ("permission", True)


def test_a_container_without_the_device(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the file can be read by its rights, but opening it is refused."""
    node = machine.add(0, "C920")
    real = os.open

    def refuse(path: Path, flags: int) -> int:
        if path == node:
            raise OSError(errno.EPERM, "Operation not permitted")
        return real(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    error = problem_of(node, machine.classes)
    assert error is not None
    assert (error.cause, f"--device {node}" in str(error)) == ("permission", True)


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("vi-output, imx219 9-0010", "csi://1"),
        ("unicam-image", '"gst:libcamerasrc"'),
        ("rp1-cfe-csi2_ch0", '"gst:libcamerasrc"'),
    ],
)
def test_a_sensor_at_the_csi_port_is_named_as_such(machine: Machine, name: str, uri: str) -> None:
    machine.add(0, "vi-output, imx477 10-001a")
    error = problem_of(machine.add(1, name), machine.classes)
    assert error is not None
    assert error.cause == "format"
    assert "CSI camera" in str(error)
    assert str(error).endswith(f"use --source {uri}")


def test_the_metadata_device_of_a_camera_names_the_right_one(machine: Machine) -> None:
    right = machine.add(0, "C920")
    error = problem_of(machine.add(1, "C920", METADATA), machine.classes)
    assert error is not None
    assert (error.cause, str(error).endswith(f"use {right}")) == ("format", True)


def test_a_busy_device_says_who_uses_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    node = machine.add(0, "C920")
    machine.refuses = errno.EBUSY
    with node.open():
        error = problem_of(node, machine.classes)
    assert error is not None
    assert str(error) == f"{node} is in use by another source of this program; close it"
    assert error.cause == "device"
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with node.open():
        assert f"({Path('/proc/self').resolve().name}); close it" in str(problem_of(node, machine.classes))
    monkeypatch.setattr(video_nodes, "_users", lambda *_: None)
    assert "`sudo fuser -v" in str(problem_of(node, machine.classes))


def test_a_device_that_does_not_respond(machine: Machine) -> None:
    machine.refuses = errno.ENODEV
    error = problem_of(machine.add(0, "C920"), machine.classes)
    assert error is not None
    assert "does not respond (No such device); unplug the camera" in str(error)


def test_another_file_is_no_camera(tmp_path: Path) -> None:
    (tmp_path / "video0").write_text("a text")
    error = problem_of(tmp_path / "video0", tmp_path)
    assert error is not None
    assert (error.cause, "is not a video device" in str(error)) == ("format", True)
