"""GStreamer pipelines as text, and their errors in words. Nothing here needs GStreamer."""

import builtins
from threading import Event
from typing import Any

import pytest

from emotion_runtime.errors import Cause, ConnectionLost, EmotionError
from emotion_runtime.sources.gstreamer import connect_gstreamer
from emotion_runtime.sources.pipeline_errors import bus_error, missing_element, parse_error
from emotion_runtime.sources.pipelines import complete_pipeline, csi_pipeline

SINK = "video/x-raw,format=BGR ! appsink max-buffers=1 drop=true sync=false"
CPU = f"videoconvert ! {SINK}"
FROM_GPU = f"nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! {SINK}"


def test_pipeline_of_a_csi_camera() -> None:
    assert csi_pipeline("csi://0") == (
        "nvarguscamerasrc sensor-id=0 ! "
        "video/x-raw(memory:NVMM),format=NV12,width=1280,height=720,framerate=30/1 ! "
        "nvvidconv flip-method=none ! video/x-raw,format=BGRx ! videoconvert ! "
        f"{SINK}"
    )


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        ("csi://1", "sensor-id=1 !"),
        ("CSI://0/", "sensor-id=0 !"),
        ("csi://0?size=1920x1080", "width=1920,height=1080,framerate=30/1"),
        ("csi://0?fps=29.97&size=640x480", "width=640,height=480,framerate=2997/100"),
        ("csi://0?fps=7.5", "framerate=15/2"),
        ("csi://0?flip=rotate-180", "flip-method=rotate-180"),
        ("csi://0?flip=2", "flip-method=rotate-180"),
    ],
)
def test_options_of_a_csi_camera(uri: str, part: str) -> None:
    assert part in csi_pipeline(uri)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("csi://", "the number of a camera, such as csi://0"),
        ("csi://front", "the number of a camera"),
        ("csi://0 ! fakesink", "the number of a camera"),
        ("csi://0?flip=8", "there is no flip=8; expected none, counterclockwise"),
        ("csi://0?flip=none ! fakesink", "there is no flip=none ! fakesink"),
        ("csi://0?size=big", "expected WIDTHxHEIGHT"),
        ("csi://0?fps=-1", "expected a number such as 30"),
        ("csi://0?format=MJPG", "no option `format`; known are size, fps, flip"),
        ("gst:", "has no pipeline"),
        ("gst: ! ", "has no pipeline"),
    ],
)
def test_mistakes_in_the_uri_are_found_before_anything_starts(uri: str, words: str) -> None:
    with pytest.raises(EmotionError) as caught:
        connect_gstreamer(uri)
    assert words in str(caught.value)
    assert not isinstance(caught.value, ConnectionLost)


@pytest.mark.parametrize("has_nvvidconv", [False, True])
@pytest.mark.parametrize(
    ("given", "complete"),
    [
        ("videotestsrc", f"videotestsrc ! videoconvert ! {SINK}"),
        ("  videotestsrc ! ", f"videotestsrc ! videoconvert ! {SINK}"),
        ("v4l2src ! jpegdec", f"v4l2src ! jpegdec ! videoconvert ! {SINK}"),
        ("videotestsrc ! appsink", "videotestsrc ! appsink"),
        ("videotestsrc ! appsink name=mine max-buffers=3", "videotestsrc ! appsink name=mine max-buffers=3"),
        # Images that were copied from the GPU already.
        ("nvarguscamerasrc ! nvvidconv", f"nvarguscamerasrc ! nvvidconv ! videoconvert ! {SINK}"),
        (
            "nvarguscamerasrc ! video/x-raw(memory:NVMM) ! nvvidconv ! video/x-raw,format=I420",
            f"nvarguscamerasrc ! video/x-raw(memory:NVMM) ! nvvidconv ! video/x-raw,format=I420 ! {CPU}",
        ),
    ],
)
def test_a_pipeline_gets_the_end_that_it_lacks(given: str, complete: str, *, has_nvvidconv: bool) -> None:
    assert complete_pipeline(given, has_nvvidconv=has_nvvidconv) == complete


@pytest.mark.parametrize(
    "given",
    [
        "nvarguscamerasrc",
        "rtspsrc location=rtsp://camera/ latency=0 ! rtph264depay ! h264parse ! nvv4l2decoder",
        "uridecodebin uri=rtsp://camera/",
        "filesrc location=a.mp4 ! decodebin",
        "filesrc location=a.mp4 ! decodebin3",
        "nvarguscamerasrc ! nvvidconv ! video/x-raw(memory:NVMM),width=640",
    ],
)
def test_images_that_a_jetson_may_hold_on_its_gpu_are_copied(given: str) -> None:
    assert complete_pipeline(given, has_nvvidconv=True) == f"{given} ! {FROM_GPU}"
    assert complete_pipeline(given, has_nvvidconv=False) == f"{given} ! videoconvert ! {SINK}"


@pytest.mark.parametrize(
    ("element", "fix"),
    [
        ("avdec_h264", "sudo apt install gstreamer1.0-libav"),
        ("h264parse", "sudo apt install gstreamer1.0-plugins-bad"),
        ("rtspsrc", "sudo apt install gstreamer1.0-plugins-good"),
        ("libcamerasrc", "sudo apt install gstreamer1.0-libcamera"),
        ("nvarguscamerasrc", "on a Jetson only, where `sudo apt install nvidia-l4t-gstreamer`"),
        ("mysrc", "check its name"),
    ],
)
def test_a_missing_element_names_its_package(element: str, fix: str) -> None:
    error = parse_error(f'no element "{element}"')
    assert (str(error), error.cause) == (str(missing_element(element)), "format")
    assert f"no element {element}; " in str(error)
    assert fix in str(error)


def test_no_error_shows_an_address() -> None:
    address = "rtsp://joe:secret@camera/1"
    errors = (
        parse_error(f'could not set property "location" in element "rtspsrc0" to "{address}"'),
        parse_error(f"syntax error near {address}"),
        bus_error("gst-resource-error-quark", 3, f"Could not open {address}.", address, "rtspsrc"),
    )
    for error in errors:
        assert "secret" not in str(error)
        assert "joe" not in str(error)


@pytest.mark.parametrize(
    ("kind", "code", "details", "element", "cause"),
    [
        ("resource", 15, "", "rtspsrc", "authentication"),
        ("resource", 3, "", "filesrc", "not found"),
        ("resource", 3, "", "v4l2src", "device"),  # it comes back when it is plugged in
        ("resource", 7, "system error: Permission denied", "v4l2src", "permission"),
        ("resource", 7, "system error: Device or resource busy", "v4l2src", "device"),
        ("resource", 7, "Failed to connect. (Generic error)", "rtspsrc", "connection"),
        ("resource", 9, "", "rtspsrc", "connection"),
        ("stream", 1, "streaming stopped, reason not-negotiated (-4)", "videotestsrc", "format"),
        ("stream", 1, "streaming stopped, reason error (-5)", "rtspsrc", "connection"),
        ("stream", 4, "", "decodebin", "format"),
        ("stream", 6, "", "decodebin", "format"),
        ("stream", 7, "", "avdec_h264", "connection"),
        ("core", 12, "", "decodebin", "format"),
        ("library", 1, "", "nvarguscamerasrc", "device"),
    ],
)
def test_cause_of_an_error_of_a_pipeline_that_runs(
    kind: str, code: int, details: str, element: str, cause: Cause
) -> None:
    error = bus_error(f"gst-{kind}-error-quark", code, "It failed.", details, element)
    assert error.cause == cause
    assert f"({element}); " in str(error)


def test_an_error_of_a_csi_camera_says_how_to_restart_its_service() -> None:
    error = bus_error("gst-resource-error-quark", 9, "TIMEOUT", "Argus Error Status", "nvarguscamerasrc")
    assert "systemctl restart nvargus-daemon" in str(error)


def test_without_bindings_the_message_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_gi(name: str, *rest: Any) -> Any:
        if name == "gi":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_gi)
    for uri in ("csi://0", "gst:videotestsrc"):
        with pytest.raises(ConnectionLost) as caught:
            next(connect_gstreamer(uri)(Event()))
        assert "sudo apt install python3-gi" in str(caught.value)
        assert "--system-site-packages" in str(caught.value)
