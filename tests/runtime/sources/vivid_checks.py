"""Use a camera of Linux's test driver `vivid`; runs in the virtual machine of vivid_machine.py.

For each check it prints a line with what happened as JSON, which test_vivid_camera.py judges. The camera
shows a test picture; its controls unplug it, break its stream and drop its images.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from threading import Event
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "runtime"))

from vivid_machine import VIVID as OPTIONS

from emotion_runtime.errors import ConnectionLost
from emotion_runtime.sources.camera import connect_camera
from emotion_runtime.sources.live import LiveSource
from emotion_runtime.sources.live_limits import LiveLimits
from emotion_runtime.sources.shots import Shot
from emotion_runtime.sources.video_nodes import describe_cameras, pixel_formats

CAMERA = "v4l2:///dev/video0"
MODES = (
    "size=1280x720&fps=10",
    "size=640x360",
    "fps=15&format=YUYV",
    "size=1000x700&fps=60",
    "format=MJPG",
)
MODULE = Path("/run/modules/vivid.ko")


class Logged(logging.Handler):
    """Keeps the texts of what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def control(name: str, value: int) -> None:
    """Set a control of the camera."""
    subprocess.run(
        ["v4l2-ctl", "-d", "/dev/video0", "-c", f"{name}={value}"], check=False, capture_output=True
    )


def take(uri: str, count: int) -> list[Shot]:
    """Open a camera and return its first images."""
    shots = connect_camera(uri)(Event())
    taken = list(islice(shots, count))
    shots.close()
    return taken


def failure(act: Callable[[], Any]) -> dict[str, Any]:
    """Return the error that something ends with, and the seconds until then."""
    start = time.monotonic()
    try:
        act()
    except ConnectionLost as error:
        return {"message": str(error), "cause": error.cause, "seconds": time.monotonic() - start}
    return {"message": "no error", "cause": None}


@contextmanager
def opened(uri: str = CAMERA) -> Iterator[Iterator[Shot]]:
    """Open a camera, and wait for its first image."""
    shots = connect_camera(uri)(Event())
    next(shots)
    try:
        yield shots
    finally:
        shots.close()


def wait_for(source: LiveSource, status: str) -> bool:
    """Wait until a source has a status; return whether it has come to that."""
    deadline = time.monotonic() + 20.0
    while source.status != status and time.monotonic() < deadline:
        source.poll()
        time.sleep(0.02)
    return source.status == status


def frames() -> dict[str, Any]:
    shots = take("0", 15)
    now = time.monotonic()
    stamps = [shot.captured for shot in shots]
    return {
        "shapes": [list(shot.image.shape) for shot in shots],
        "spread": float(shots[0].image.std()),
        "steps": [b - a for a, b in pairwise(stamps)],
        "age": now - stamps[-1],
        "wall": abs(shots[-1].time.timestamp() - (time.time() - (now - stamps[-1]))),
    }


def stamps_of_the_kernel() -> dict[str, Any]:
    """An image that waited in the driver's queue says how old it is."""
    control("timestamp_source", 1)  # start of exposure; those of the other setting lie in the future
    with opened() as shots:
        next(shots)
        time.sleep(0.5)
        ages = []
        for _ in range(8):
            captured = next(shots).captured
            ages.append(time.monotonic() - captured)
    return {"first": ages[0], "last": ages[-1]}


def modes() -> dict[str, Any]:
    logged = Logged()
    logging.getLogger().addHandler(logged)
    results = {}
    for options in (
        "size=1280x720&fps=10",
        "size=640x360",
        "fps=15&format=YUYV",
        "size=1000x700&fps=60",
        "format=MJPG",
    ):
        (shot,) = take(f"{CAMERA}?{options}", 1)
        results[options] = {"shape": list(shot.image.shape), "logged": logged.texts[:]}
        logged.texts.clear()
    logging.getLogger().removeHandler(logged)
    return results


def stable_path() -> dict[str, Any]:
    link = Path("/dev/v4l/by-id/usb-vivid-video-index0")
    link.parent.mkdir(parents=True)
    link.symlink_to("../../video0")
    (shot,) = take(f"v4l2://{link}", 1)
    (camera,) = describe_cameras()
    return {
        "shape": list(shot.image.shape),
        "formats": pixel_formats(camera.node),
        "camera": [str(camera.node), camera.name, camera.uri, str(camera.stable)],
    }


def second_opener() -> dict[str, Any]:
    with opened():
        own = failure(lambda: take("0", 1))
    other = subprocess.Popen(
        ["v4l2-ctl", "-d", "/dev/video0", "--stream-mmap"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert other.stderr
    other.stderr.read(1)  # it prints a sign for each image
    busy = failure(lambda: take("0", 1))
    other.terminate()
    other.wait()
    return {"own": own, "other": busy, "other_pid": other.pid, "then": len(take("0", 1))}


def no_permission() -> dict[str, Any]:
    Path("/dev/video0").chmod(0o600)
    os.seteuid(65534)
    try:
        return failure(lambda: take("0", 1))
    finally:
        os.seteuid(0)


def not_there() -> dict[str, Any]:
    return {
        "missing": failure(lambda: take("7", 1)),
        "no camera": failure(lambda: take("v4l2:///dev/v4l/by-id/x", 1)),
    }


def half_dropped() -> dict[str, Any]:
    control("percentage_of_dropped_buffers", 50)
    try:
        stamps = [shot.captured for shot in take("0", 20)]
    finally:
        control("percentage_of_dropped_buffers", 0)
    return {"largest gap": max(b - a for a, b in pairwise(stamps))}


def all_dropped() -> dict[str, Any]:
    """A camera that delivers nothing is lost after the silence, and is back when it delivers again."""
    source = LiveSource("door", connect_camera("0"), LiveLimits(silence=1.0))
    live = wait_for(source, "live")
    control("percentage_of_dropped_buffers", 100)
    lost = wait_for(source, "lost")
    reason = source.reason
    time.sleep(1.5)  # it is opened again and again meanwhile
    control("percentage_of_dropped_buffers", 0)
    back = wait_for(source, "live")
    start = time.monotonic()
    source.close()
    reasons = [status.reason for status in source.take_statuses()]
    return {
        "as expected": [live, lost, back],
        "first": reason,
        "closed": time.monotonic() - start,
        "all": reasons,
    }


def fatal_error() -> dict[str, Any]:
    with opened() as shots:
        control("inject_fatal_streaming_error", 1)
        result = failure(lambda: list(shots))
    return {**result, "then": len(take("0", 1))}


def start_refused() -> dict[str, Any]:
    control("inject_vidioc_streamon_error", 1)
    return {**failure(lambda: take("0", 1)), "then": len(take("0", 1))}


def unplugged() -> dict[str, Any]:
    with opened() as shots:
        control("disconnect", 1)
        return failure(lambda: list(shots))


def unplugged_and_back() -> dict[str, Any]:
    """The driver connects the camera again as soon as nobody has it open."""
    source = LiveSource("door", connect_camera("0"))
    held, frames = [], []
    for _ in range(3):  # after more losses in a minute it is degraded
        wait_for(source, "live")
        frames.append(next(iter(source)))
        held.append((len(os.listdir("/proc/self/fd")), threading.active_count()))  # noqa: PTH208
        control("disconnect", 1)
        wait_for(source, "lost")
    back = wait_for(source, "live")
    statuses = [status.status for status in source.take_statuses()]
    source.close()
    return {
        "back": back,
        "statuses": statuses,
        "index": [frame.index for frame in frames],
        "t": [frame.t for frame in frames],
        "held": held,
    }


def removed_and_back() -> dict[str, Any]:
    """With its driver the device file goes, as at USB, and comes again."""
    source = LiveSource("door", connect_camera("0"))
    wait_for(source, "live")
    source.pause()
    wait_for(source, "paused")
    time.sleep(0.3)
    removed = subprocess.run(["busybox", "rmmod", "vivid"], check=False, capture_output=True, text=True)
    source.resume()
    wait_for(source, "lost")
    reason = source.reason
    subprocess.run(["busybox", "insmod", MODULE, *OPTIONS.split()], check=True)
    start = time.monotonic()
    back = wait_for(source, "live")
    waited = time.monotonic() - start
    source.close()
    return {"removed": removed.stderr, "reason": reason, "back": back, "waited": waited}


CHECKS = (
    frames,
    stamps_of_the_kernel,
    modes,
    stable_path,
    second_opener,
    no_permission,
    not_there,
    half_dropped,
    all_dropped,
    fatal_error,
    start_refused,
    unplugged,
    unplugged_and_back,
    removed_and_back,
)


def main() -> None:
    """Run all checks. What libraries print is a result, too."""
    logging.getLogger().addHandler(logging.NullHandler())  # otherwise Python prints warnings
    console = os.dup(1)
    printed = Path("/run/printed.txt")
    target = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, 1)
    os.dup2(target, 2)

    def report(name: str, result: Any) -> None:
        os.write(console, f"CHECK {name} {json.dumps(result)}\n".encode())

    for check in CHECKS:
        start = time.monotonic()
        try:
            result = check()
        except Exception:  # noqa: BLE001 - the other checks go on
            result = {"error": traceback.format_exc()}
        report(check.__name__, {**result, "took": round(time.monotonic() - start, 2)})
    report("printed", printed.read_text())


if __name__ == "__main__":
    main()
