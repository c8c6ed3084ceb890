"""The server over real sockets: pages, REST, live images, limits, and clients that are slow."""

import json
import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import MANY, Served, first_image, read_stream, serving, watch
from websockets.exceptions import ConnectionClosed, InvalidStatus

from emotion_runtime.errors import EmotionError
from emotion_runtime.web.limits import WebLimits
from emotion_runtime.web.openapi import openapi
from emotion_runtime.web.opening import WebOptions

GETS = ["/", "/app.js", "/notice", "/openapi.json", "/metrics", "/cameras", "/markers", "/summary"]
OPEN = ["/healthz", "/readyz", "/app.css", "/icon.svg", "/sign-in"]


def image_of(message: bytes) -> tuple[dict[str, Any], Image.Image]:
    length = struct.unpack(">I", message[:4])[0]
    return json.loads(message[4 : 4 + length]), Image.open(BytesIO(message[4 + length :]))


@pytest.mark.parametrize("path", [*GETS, *OPEN])
def test_every_page_has_headers_that_protect_it(served: Served, path: str):
    status, headers, body = served.ask("GET", path)
    assert status == 200, body
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


def test_the_page_says_that_emotion_recognition_is_running(served: Served):
    page = served.ask("GET", "/")[2].decode()
    assert "Emotion recognition is running" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_a_message_is_a_header_and_the_frame_that_it_is_about(served: Served):
    with watch(served) as connection:
        overview = json.loads(connection.recv(timeout=5))
        header, image = image_of(first_image(connection))
        later, _ = image_of(first_image(connection))
    assert overview["cameras"][0]["name"] == "door"
    assert overview["colors"]["happiness"] == "#fac030"
    assert (header["width"], header["height"]) == image.size == (320, 240)
    assert header["event"]["persons"][0]["box"] == [40.0, 30.0, 120.0, 150.0]
    shade = 60 + header["event"]["frame"] % 100
    assert abs(image.getpixel((5, 5))[0] - shade) <= 2  # type: ignore[index,operator]
    assert later["event"]["frame"] > header["event"]["frame"]


def test_motion_jpeg(served: Served):
    data = read_stream(served, "/stream.mjpg?source=door", 6000)
    assert b"multipart/x-mixed-replace; boundary=frame" in data
    start = data.index(b"\xff\xd8")
    assert Image.open(BytesIO(data[start : data.index(b"\xff\xd9", start) + 2])).size == (320, 240)
    assert served.ask("GET", "/stream.mjpg?source=none")[0] == 404


def test_events_are_lines_of_schema_2(served: Served):
    data = read_stream(served, "/events", 4000)
    lines = [line for line in data.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data: {")]
    assert json.loads(lines[0][6:])["type"] == "run"
    event = json.loads(lines[1][6:])
    assert (event["schema"], event["type"], event["source"]) == (2, "frame", "door")


def test_an_image_is_analysed(served: Served):
    data = BytesIO()
    Image.new("RGB", (64, 48)).save(data, "PNG")
    status, _, body = served.ask("POST", "/analyze", data.getvalue())
    assert status == 200
    assert json.loads(body)["persons"][0]["box"] == [0.0, 0.0, 64.0, 48.0]
    assert served.ask("POST", "/analyze", b"not an image")[0] == 400
    assert served.ask("POST", "/analyze")[0] == 400


def test_cameras_are_paused_added_and_removed(served: Served):
    assert served.json("POST", "/cameras/pause", {"name": "door"})[0] == 200
    assert served.sources.paused["door"]
    assert served.json("GET", "/cameras")[1]["cameras"][0]["status"] == "paused"
    assert served.json("POST", "/cameras/resume", {"name": "door"})[0] == 200
    assert not served.sources.paused["door"]
    assert served.json("GET", "/cameras")[1]["cameras"][0]["status"] is None
    assert served.json("POST", "/cameras/pause", {"name": "none"})[0] == 404
    assert served.json("POST", "/cameras", {"uri": "gate=rtsp://u:secret@10.0.0.1/a"}) == (
        201,
        {"name": "gate"},
    )
    status, problem = served.json("POST", "/cameras", {"uri": "gate=rtsp://u:secret@10.0.0.1/a"})
    assert status == 409
    assert "secret" not in problem["error"]
    assert served.json("POST", "/cameras", {"uri": "/etc/passwd"})[0] == 409
    assert served.json("DELETE", "/cameras?name=gate")[0] == 200
    assert served.json("DELETE", "/cameras?name=door")[0] == 403  # the last one
    assert served.json("GET", "/cameras")[1]["cameras"][0]["people"] == 2


def test_markers_are_set(served: Served):
    status, marker = served.json("POST", "/markers", {"text": "door opens <b>"})
    assert status == 201
    assert marker["text"] == "door opens <b>"
    assert marker in served.json("GET", "/markers")[1]["markers"]
    assert marker in served.json("GET", "/summary")[1]["markers"]


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", "null", '{"text": 1}', '{"other": 1}', '{"text": "' + 201 * "x" + '"}', 5000 * "["],
)
def test_a_wrong_body_is_refused_with_a_sentence(served: Served, body: str):
    status, _, answer = served.ask("POST", "/markers", body, {"content-type": "application/json"})
    assert status == 400
    assert json.loads(answer)["error"].startswith("the body is not as expected")


def test_a_body_that_is_not_json_is_refused(served: Served):
    assert served.ask("POST", "/markers", "{}", {"content-type": "text/plain"})[0] == 415


def test_too_many_requests_are_refused():
    limits = WebLimits(requests_per_second=0.1, burst=5)
    with serving(WebOptions(place="127.0.0.1:0", limits=limits)) as found:
        statuses = [found.ask("GET", "/healthz")[0] for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2


def test_bodies_that_are_too_large_are_refused(served: Served):
    headers = {"content-type": "application/json"}
    assert served.ask("POST", "/markers", 20_000 * "x", headers)[0] == 413
    with socket.create_connection(("127.0.0.1", served.port), 5) as connection:
        head = (
            f"POST /analyze HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: 99999999999\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(4096)
    with socket.create_connection(("127.0.0.1", served.port), 5) as connection:
        head = (
            f"POST /markers HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(head.encode())
        with suppress(OSError):
            for _ in range(100):
                connection.sendall(b"400\r\n" + 1024 * b"x" + b"\r\n")
        assert b" 413 " in connection.recv(4096)


def test_a_body_that_comes_too_slowly_is_refused_and_a_silent_connection_is_cut_off():
    limits = WebLimits(body_seconds=0.5, silent_seconds=0.5)
    with serving(WebOptions(place="127.0.0.1:0", limits=limits)) as found:
        with socket.create_connection(("127.0.0.1", found.port), 5) as slow:
            head = f"POST /markers HTTP/1.1\r\nHost: 127.0.0.1:{found.port}\r\nContent-Length: 10\r\n\r\nx"
            slow.sendall(head.encode())
            assert b" 408 " in slow.recv(4096)
        with socket.create_connection(("127.0.0.1", found.port), 5) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\nHost: ")
            assert ended(silent)


def ended(connection: socket.socket) -> bool:
    """Wait until the other side has closed a connection; False after the time limit of the socket."""
    try:
        while connection.recv(1 << 20):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def test_a_viewer_that_never_reads_is_cut_off_and_the_others_go_on():
    limits = WebLimits(requests_per_second=1e6, burst=10_000, send_seconds=2.0)
    with serving(WebOptions(place="127.0.0.1:0", limits=limits)) as found, ExitStack() as stack:
        stalled = [stalling(found, stack, path) for path in ("/watch", "/stream.mjpg")]
        found.noise = np.random.default_rng(0).integers(0, 90, found.noise.shape, np.uint8)
        viewers = [stack.enter_context(watch(found)) for _ in range(18)]
        give_up = time.monotonic() + 60
        while found.sink._state.viewers > len(viewers) and time.monotonic() < give_up:
            for viewer in viewers:
                assert first_image(viewer)
        assert found.sink._state.viewers == len(viewers)
        before = found.index
        for viewer in viewers:
            frames = [image_of(first_image(viewer))[0]["event"]["frame"] for _ in range(5)]
            assert frames == sorted(set(frames))
        assert found.index > before
        assert all(each is not None for each in stalled)


def test_a_listener_that_never_reads_is_cut_off_and_another_goes_on():
    limits = WebLimits(requests_per_second=1e6, burst=10_000, send_seconds=1.0)
    with serving(WebOptions(place="127.0.0.1:0", limits=limits)) as found, ExitStack() as stack:
        found.crowd = 100  # so that events are large
        stalled = stalling(found, stack, "/events")
        with found.open("GET", "/events") as response:
            give_up = time.monotonic() + 60
            seen = [0]
            while len(seen) < 3 or (found.sink._state.viewers > 1 and time.monotonic() < give_up):
                line = response.readline()
                if line.startswith(b'data: {"schema":2,"type":"frame"'):
                    seen.append(json.loads(line[6:])["frame"])
            assert found.sink._state.viewers == 1
            assert seen == sorted(set(seen))
        assert len(found.sink._state.events._listeners) <= 1
        assert stalled.fileno() > 0


def stalling(served: Served, stack: ExitStack, path: str) -> socket.socket:
    """Return a viewer that never reads, with small buffers."""
    connection = stack.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.connect(("127.0.0.1", served.port))
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    head = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n{upgrade if path == '/watch' else ''}\r\n"
    )
    connection.sendall(head.encode())
    return connection


def test_too_many_viewers_are_refused():
    limits = WebLimits(requests_per_second=1e6, burst=10_000, viewers=2)
    with serving(WebOptions(place="127.0.0.1:0", limits=limits)) as found, watch(found) as one, watch(found):
        first_image(one)
        assert found.ask("GET", "/events")[0] == 503
        with pytest.raises(InvalidStatus):
            watch(found)
        assert found.ask("GET", "/summary")[0] == 200


def test_the_end_of_a_run_ends_the_streams_and_frees_the_port():
    with ExitStack() as run:
        found = run.enter_context(serving(WebOptions(place="127.0.0.1:0", limits=MANY)))
        with watch(found) as connection:
            assert first_image(connection)
            port = found.port
            run.close()
            with pytest.raises(ConnectionClosed):
                [connection.recv(timeout=5) for _ in range(1000)]
    with serving(WebOptions(place=f"127.0.0.1:{port}", limits=MANY)) as again:
        assert again.ask("GET", "/healthz")[0] == 200


def test_a_port_in_use_and_an_address_of_another_machine_are_mistakes(served: Served):
    for place, problem in (
        (f"127.0.0.1:{served.port}", "another program uses this port"),
        ("192.0.2.1:8080", "this machine has no such address"),
        ("no-such-host.invalid:8080", "this machine has no such address"),
    ):
        with pytest.raises(EmotionError, match=problem), serving(WebOptions(place=place)):
            pass


def test_small_parts_are_sent_at_once(served: Served):
    with watch(served) as viewer:
        first_image(viewer)
        connections: list[Any] = list(served.sink._server._server.server_state.connections)
        sockets = [
            each.transport.get_extra_info("socket") for each in connections if each.transport is not None
        ]
        assert sockets
        assert all(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in sockets)


def test_no_thread_is_left():
    before = threading.active_count()
    with serving(WebOptions(place="127.0.0.1:0")):
        pass
    assert threading.active_count() <= before


def test_the_description_names_every_path(served: Served):
    description = json.loads(openapi())
    routes = {route.path for route in served.sink._server._server.config.app._app.routes}  # type: ignore[attr-defined]
    pages = {"/", "/watch"} | {path for path in routes if path.endswith((".js", ".css", ".svg", ".json"))}
    assert set(description["paths"]) == routes - pages
    text = json.dumps(description)
    for reference in {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert reference in description["components"]["schemas"]
