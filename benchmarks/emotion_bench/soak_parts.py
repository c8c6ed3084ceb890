"""Parts of the soak: cameras that fail, videos that are long, and systemd's side of the watchdog."""

import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import av
import cv2

from emotion_runtime.sources import open_source
from emotion_runtime.sources.demo import RATE, read_demo

SERVER = Path(__file__).resolve().parents[2] / "tests" / "parts" / "rtsp_server.py"
SYSTEM_PYTHON = "/usr/bin/python3"  # has Debian's python3-gi
PASSWORD = "s3cret"  # noqa: S105 - of a server that exists for this run only
BETWEEN = (20.0, 60.0)  # seconds between the end of a fault of a camera and its next one
LENGTHS = (1.0, 15.0)  # seconds of a fault


@dataclass(slots=True)
class Fault:
    """Something that happened to a camera.

    Attributes:
        source: Name of the source.
        kind: What happened.
        start: Seconds since the run was ready.
        end: When the camera was whole again, in the same seconds.
    """

    source: str
    kind: str
    start: float
    end: float


class Camera(Protocol):
    """A camera that can be broken and repaired."""

    kinds: tuple[str, ...]

    def break_down(self, kind: str) -> None:
        """Let it fail."""

    def repair(self) -> None:
        """Make it whole."""

    def close(self) -> None:
        """End it."""


class RtspCamera:
    """A camera of RTSP in a process of its own, which can be killed and stopped."""

    kinds = ("killed", "stopped")

    def __init__(self) -> None:
        self._port = _free_port()
        self.uri = f"rtsp://viewer:{PASSWORD}@127.0.0.1:{self._port}/cam"
        self._process = self._started()

    @staticmethod
    def is_available() -> bool:
        """Return whether GStreamer's RTSP server and its Python bindings are installed."""
        if not SERVER.is_file() or shutil.which(SYSTEM_PYTHON) is None:
            return False
        program = "import gi; gi.require_version('GstRtspServer', '1.0')"
        done = subprocess.run([SYSTEM_PYTHON, "-c", program], capture_output=True, check=False)
        return done.returncode == 0

    def _started(self) -> "subprocess.Popen[bytes]":
        command = [SYSTEM_PYTHON, str(SERVER), str(self._port), "--user", f"viewer:{PASSWORD}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None  # noqa: S101 - see stdout=
        process.stdout.readline()
        return process

    def break_down(self, kind: str) -> None:
        """Kill it, or stop it so that its connections stay open and nothing comes."""
        self._process.send_signal(signal.SIGKILL if kind == "killed" else signal.SIGSTOP)
        if kind == "killed":
            self._process.wait()

    def repair(self) -> None:
        """Start it again, or let it go on."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
        else:
            self._process = self._started()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class HttpCamera:
    """A camera of MJPEG over HTTP with the demo scene, which can stall and refuse connections."""

    kinds = ("stalled", "closed")

    def __init__(self, rate: float = 10.0) -> None:
        images = [frame.image for frame in read_demo()][:: round(RATE / rate)]
        self._jpegs = [cv2.imencode(".jpg", image)[1].tobytes() for image in images]
        self._rate = rate
        self._fault = ""
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.serve(self)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.uri = f"http://127.0.0.1:{self._server.server_port}/video.mjpg"

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """Send images until the connection is closed."""
        if self._fault == "closed":
            request.close_connection = True
            return
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=image")
        request.end_headers()
        with suppress(OSError):  # the reader is gone
            for jpeg in self._images():
                header = f"--image\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                request.wfile.write(header.encode() + jpeg + b"\r\n")

    def _images(self) -> Iterator[bytes]:
        index = 0
        while self._fault != "closed":
            if self._fault == "":
                yield self._jpegs[index % len(self._jpegs)]
                index += 1
            time.sleep(1 / self._rate)

    def break_down(self, kind: str) -> None:
        """Send nothing more, with open connections; or close them and refuse new ones."""
        self._fault = kind

    def repair(self) -> None:
        """Send images again."""
        self._fault = ""

    def close(self) -> None:
        """End it."""
        self._fault = "closed"
        self._server.shutdown()
        self._server.server_close()


class Faults:
    """Breaks cameras at random moments, one fault of each at a time.

    Args:
        rng: Chooses moments, kinds and lengths.

    Attributes:
        cameras: The cameras by the names of their sources.
        done: The faults that are over.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._next: dict[str, float] = {}
        self._current: dict[str, Fault] = {}
        self.cameras: dict[str, Camera] = {}
        self.done: list[Fault] = []

    def step(self, now: float, *, quiet_from: float) -> None:
        """Do what is due.

        Args:
            now: Seconds since the run was ready.
            quiet_from: From then on no fault begins.
        """
        for name, camera in self.cameras.items():
            due = self._next.setdefault(name, now + self._rng.uniform(*BETWEEN))
            fault = self._current.get(name)
            if fault is not None and now >= fault.end:
                begun = time.monotonic()
                camera.repair()  # a server takes a while to start
                fault.end = round(now + time.monotonic() - begun, 2)
                self.done.append(self._current.pop(name))
                self._next[name] = now + self._rng.uniform(*BETWEEN)
            elif fault is None and now >= due and now < quiet_from:
                kind = self._rng.choice(camera.kinds)
                camera.break_down(kind)
                self._current[name] = Fault(name, kind, round(now, 2), now + self._rng.uniform(*LENGTHS))

    def close(self) -> None:
        """End all cameras."""
        for camera in self.cameras.values():
            camera.repair()
            camera.close()


class Watchdog:
    """The socket to which systemd would listen.

    Args:
        path: Of the socket.

    Attributes:
        longest_gap: Seconds between two signs of life, at most.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self._latest = time.monotonic()
        self.longest_gap = 0.0

    def variables(self, seconds: float) -> dict[str, str]:
        """Return the environment variables that systemd would set."""
        return {"NOTIFY_SOCKET": str(self._path), "WATCHDOG_USEC": str(round(1e6 * seconds))}

    def wait_until_ready(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait until the process reports that it is ready.

        Raises:
            RuntimeError: It ends before.
        """
        while "READY=1" not in self._received():
            if process.poll() is not None:
                raise RuntimeError(f"the run ended with status {process.returncode} before it was ready")
            time.sleep(0.05)
        self._latest = time.monotonic()

    def take(self) -> None:
        """Take what was reported."""
        now = time.monotonic()
        self.longest_gap = max(self.longest_gap, now - self._latest)
        if "WATCHDOG=1" in self._received():
            self._latest = now

    def _received(self) -> list[str]:
        lines: list[str] = []
        with suppress(BlockingIOError):
            while True:
                lines += self._socket.recv(4096).decode().split("\n")
        return lines


def long_video(path: Path, video: Path | None, seconds: float) -> None:
    """Write a video that repeats another one, or the demo scene, until it is long enough."""
    once = path.with_suffix(".once.mp4")
    with av.open(str(once), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "23"})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.max_b_frames = 0
        for image in _images(video):
            height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
            if not stream.codec_context.is_open:
                stream.height, stream.width = height, width
            frame = av.VideoFrame.from_ndarray(image[:height, :width], format="bgr24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with av.open(str(path), "w") as output, av.open(str(once)) as source:
        copied = output.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        times = [(packet.pts or 0, packet.dts or 0) for packet in packets]
        base, length = packets[0].time_base, times[-1][0] + (packets[-1].duration or 0)
        for repeat in range(int(seconds / float(length * base)) + 1):
            for packet, (pts, dts) in zip(packets, times, strict=True):
                packet.time_base = base  # writing changes it
                packet.pts, packet.dts = pts + repeat * length, dts + repeat * length
                packet.stream = copied
                output.mux(packet)
    once.unlink()


def _images(video: Path | None) -> Iterator[Any]:
    with open_source("demo" if video is None else str(video)) as frames:
        yield from (frame.image for frame in frames)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
