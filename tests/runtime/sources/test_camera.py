"""Cameras at USB, with a stand-in for OpenCV's capture: what is asked of it, and what it may deliver."""

import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np
import pytest

from emotion_runtime.errors import Cause, ConnectionLost, EmotionError
from emotion_runtime.sources import camera
from emotion_runtime.sources.camera import connect_camera
from emotion_runtime.sources.shots import Shot

BGR = np.full((4, 6, 3), (10, 20, 30), np.uint8)
UNPLUGGED = cv2.error("device lost")


class FakeCapture:
    """Stands in for `cv2.VideoCapture`: delivers the given images, then fails as if unplugged.

    An image may be an error to raise, or a pair of image and time stamp in milliseconds.
    """

    opens = True
    script: Sequence[Any] = ()
    answers: dict[int, float] = {}  # noqa: RUF012 - replaced, never changed
    opened: list["FakeCapture"] = []  # noqa: RUF012 - a new one for each test

    def __init__(self, index: int, backend: int) -> None:
        self.index, self.backend = index, backend
        self.asked: dict[int, float] = {}
        self.released = False
        self.stamp = 0.0
        self._images = iter(self.script)
        self.opened.append(self)

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.opens

    def set(self, what: int, value: float) -> bool:
        self.asked[what] = value
        return True

    def get(self, what: int) -> float:
        return self.stamp if what == cv2.CAP_PROP_POS_MSEC else self.answers.get(what, 0.0)

    @staticmethod
    def waitAny(captures: list["FakeCapture"], _nanoseconds: int) -> tuple[bool, list[int]]:  # noqa: N802
        return captures[0]._next(), [0]

    def _next(self) -> bool:
        image = next(self._images, UNPLUGGED)
        if isinstance(image, Exception):
            raise image
        self._image, self.stamp = image if isinstance(image, tuple) else (image, 0.0)
        return True

    def retrieve(self) -> tuple[bool, Any]:
        return self._image is not None, self._image

    def read(self) -> tuple[bool, Any]:
        try:
            self._next()
        except cv2.error:
            return False, None
        return self.retrieve()

    def release(self) -> None:
        self.released = True


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeCapture]]:
    class Fake(FakeCapture):
        opened: list[FakeCapture] = []  # noqa: RUF012

    monkeypatch.setattr(camera.cv2, "VideoCapture", Fake)
    monkeypatch.setattr(camera, "problem_of", lambda _: None)
    monkeypatch.setattr(camera, "pixel_formats", lambda _: [])
    monkeypatch.setattr(camera.sys, "platform", "linux")
    return Fake


def delivered(uri: str = "0") -> tuple[list[Shot], ConnectionLost]:
    """Return what a camera delivers until it fails."""
    shots: list[Shot] = []
    with pytest.raises(ConnectionLost) as caught:
        shots.extend(connect_camera(uri)(Event()))
    return shots, caught.value


def test_empty_and_damaged_images_are_skipped(fake: type[FakeCapture]) -> None:
    fake.script = (None, BGR, np.zeros((0, 0, 3), np.uint8), None, BGR)
    shots, error = delivered()
    assert len(shots) == 2
    assert (error.cause, "stopped" in str(error)) == ("device", True)
    assert fake.opened[0].released


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (np.full((4, 6), 77, np.uint8), [77, 77, 77]),
        (np.full((4, 6, 1), 77, np.uint8), [77, 77, 77]),
        (np.dstack([BGR, np.zeros((4, 6), np.uint8)]), [10, 20, 30]),
        (BGR, [10, 20, 30]),
    ],
)
def test_grey_and_bgra_become_bgr(fake: type[FakeCapture], image: np.ndarray, pixel: list[int]) -> None:
    fake.script = (image,)
    (shot,), _ = delivered()
    assert (shot.image.shape, shot.image.dtype) == ((4, 6, 3), np.uint8)
    assert shot.image[2, 3].tolist() == pixel


@pytest.mark.parametrize("image", [np.zeros((4, 6), np.uint16), np.zeros((4, 6, 2), np.uint8), np.zeros(24)])
def test_other_images_end_the_connection(fake: type[FakeCapture], image: np.ndarray) -> None:
    fake.script = (BGR, image)
    shots, error = delivered()
    assert len(shots) == 1
    assert error.cause == "format"
    assert "expected 8-bit grey, BGR or BGRA" in str(error)
    assert fake.opened[0].released


def test_options_are_asked_of_the_driver_in_an_order_that_it_takes(fake: type[FakeCapture]) -> None:
    delivered("v4l2:///dev/video3?size=1280x720&fps=15&format=mjpg")
    (capture,) = fake.opened
    assert (capture.index, capture.backend) == (3, cv2.CAP_V4L2)
    # The pixel format comes first: it decides which sizes exist.
    assert list(capture.asked.items()) == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 15.0),
    ]


@pytest.mark.parametrize("uri", ["2", "/dev/video2", "v4l2:///dev/video2"])
def test_ways_to_name_a_camera(fake: type[FakeCapture], uri: str) -> None:
    delivered(uri)
    assert (fake.opened[0].index, fake.opened[0].asked) == (2, {})


def test_a_stable_path_is_followed_each_time(
    fake: type[FakeCapture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number behind /dev/v4l/by-id changes when a camera is connected again."""
    link = tmp_path / "usb-Logitech-index0"
    monkeypatch.setattr(camera, "_node", lambda device: link.resolve() if device else Path())
    connect = connect_camera("v4l2:///dev/v4l/by-id/usb-Logitech-index0")
    for number in (0, 4):
        link.unlink(missing_ok=True)
        link.symlink_to(f"/dev/video{number}")
        with pytest.raises(ConnectionLost):
            list(connect(Event()))
    assert [capture.index for capture in fake.opened] == [0, 4]


def test_each_connection_opens_the_camera_anew(fake: type[FakeCapture]) -> None:
    fake.script = (BGR, BGR)
    connect = connect_camera("0")
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            list(connect(Event()))
    assert [capture.released for capture in fake.opened] == [True, True]


def test_the_event_ends_a_camera_that_delivers_nothing(fake: type[FakeCapture]) -> None:
    stop = Event()

    def nothing(_captures: Any, _nanoseconds: int) -> tuple[bool, list[int]]:
        stop.set()
        return False, []

    fake.waitAny = staticmethod(nothing)  # type: ignore[method-assign]
    assert list(connect_camera("0")(stop)) == []
    assert fake.opened[0].released


def test_time_of_capture_is_the_stamp_of_the_kernel(fake: type[FakeCapture]) -> None:
    now = time.monotonic()
    fake.script = ((BGR, (now - 0.5) * 1e3), (BGR, (now - 0.4) * 1e3))
    shots, _ = delivered()
    assert [shot.captured - now for shot in shots] == pytest.approx([-0.5, -0.4], abs=1e-3)
    assert 0.3 < time.time() - shots[1].time.timestamp() < 10


@pytest.mark.parametrize("stamp", [0.0, 12.5, 1.8e12, -1.0])
def test_a_stamp_of_another_clock_is_not_believed(fake: type[FakeCapture], stamp: float) -> None:
    before = time.monotonic()
    if before < 60 and stamp == 12.5:
        pytest.skip("this machine has just started: the stamp could be true")
    fake.script = ((BGR, stamp),)
    shots, _ = delivered()
    assert before <= shots[0].captured <= time.monotonic()


def test_time_does_not_run_backwards(fake: type[FakeCapture]) -> None:
    now = time.monotonic()
    fake.script = ((BGR, (now - 0.1) * 1e3), (BGR, (now - 0.3) * 1e3))
    shots, _ = delivered()
    assert shots[1].captured == shots[0].captured


def test_a_mode_that_the_camera_does_not_have_is_logged_once(
    fake: type[FakeCapture], caplog: pytest.LogCaptureFixture
) -> None:
    fake.script = (BGR, BGR)
    fake.answers = {cv2.CAP_PROP_FPS: 10.0, cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"YUYV")}
    connect = connect_camera("v4l2:///dev/video0?size=1280x720&fps=30")
    for _ in range(2):
        with caplog.at_level(logging.WARNING), pytest.raises(ConnectionLost):
            list(connect(Event()))
    (record,) = caplog.records
    assert record.message == (
        "camera /dev/video0 delivers 6x4 at 10 fps (YUYV) and not size=1280x720 fps=30, which it does not "
        "have; try format=MJPG: compressed images can be larger or come faster"
    )


@pytest.mark.parametrize("uri", ["0", "v4l2:///dev/video0?size=6x4&fps=29.97&format=YUYV"])
def test_nothing_is_logged_if_the_camera_does_what_was_asked(
    fake: type[FakeCapture], uri: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera, "size_option", lambda *_: (6, 4))
    fake.script = (BGR,)
    fake.answers = {cv2.CAP_PROP_FPS: 30.0, cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"YUYV")}
    delivered(uri)
    assert not caplog.records


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("camera", "expected a number"),
        ("-1", "expected a number"),
        ("v4l2:///dev/media0", "expected a number"),
        ("v4l2://video0", "expected a number"),
        ("v4l2:///dev/video0?width=3", "no option `width`; known are size, fps, format"),
        ("v4l2:///dev/video0?size=1280", "expected WIDTHxHEIGHT, such as 1280x720"),
        ("v4l2:///dev/video0?size=1x1", "expected WIDTHxHEIGHT"),
        ("v4l2:///dev/video0?size=", "the option `size` has no value"),
        ("v4l2:///dev/video0?size", "the option `size` has no value"),
        ("v4l2:///dev/video0?fps=30&fps=15", "the option `fps` is given twice"),
        ("v4l2:///dev/video0?fps=fast", "expected a number such as 30"),
        ("v4l2:///dev/video0?fps=nan", "expected a number such as 30"),
        ("v4l2:///dev/video0?fps=0", "expected a number such as 30"),
        ("v4l2:///dev/video0?format=JPEG2000", "expected such as MJPG"),
    ],
)
def test_mistakes_in_the_uri_are_found_before_anything_is_opened(
    fake: type[FakeCapture], uri: str, words: str
) -> None:
    with pytest.raises(EmotionError) as caught:
        connect_camera(uri)
    assert words in str(caught.value)
    assert not isinstance(caught.value, ConnectionLost)
    assert not fake.opened


@pytest.mark.parametrize("cause", ["permission", "device", "format"])
def test_a_camera_that_does_not_open_says_why(
    fake: type[FakeCapture], cause: Cause, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.opens = False
    monkeypatch.setattr(camera, "problem_of", lambda node: ConnectionLost(f"wrong: {node}", cause))
    shots, error = delivered()
    assert (shots, str(error), error.cause) == ([], "wrong: /dev/video0", cause)
    assert fake.opened[0].released


def test_a_camera_of_unknown_pixel_formats_names_them(
    fake: type[FakeCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.opens = False
    monkeypatch.setattr(camera, "pixel_formats", lambda _: ["RG10", "RG12"])
    _, error = delivered()
    assert "no pixel format that OpenCV knows (RG10, RG12)" in str(error)


def test_without_a_known_reason_the_message_says_what_to_check(fake: type[FakeCapture]) -> None:
    fake.opens = False
    _, error = delivered()
    assert "close other programs that use it" in str(error)


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_use_their_own_backend(
    fake: type[FakeCapture], system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera.sys, "platform", system)
    fake.script = ((BGR, time.monotonic() * 1e3 - 500), BGR)  # a stamp that means something else there
    before = time.monotonic()
    shots, error = delivered("1")
    assert (fake.opened[0].index, fake.opened[0].backend) == (1, cv2.CAP_ANY)
    assert (len(shots), error.cause) == (2, "device")
    assert shots[0].captured >= before
    with pytest.raises(EmotionError, match="on Linux only; give a number"):
        connect_camera("v4l2:///dev/video0")


def test_opencv_prints_nothing(
    fake: type[FakeCapture], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tries to open a device that does not exist with the real library, which prints lines by default."""
    monkeypatch.undo()
    free = next(number for number in itertools.count(40) if not Path(f"/dev/video{number}").exists())
    try:
        _, error = delivered(str(free))
    finally:
        camera._set_log_level(3)  # the default
    assert (error.cause, f"/dev/video{free} does not exist" in str(error)) == ("device", True)
    assert capfd.readouterr() == ("", "")
    assert not fake.opened
