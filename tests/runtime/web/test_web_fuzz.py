"""Random requests to every path: none may make the server fail, hang, or show what it must not."""

import http.client
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from served import MANY, Served, serving

from emotion_runtime.web.opening import WebOptions

METHODS = [*4 * ["GET"], *6 * ["POST"], "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "WEIRD"]
PATHS = ["/", "/app.js", "/notice", "/openapi.json", "/metrics", "/cameras", "/cameras/pause", "/markers"]
PATHS += ["/cameras/resume", "/summary", "/analyze", "/healthz", "/readyz", "/sign-in", "/nothing", "/watch"]
KINDS = [
    "application/json",
    "text/plain",
    "image/png",
    "multipart/form-data",
    "",
    "application/json; charset=x",
]
NAMES = [
    "host",
    "origin",
    "cookie",
    "authorization",
    "content-type",
    "accept",
    "sec-fetch-site",
    "range",
    "expect",
]
NAMES += ["if-none-match", "x-forwarded-for", "x-forwarded-host", "accept-encoding", "upgrade", "referer"]
TOKEN = "a-token-of-more-than-16-characters"  # noqa: S105 - of the tests


def text(rng: random.Random, most: int = 40) -> str:
    letters = "abc/%.?&=#\\'\"<>{}[]:;, 019-_~\u00e9\u4e2d\U0001f600"
    return "".join(rng.choices(letters, k=rng.randrange(most)))


def value(rng: random.Random, depth: int = 0) -> Any:
    choices: list[Any] = [None, True, -1, 1e308, text(rng), "", "door", "rtsp://10.0.0.1/a", "../x", "gst:x"]
    if depth < 3:
        choices += [
            [value(rng, depth + 1) for _ in range(3)],
            {rng.choice(["name", "uri", "text", text(rng, 5)]): value(rng, depth + 1) for _ in range(2)},
        ]
    return rng.choice(choices)


def body(rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(400))
    if kind == 1:
        signature = rng.choice([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x10\0\0\0WEBP"])
        return signature + rng.randbytes(rng.randrange(200))
    if kind == 2:
        field = rng.choice(["name", "uri", "text"])
        return json.dumps({field: value(rng)}).encode()
    return json.dumps(value(rng)).encode()


def request(rng: random.Random, connection: http.client.HTTPConnection, host: str) -> int:
    """Send one random request. Return the status."""
    path = rng.choice(PATHS)
    if rng.random() < 0.3:
        path += rng.choice(["?", "/", "/../", "?name=", "?token=", "?source="])
        path += "".join(f"%{byte:02x}" for byte in text(rng).encode())
    headers = {"Host": host, "content-type": rng.choice(KINDS)}
    for _ in range(rng.randrange(3)):
        if rng.random() < 0.3:
            headers[rng.choice(NAMES)] = text(rng).encode("utf-8").decode("latin-1").strip()
    headers = {name: given for name, given in headers.items() if name != "expect"}
    connection.request(rng.choice(METHODS), path, body(rng) if rng.random() < 0.6 else None, headers)
    response = connection.getresponse()
    data = response.read()
    assert response.status < 500 or response.status == 503, (path, headers, data)
    assert b"Traceback" not in data
    assert TOKEN.encode() not in data
    if "content-security-policy" not in response.headers:
        assert response.status in (400, 403, 426)  # answered before the request was complete, or a WebSocket
    if response.status >= 400 and "json" in response.headers.get("content-type", "") and data:
        assert json.loads(data)["error"]
    return response.status


def attack(served: Served, count: int, seed: int) -> dict[int, int]:
    rng = random.Random(seed)  # noqa: S311 - repeatable
    counts: dict[int, int] = {}
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
        try:
            status = request(rng, connection, f"127.0.0.1:{served.port}")
        finally:
            connection.close()
        counts[status] = counts.get(status, 0) + 1
    return counts


@pytest.mark.parametrize(
    "count",
    [
        300,
        pytest.param(2000, marks=pytest.mark.slow),
        pytest.param(10_000, marks=pytest.mark.nightly),
    ],
)
def test_random_requests_get_an_answer_and_the_run_goes_on(count: int):
    with serving(WebOptions(place="127.0.0.1:0", allow_adding=True, limits=MANY)) as found:
        counts = attack(found, count, seed=count)
        before = found.index
        assert found.ask("GET", "/healthz")[0] == 200
        give_up = time.monotonic() + 20
        while found.index < before + 2 and time.monotonic() < give_up:
            time.sleep(0.02)
        assert found.index >= before + 2
    assert counts[200] > count / 20
    assert len(counts) >= 6


def test_random_requests_without_a_token_open_nothing(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with serving(WebOptions(place="127.0.0.1:0", token_file=str(file), limits=MANY)) as found:
        attack(found, 300, seed=1)
        assert not found.sources.paused["door"]
        assert set(found.sources.paused) == {"door"}
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert json.loads(found.ask("GET", "/markers", headers=bearer)[2]) == {"markers": []}
