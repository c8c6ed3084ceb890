"""GStreamer sources with the real GStreamer: `videotestsrc` stands in for the sensor of a camera.

Needs the Debian packages python3-gi, gir1.2-gstreamer-1.0, gir1.2-gst-plugins-base-1.0 and
gstreamer1.0-plugins-base and -good; the bindings are those of the system's Python.
"""

import gc
import importlib
import itertools
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from emotion_runtime.errors import ConnectionLost
from emotion_runtime.sources import gstreamer, open_source
from emotion_runtime.sources.gstreamer import connect_gstreamer
from emotion_runtime.sources.pipelines import csi_pipeline
from emotion_runtime.sources.shots import Shot

PACKAGES = Path("/usr/lib/python3/dist-packages")
BINARY = f"_gi.cpython-{sys.version_info.major}{sys.version_info.minor}-*.so"


def _of_another_python() -> bool:
    """Whether the system's bindings cannot be loaded, since they are those of another Python."""
    debian = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    return not debian.exists() and not list(PACKAGES.glob(f"gi/{BINARY}"))


pytestmark = pytest.mark.skipif(_of_another_python(), reason="the system's GStreamer is for another Python")


@pytest.fixture(scope="module", autouse=True)
def bindings() -> None:
    """Make the system's bindings importable, and none of its other packages."""
    if "gi" in sys.modules:
        return
    sys.path.append(str(PACKAGES))
    try:
        gi = importlib.import_module("gi")
        gi.require_version("GstApp", "1.0")
        importlib.import_module("gi.repository.GstApp")
    except (ImportError, ValueError):
        reason = "GStreamer's bindings are not installed: see .ci/packages"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    finally:
        sys.path.remove(str(PACKAGES))


def take(uri: str, count: int, seconds: float = 20.0) -> list[Shot]:
    """Return the first images of a pipeline, or fewer if it ends."""
    stop, shots = Event(), []
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    images = connect_gstreamer(uri)(stop)
    for shot in images:
        shots.append(shot)
        if len(shots) == count:
            break
    images.close()
    timer.cancel()
    assert not stop.is_set(), f"only {len(shots)} images in {seconds:g} s"
    return shots


def failure(uri: str) -> ConnectionLost:
    with pytest.raises(ConnectionLost) as caught:
        take(uri, 1000)
    return caught.value


def test_the_pipeline_of_a_csi_camera_runs_with_a_test_image_for_the_sensor() -> None:
    """The first two elements and the first converter exist on a Jetson only; the rest runs as it is."""
    pipeline = csi_pipeline("csi://0?size=320x240&fps=20")
    sensor, caps, converter, rest = pipeline.split(" ! ", 3)
    assert sensor.startswith("nvarguscamerasrc ")
    assert converter.startswith("nvvidconv ")
    caps = caps.replace("(memory:NVMM)", "")
    shots = take(f"gst:videotestsrc is-live=true pattern=red ! {caps} ! videoconvert ! {rest}", 5)
    for shot in shots:
        assert shot.image.shape == (240, 320, 3)
        blue, green, red = shot.image[120, 160].tolist()
        assert red > 200
        assert max(blue, green) < 60


@pytest.mark.parametrize("size", [(320, 240), (321, 241), (322, 2), (17, 33)])
@pytest.mark.parametrize("kind", ["BGR", "RGB", "NV12", "GRAY8"])
def test_rows_of_any_width_and_format(size: tuple[int, int], kind: str) -> None:
    """A white image with padding in its rows has no other colour in it."""
    width, height = size
    caps = f"video/x-raw,format={kind},width={width},height={height}"
    (shot,) = take(f"gst:videotestsrc num-buffers=1 pattern=white ! {caps}", 1)
    assert shot.image.shape == (height, width, 3)
    assert shot.image.min() > 230
    assert shot.image.flags["C_CONTIGUOUS"]
    assert shot.image.flags["WRITEABLE"]


def test_time_of_capture_is_that_of_the_source_and_not_of_its_delivery() -> None:
    """A queue holds every image back for 0.3 s."""
    shots = take(
        "gst:videotestsrc is-live=true ! video/x-raw,framerate=20/1 ! "
        "queue min-threshold-time=300000000 max-size-buffers=0",
        4,
    )
    now = time.monotonic()
    assert 0.25 < now - shots[-1].captured < 2
    assert np.diff([shot.captured for shot in shots]) == pytest.approx(0.05, abs=0.02)
    assert abs(shots[-1].time.timestamp() - (time.time() - (now - shots[-1].captured))) < 0.2


def test_newest_image_wins() -> None:
    images = connect_gstreamer("gst:videotestsrc is-live=true ! video/x-raw,framerate=50/1")(Event())
    next(images)
    time.sleep(1.5)
    shots = [next(images), next(images)]
    images.close()
    assert time.monotonic() - shots[-1].captured < 0.6
    assert shots[1].captured - shots[0].captured < 0.6  # nothing queued while nobody read


def test_a_file_plays_at_its_own_speed_and_ends() -> None:
    start = time.monotonic()
    shots = take("gst:videotestsrc num-buffers=10 ! video/x-raw,framerate=10/1", 100)
    assert len(shots) >= 5
    assert 0.8 < time.monotonic() - start < 5


def test_a_pipeline_with_a_sink_of_its_own() -> None:
    (shot,) = take("gst:videotestsrc num-buffers=1 ! videoconvert ! appsink name=mine", 1)
    assert shot.image.shape == (240, 320, 3)
    shots = take("gst:videotestsrc num-buffers=3 ! tee name=t ! queue ! fakesink t. ! queue", 100)
    assert shots
    error = failure("gst:videotestsrc ! video/x-raw,format=NV12 ! appsink")
    assert (error.cause, "put `videoconvert` between them" in str(error)) == ("format", True)
    error = failure("gst:videotestsrc ! appsink caps=video/x-raw,format=NV12")
    assert (error.cause, "delivers NV12; expected BGR" in str(error)) == ("format", True)


@pytest.mark.parametrize(
    ("pipeline", "cause", "words"),
    [
        ("nosuchsrc", "format", "no element nosuchsrc"),
        ("videotestsrc ! ! fakesink", "format", "does not parse (syntax error)"),
        ("videotestsrc pattern=nosuch", "format", "videotestsrc refuses the value of its property pattern"),
        ("videotestsrc nosuch=1", "format", "has no property nosuch; `gst-inspect-1.0 videotestsrc`"),
        ("videotestsrc ! fakesink", "format", "fakesink cannot be linked"),
        ("audiotestsrc", "format", "audiotestsrc cannot be linked"),
        ("appsink", "format", "has no source"),
        ("filesrc location=/nosuch/file ! decodebin", "not found", "Resource not found"),
        ("filesrc location=/etc/passwd ! decodebin", "format", "text file"),
        ("v4l2src device=/dev/video77", "device", "/dev/video77"),
        ("tcpclientsrc host=127.0.0.1 port=9 ! decodebin", "connection", "check the address"),
        ("rtspsrc location=rtsp://joe:secret@127.0.0.1:9/ ! decodebin", "connection", "check the address"),
    ],
)
def test_a_pipeline_that_fails_says_why(pipeline: str, cause: str, words: str) -> None:
    error = failure(f"gst:{pipeline}")
    assert error.cause == cause
    assert words in re.sub(r"(src|sink)\d+", r"\1", str(error))  # they are counted
    assert "secret" not in str(error)


def test_a_missing_decoder_is_named() -> None:
    """It is announced by a message of its own, and the error that follows says nothing of it."""
    bindings = gstreamer._bindings()
    gst, glib = bindings.gst, bindings.glib
    bus, element = gst.Bus(), gst.ElementFactory.make("fakesrc")
    domain = glib.quark_from_string("gst-stream-error-quark")
    error = glib.Error.new_literal(domain, "Internal data stream error.", 1)
    bus.post(gst.Message.new_error(element, error, "reason error (-5)"))
    with pytest.raises(ConnectionLost, match="Internal data stream error"):
        gstreamer._ended(gst, bus)
    missing = gst.Structure.new_from_string('missing-plugin, name=(string)"H.265 decoder"')
    bus.post(gst.Message.new_error(element, error, "reason error (-5)"))
    bus.post(gst.Message.new_element(element, missing))
    with pytest.raises(ConnectionLost, match=r"lacks a part for this stream: H\.265 decoder") as caught:
        gstreamer._ended(gst, bus)
    assert caught.value.cause == "format"


def test_a_csi_camera_needs_a_jetson() -> None:
    error = failure("csi://0")
    assert error.cause == "format"
    assert "nvarguscamerasrc; it exists on a Jetson only" in str(error)


def test_the_event_ends_a_pipeline_that_delivers_nothing() -> None:
    stop, caps = Event(), "video/x-raw,format=BGR,width=8,height=8,framerate=1/1"
    threading.Timer(0.2, stop.set).start()
    start = time.monotonic()
    assert list(connect_gstreamer(f"gst:appsrc is-live=true ! {caps}")(stop)) == []
    assert 0.2 <= time.monotonic() - start < 3


def test_several_pipelines_can_be_the_first() -> None:
    """Each starts in a thread of its own; the bindings are imported once, by one of them."""
    program = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from emotion_runtime.sources.gstreamer import connect_gstreamer
sys.path.append(sys.argv[1])
def count(_):
    return len(list(connect_gstreamer("gst:videotestsrc is-live=true num-buffers=3")(Event())))
with ThreadPoolExecutor(4) as threads:
    assert all(threads.map(count, range(4)))
"""
    subprocess.run([sys.executable, "-c", program, str(PACKAGES)], check=True)


def test_each_connection_is_a_new_pipeline_that_leaves_nothing_behind() -> None:
    connect = connect_gstreamer("gst:videotestsrc is-live=true num-buffers=3")

    def open_files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    list(connect(Event()))
    before, threads = open_files(), len(os.listdir("/proc/self/task"))  # noqa: PTH208
    for _ in range(10):
        assert list(connect(Event()))
    assert open_files() <= before + 1
    assert len(os.listdir("/proc/self/task")) <= threads + 1  # noqa: PTH208


def test_as_a_source_it_has_a_name_and_is_started_again_when_it_ends() -> None:
    with open_source("door=gst:videotestsrc is-live=true num-buffers=5") as source:
        frames = []
        for frame in source:
            frames.append(frame)
            if frame.index > 6:
                break
        statuses = [status.status for status in source.take_statuses()]
    assert {frame.source for frame in frames} == {"door"}
    assert statuses[:4] == ["connecting", "live", "lost", "live"]
    assert all(b.t > a.t for a, b in itertools.pairwise(frames))
