"""Motion JPEG and snapshots over HTTP."""

import itertools
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler

import cv2
import numpy as np
import pytest
from stream_servers import (
    Talk,
    drips,
    endless,
    http_server,
    jpeg,
    levels,
    lost,
    raw_server,
    send,
    send_mjpeg,
    shots_of,
)

from emotion_runtime.errors import ConnectionLost
from emotion_runtime.sources.mjpeg import parts

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


def test_motion_jpeg_has_the_times_of_arrival():
    with http_server(
        {"/cam": lambda request: send_mjpeg(request, map(jpeg, range(20, 220, 10)), rate=15)}
    ) as place:
        shots = shots_of(f"http://{place}/cam", 10)
    assert levels(shots) == pytest.approx(list(range(20, 120, 10)), abs=2)
    assert shots[0].image.shape == (48, 64, 3)
    # FFmpeg would state steps of 0.04 s.
    assert np.median(np.diff([shot.captured for shot in shots])) == pytest.approx(1 / 15, rel=0.3)
    assert abs(time.time() - shots[-1].time.timestamp()) < 2


def test_an_image_is_not_held_back_until_the_next_one():
    started = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        send_mjpeg(request, iter([jpeg(50)]), rate=1000)
        started.set()
        threading.Event().wait(5)

    with http_server({"/cam": answer}) as place:
        (shot,) = shots_of(f"http://{place}/cam", 1)
    assert time.monotonic() - shot.captured < 3


def test_the_end_of_motion_jpeg():
    with http_server({"/cam": lambda request: send_mjpeg(request, iter([jpeg(50)]))}) as place:
        assert lost(f"http://{place}/cam").cause == "ended"


def test_a_stalled_proxy():
    def answer(request: BaseHTTPRequestHandler) -> None:
        send_mjpeg(request, iter([jpeg(50)] * 3), rate=50)
        request.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg(50)[:100])
        threading.Event().wait(5)

    with http_server({"/cam": answer}) as place:
        start = time.monotonic()
        assert lost(f"http://{place}/cam").cause == "time-out"
        assert time.monotonic() - start < 3


@pytest.mark.parametrize("talk", [drips(b"--frame\r\n\r\nabcdef\r\n"), drips(b"x\r\n")])
def test_motion_jpeg_one_byte_at_a_time(talk: Talk):
    def answer(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(1000)
        connection.sendall(HEAD)
        talk(connection, over)

    with raw_server(answer) as port:
        start = time.monotonic()
        assert lost(f"http://127.0.0.1:{port}/").cause in ("format", "time-out")
        assert time.monotonic() - start < 6


@pytest.mark.parametrize(
    "text", [b"x" * 50, b"--frame\r\nX: 1\r\n", b"--frame\r\n\r\n" + b"x" * 50, b"--frame\r\n\r\n\r\n"]
)
def test_motion_jpeg_that_is_none(text: bytes):
    def answer(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(1000)
        connection.sendall(HEAD)
        endless(text)(connection, over)

    with raw_server(answer) as port:
        assert lost(f"http://127.0.0.1:{port}/").cause in ("format", "time-out")


class Bytes:
    """A body in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, count: int) -> bytes:
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def line(self, most: int) -> bytes:
        end = self._data.find(b"\n") + 1 or len(self._data)
        return self.read(min(end, most))


@pytest.mark.parametrize(
    ("boundary", "data", "expected"),
    [
        (b"b", b"--b\r\nContent-Length: 3\r\n\r\na\nb\r\n--b\r\n\r\ncd\r\n--b--\r\n", [b"a\nb", b"cd"]),
        (b"--b", b"--b\r\n\r\nab\r\n--b\r\n\r\nc\r\nd\r\n--b\r\n", [b"ab", b"c\r\nd"]),
        (b"b", b"\r\n--b\nContent-length:2\n\nab--b\n\ncd\n--b\n", [b"ab", b"cd"]),
        (b"b", b"--b\r\nContent-Length: 9\r\n\r\nabc", []),
        (b"b", b"--b\r\n\r\nabc", []),
        (
            b"b",
            b"--b\r\nContent-Length: 0\r\n\r\n\r\n--b\r\nContent-Length: x\r\n\r\nab\r\n--b",
            [b"", b"ab"],
        ),
        (b"b", b"", []),
        # What separates the parts is not what the header says, or the header does not say it.
        (b"b", b"--c\r\nContent-Length: 3\r\n\r\na\nb\r\n--c\r\n\r\ncd\r\n--c--\r\n", [b"a\nb", b"cd"]),
        (b"b", b"\r\n--b1\r\n\r\nab\r\n--b2\r\n\r\ncd\r\n--b3\r\n", [b"ab", b"cd"]),
        (b"", b"----c\r\n\r\nab\r\n--d\r\n----c\r\n\r\ncd\r\n----c--\r\n", [b"ab\r\n--d", b"cd"]),
        (b"b", b' --b\r\n\r\nab\r\n --b\r\n\r\ncd\r\n--"b"\r\n', [b"ab", b"cd"]),
        (b" '--b' ", b'"b"\r\n\r\nab\r\n"b"\r\n\r\ncd\r\nb\r\n', [b"ab", b"cd"]),
        (b'"b', b"-- b\r\n\r\nab\r\n-- b\r\n\r\ncd\r\n-- b --\r\n", [b"ab", b"cd"]),
        (b"b", b"b\r\n\r\nab\r\nbc\r\nb\r\n\r\ncd\r\nb\r\n", [b"ab\r\nbc", b"cd"]),
    ],
)
def test_parts_as_cameras_write_them(boundary: bytes, data: bytes, expected: list[bytes]):
    assert [part for part, _ in parts(Bytes(data), boundary)] == expected


@pytest.mark.parametrize(
    "data",
    [
        b"--b\r\nContent-Length: 99999999999\r\n\r\n",
        b"--b\r\n" + b"X: 1\r\n" * 200,
        b"x\r\n" * 200,
    ],
)
def test_parts_without_bounds_are_refused(data: bytes):
    with pytest.raises(ConnectionLost, match="Motion JPEG"):
        list(parts(Bytes(data), b"b"))


def test_damaged_images_are_left_out():
    images = [jpeg(50), b"damaged", b"", jpeg(50)[:80], jpeg(90)]
    with http_server({"/cam": lambda request: send_mjpeg(request, iter(images))}) as place:
        assert levels(shots_of(f"http://{place}/cam", 2))[-1] == pytest.approx(90, abs=2)
    with http_server({"/cam": lambda request: send_mjpeg(request, itertools.repeat(b"damaged"))}) as place:
        error = lost(f"http://{place}/cam")
        assert (error.cause, "JPEG" in str(error)) == ("format", True)


def test_grey_and_other_sizes_become_bgr():
    _, grey = cv2.imencode(".jpg", np.full((40, 30), 77, np.uint8))
    images = [jpeg(50), grey.tobytes(), jpeg(50, (80, 60))]
    with http_server({"/cam": lambda request: send_mjpeg(request, iter(images), length=False)}) as place:
        shots = shots_of(f"http://{place}/cam", 2)
    assert [shot.image.shape for shot in shots] == [(48, 64, 3), (40, 30, 3)]


def test_snapshots_are_requested_at_an_interval():
    asked = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(time.monotonic())
        send(request, "image/jpeg", jpeg(10 * len(asked)))

    with http_server({"/a.jpg": answer}) as place:
        assert levels(shots_of(f"http://{place}/a.jpg#every=0.2", 4)) == pytest.approx(
            [10, 20, 30, 40], abs=2
        )
    assert np.diff(asked) == pytest.approx([0.2] * 3, abs=0.08)


@pytest.mark.parametrize(("data", "cause"), [(b"no image", "format"), (b"", "format")])
def test_a_snapshot_that_is_none(data: bytes, cause: str):
    with http_server({"/a.jpg": lambda request: send(request, "image/jpeg", data)}) as place:
        assert lost(f"http://{place}/a.jpg").cause == cause


@pytest.mark.parametrize("kind", ["", "application/octet-stream"])
def test_a_snapshot_without_a_type_is_known_by_its_first_bytes(kind: str):
    def answer(request: BaseHTTPRequestHandler) -> None:
        send(request, kind, jpeg(50))

    with http_server({"/snap": answer}) as place:
        assert levels(shots_of(f"http://{place}/snap#every=0.05", 3)) == pytest.approx([50] * 3, abs=2)


def test_snapshots_that_cease():
    left = [jpeg(50)] * 3

    def answer(request: BaseHTTPRequestHandler) -> None:
        if left:
            send(request, "image/jpeg", left.pop())
        else:
            request.send_response(200)
            request.send_header("Content-Type", "image/jpeg")
            request.send_header("Content-Length", "1000")
            request.end_headers()
            request.wfile.write(b"part")

    with http_server({"/a.jpg": answer}) as place:
        assert lost(f"http://{place}/a.jpg").cause == "connection"
