"""A network camera that shows the demo again and again, as Motion JPEG over HTTP."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2

from emotion_runtime.sources.demo import RATE, read_demo

_STEP = 2  # of so many frames one is shown


@contextmanager
def demo_camera() -> Iterator[str]:
    """Serve the camera while the block runs; the value is its address."""
    images = [
        cv2.imencode(".jpg", frame.image)[1].tobytes() for frame in read_demo() if not frame.index % _STEP
    ]
    over = threading.Event()

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            begin, index = time.monotonic(), 0
            with suppress(OSError):
                while not over.is_set():
                    image = images[index % len(images)]
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
                    self.wfile.write(head.encode() + image + b"\r\n")
                    index += 1
                    over.wait(max(begin + index * _STEP / RATE - time.monotonic(), 0.0))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/stream"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
