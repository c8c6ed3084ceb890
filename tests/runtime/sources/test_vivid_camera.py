"""Cameras with a real driver: Linux's test driver `vivid` in a virtual machine that is started once (40 s).

The machine runs vivid_checks.py; each test here judges one of its results.
"""

import json
import os
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from vivid_machine import missing_part, run_in_machine

pytestmark = pytest.mark.slow

CHECKS = Path(__file__).with_name("vivid_checks.py")
LIMIT = 600.0  # seconds, for machines that are busy
NO_CAMERA = "/dev/video0 does not exist (no camera is connected); connect the camera"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> dict[str, Any]:
    """Return what the checks found; of several processes of a test run, one starts the machine."""
    if reason := missing_part():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    output = tmp_path_factory.getbasetemp().parent / f"vivid-{testrun_uid}.txt"
    with FileLock(f"{output}.lock"):
        if not output.exists():
            output.write_text(run_in_machine([sys.executable, str(CHECKS)], LIMIT))
    text = output.read_text()
    found = {name: json.loads(result) for name, result in re.findall(r"CHECK (\w+) (.*)", text)}
    assert "printed" in found, f"the machine did not come to its end: {text[-2000:]}"
    return found


@pytest.mark.alone  # the machine runs here; the other tests read what it printed
def test_a_camera_by_its_number(results: dict[str, Any]) -> None:
    found = results["frames"]
    assert found["shapes"] == [[480, 640, 3]] * 15
    assert found["spread"] > 20, "the test picture has many colours"
    assert all(0 < step < 1 for step in found["steps"])
    assert 0 <= found["age"] < 1
    assert found["wall"] < 5


def test_the_time_of_an_image_is_that_of_its_capture(results: dict[str, Any]) -> None:
    """An image that lay in the queue of the driver for half a second is not taken for a new one."""
    found = results["stamps_of_the_kernel"]
    assert found["first"] > 0.4
    assert found["last"] < found["first"]


def test_size_rate_and_pixel_format_of_the_uri(results: dict[str, Any]) -> None:
    found = results["modes"]
    assert found["size=1280x720&fps=10"] == {"shape": [720, 1280, 3], "logged": []}
    assert found["size=640x360"] == {"shape": [360, 640, 3], "logged": []}
    assert found["fps=15&format=YUYV"] == {"shape": [480, 640, 3], "logged": []}


def test_what_the_camera_does_not_have_is_logged(results: dict[str, Any]) -> None:
    (line,) = results["modes"]["size=1000x700&fps=60"]["logged"]
    assert "delivers 1280x720 at 12.5 fps (BGR3) and not size=1000x700 fps=60" in line
    (line,) = results["modes"]["format=MJPG"]["logged"]
    assert "(BGR3) and not format=MJPG" in line


def test_a_path_that_stays_the_same_opens_the_camera(results: dict[str, Any]) -> None:
    found = results["stable_path"]
    assert found["shape"] == [480, 640, 3]
    by_id = "/dev/v4l/by-id/usb-vivid-video-index0"
    assert {"YUYV", "BGR3", "GREY"} <= set(found["formats"])
    assert found["camera"] == ["/dev/video0", "vivid-000-vid-cap", "v4l2:///dev/video0", by_id]


def test_a_camera_in_use_says_by_whom(results: dict[str, Any]) -> None:
    found = results["second_opener"]
    own, other = found["own"], found["other"]
    assert own["message"] == "/dev/video0 is in use by another source of this program; close it"
    assert other["message"] == f"/dev/video0 is in use by v4l2-ctl ({found['other_pid']}); close it"
    assert own["cause"] == other["cause"] == "device"
    assert found["then"] == 1, "it opens once the other has closed it"


def test_no_permission(results: dict[str, Any]) -> None:
    found = results["no_permission"]
    assert (found["cause"], "usermod -aG video" in found["message"]) == ("permission", True)


def test_a_camera_that_is_not_there(results: dict[str, Any]) -> None:
    found = results["not_there"]
    assert "/dev/video7 does not exist (found /dev/video0)" in found["missing"]["message"]
    assert "/dev/v4l/by-id/x does not exist" in found["no camera"]["message"]


def test_half_of_the_images_dropped(results: dict[str, Any]) -> None:
    assert 0 < results["half_dropped"]["largest gap"] < 5


def test_all_images_dropped(results: dict[str, Any]) -> None:
    found = results["all_dropped"]
    assert found["as expected"] == [True, True, True]
    assert "no image for 1" in found["first"]
    assert found["closed"] < 2
    assert not any("in use" in reason for reason in found["all"] if reason), "each opening is closed again"


def test_a_fatal_error_of_the_stream(results: dict[str, Any]) -> None:
    found = results["fatal_error"]
    assert (found["cause"], "the camera stopped" in found["message"]) == ("device", True)
    assert found["seconds"] < 5
    assert found["then"] == 1


def test_a_stream_that_does_not_start(results: dict[str, Any]) -> None:
    found = results["start_refused"]
    assert (found["cause"], found["then"]) == ("device", 1)


def test_unplugged(results: dict[str, Any]) -> None:
    found = results["unplugged"]
    assert found["cause"] == "device"
    assert found["seconds"] < 5


def test_unplugged_and_connected_again(results: dict[str, Any]) -> None:
    found = results["unplugged_and_back"]
    assert found["back"]
    assert found["statuses"] == ["connecting", "live", *["lost", "live"] * 3]
    assert all(a < b for a, b in pairwise(found["index"])), "the frames are counted on"
    assert all(a < b for a, b in pairwise(found["t"]))
    assert len({tuple(held) for held in found["held"][1:]}) == 1, "open files and threads stay the same"


def test_device_file_that_goes_and_comes(results: dict[str, Any]) -> None:
    found = results["removed_and_back"]
    assert found["removed"] == ""
    assert found["reason"] == NO_CAMERA
    assert found["back"]
    assert found["waited"] < 5


def test_no_library_prints_a_line(results: dict[str, Any]) -> None:
    assert results["printed"] == ""
