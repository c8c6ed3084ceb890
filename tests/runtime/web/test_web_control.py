"""What a client may ask of a run: cameras that are added and removed, and images that are analysed."""

from concurrent.futures import CancelledError
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from sample_events import person

from emotion_runtime.errors import EmotionError
from emotion_runtime.web.analyses import Analyses, decode_image
from emotion_runtime.web.cameras import CameraRefused, Cameras

if TYPE_CHECKING:
    from emotion_runtime.sources import Address


class Control:
    def __init__(self, names: tuple[str, ...] = ("door", "yard")) -> None:
        self.done: list[tuple[str, str]] = []
        self.present = names

    def pause(self, name: str) -> None:
        self._note("pause", name)

    def resume(self, name: str) -> None:
        self._note("resume", name)

    def remove(self, name: str) -> None:
        self._note("remove", name)

    def names(self) -> list[str]:
        return list(self.present)

    def _note(self, what: str, name: str) -> None:
        if name not in self.present:
            raise EmotionError(f"there is no source {name!r}")
        self.done.append((what, name))


def test_cameras_are_added_only_where_it_is_allowed():
    added: list[Address] = []
    with pytest.raises(CameraRefused, match="--serve-cameras"):
        Cameras(Control(), added.append).add("rtsp://10.0.0.1/a")
    with pytest.raises(CameraRefused, match="--serve-cameras"):
        Cameras(Control(), added.append).remove("door")
    cameras = Cameras(Control(), added.append, allow_adding=True)
    assert cameras.add("gate=rtsp://user:secret@10.0.0.1/a") == "gate"
    assert [address.kind for address in added] == ["network"]
    cameras.remove("door")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/etc/passwd",
        "people.mp4",
        "file:///etc/passwd",
        "gst:filesrc location=/etc/passwd ! fakesink",
        "0",
        "/dev/video0",
        "v4l2:///dev/video0",
        "csi://0",
        "demo",
        "-",
        "a=/etc/passwd",
        "rtsp://${HOME}@h/",
        "rtsp://h/\nx",
        "http://" + 3000 * "a",
        "concat:a|b",
        "x=gst:videotestsrc ! fakesink",
    ],
)
def test_only_addresses_of_network_cameras_can_be_added(uri: str):
    added: list[Address] = []
    with pytest.raises(EmotionError) as caught:
        Cameras(Control(), added.append, allow_adding=True).add(uri)
    assert not added
    assert "passwd" not in str(caught.value)


def test_the_last_camera_is_not_removed():
    control = Control(("door",))
    with pytest.raises(CameraRefused, match="pause it"):
        Cameras(control, lambda _: None, allow_adding=True).remove("door")
    assert not control.done


def test_analyses_run_in_the_thread_of_the_run_and_the_queue_is_short():
    analyses = Analyses(lambda image: [person(int(image[0, 0, 0]), (0.0, 0.0, 50.0, 60.0))])
    futures = [analyses.submit(np.full((2, 2, 3), i, np.uint8)) for i in range(1, 7)]
    assert [future is not None for future in futures] == [True] * 4 + [False] * 2
    first, second, third, fourth = filter(None, futures)
    analyses.run_one()
    assert first.result()[0].id == 1
    assert not second.done()
    second.cancel()
    analyses.run_one()
    analyses.run_one()
    assert third.result()[0].id == 3
    analyses.close()
    with pytest.raises(CancelledError):
        fourth.result()
    assert analyses.submit(np.zeros((2, 2, 3), np.uint8)) is None
    analyses.run_one()


def test_an_analysis_that_fails_does_not_end_the_run():
    def look(_: object) -> list[object]:
        raise ValueError("no")

    analyses = Analyses(look)  # type: ignore[arg-type]
    future = analyses.submit(np.zeros((2, 2, 3), np.uint8))
    analyses.run_one()
    assert future
    assert isinstance(future.exception(), ValueError)


def encoded(size: tuple[int, int], kind: str, mode: str = "RGB") -> bytes:
    data = BytesIO()
    Image.new(mode, size, "red").save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_images_are_decoded_as_bgr(kind: str):
    image = decode_image(encoded((8, 4), kind))
    assert image.shape == (4, 8, 3)
    assert image[0, 0, 2] > 240
    assert image[0, 0, 0] < 20


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", encoded((8, 8), "GIF", "P"), encoded((8, 8), "BMP"), encoded((64, 64), "PNG")[:60]],
)
def test_other_bodies_are_no_images(data: bytes):
    with pytest.raises(EmotionError, match="expected a JPEG, PNG or WebP"):
        decode_image(data)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded():
    with pytest.raises(EmotionError, match="10000 x 5000 pixels"):
        decode_image(encoded((10_000, 5000), "PNG", "1"))
