"""Requests that nobody thought of: none may make the server fail, hang, or show what it must not.

Hypothesis makes them from the description of the interface, and reduces one that fails to its essence.
"""

import http.client
import json
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st
from served import MANY, Served, serving

from emotion_runtime.web import requests, session
from emotion_runtime.web.openapi import openapi
from emotion_runtime.web.opening import WebOptions

DESCRIPTION = json.loads(openapi())
OPERATIONS = {
    (path, method.upper()): operation
    for path, operations in DESCRIPTION["paths"].items()
    for method, operation in operations.items()
}
ENDLESS = {"/events", "/stream.mjpg"}
PAGES = [
    "/",
    "/app.js",
    "/app.css",
    "/icon.svg",
    "/sign-in",
    "/openapi.json",
    "/watch",
    "/nothing",
    "//",
    "/%",
]
OPEN = {"/healthz", "/readyz", "/app.css", "/icon.svg", "/sign-in"}
METHODS = ["GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS", "TRACE", "WEIRD"]
TOKEN = "a-token-of-more-than-16-characters"  # noqa: S105 - of the tests
WHOLE_TYPES = {
    "Analysis": requests.Analysis,
    "CameraList": requests.CameraList,
    "CameraName": requests.CameraName,
    "Marker": session.Marker,
    "MarkerList": requests.MarkerList,
    "SessionView": session.SessionView,
}

words = st.sampled_from(
    ["", "door", "gate", "rtsp://10.0.0.1/a", "gate=http://10.0.0.1/", "../x", "gst:x", "0"]
)
texts = words | st.text(max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["name", "uri", "text"])
images = st.builds(
    bytes.__add__,
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x10\0\0\0WEBPVP8 "]),
    st.binary(max_size=200),
)
bodies = st.one_of(
    st.none(),
    st.builds(lambda name, value: json.dumps({name: value}).encode(), fields, texts),
    st.builds(lambda value: json.dumps(value).encode(), values),
    st.binary(max_size=200),
    images,
)
queries = st.builds(
    lambda name, value: f"?{name}={''.join(f'%{byte:02x}' for byte in value.encode('utf-8', 'replace'))}",
    st.sampled_from(["name", "source", "token", ""]),
    texts,
)
names = st.sampled_from(
    [
        *("origin", "cookie", "authorization", "accept", "sec-fetch-site", "range", "if-none-match", "host"),
        *(
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "accept-encoding",
            "upgrade",
            "referer",
        ),
    ]
)
header_values = st.text(
    st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f\x85"), max_size=40
)
headers = st.dictionaries(names, header_values, max_size=2)
kinds = st.sampled_from(["application/json", "application/json; charset=x", "text/plain", "image/png", ""])


class Request(msgspec.Struct, frozen=True):
    """One request."""

    method: str
    path: str
    query: str
    body: bytes | None
    headers: dict[str, str]


described = st.sampled_from(sorted(OPERATIONS))
others = st.tuples(st.sampled_from([*PAGES, *DESCRIPTION["paths"]]), st.sampled_from(METHODS))
traversals = st.tuples(
    st.lists(
        st.sampled_from(["..", "%2e%2e", "etc", "passwd", "static", "app.js", "%00", "..%5c"]), min_size=1
    ).map(lambda parts: "/" + "/".join(parts)),
    st.just("GET"),
)
all_requests = st.builds(
    lambda target, query, body, kind, more: Request(
        target[1], target[0], query, body, more | ({"content-type": kind} if kind else {})
    ),
    st.one_of(described, described, others, traversals),
    st.one_of(st.just(""), queries),
    bodies,
    kinds,
    st.one_of(st.just({}), headers),
)


class Attacker:
    """Sends requests over one connection, and opens another when it is closed."""

    def __init__(self, served: Served) -> None:
        self._host = f"127.0.0.1:{served.port}"
        self._connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
        self.statuses: Counter[int] = Counter()
        self.requests = 0

    def close(self) -> None:
        self._connection.close()

    def send(self, request: Request) -> tuple[http.client.HTTPResponse, bytes]:
        """Return the answer; of one that does not end nothing but its head."""
        given = {"Host": self._host} | request.headers
        if "host" in given:
            del given["Host"]
        try:
            response = self._try(request, given)
        except (ConnectionError, http.client.BadStatusLine):  # it was closed after the request before
            self._connection.close()
            response = self._try(request, given)
        endless = request.path in ENDLESS and request.method == "GET" and response.status == 200
        data = b"" if endless else response.read()
        if endless:
            response.close()
            self._connection.close()
        self.requests += 1
        self.statuses[response.status] += 1
        return response, data

    def _try(self, request: Request, given: dict[str, str]) -> http.client.HTTPResponse:
        with suppress(BrokenPipeError):  # refused before the body was sent
            self._connection.request(request.method, request.path + request.query, request.body, given)
        return self._connection.getresponse()


def check(request: Request, response: http.client.HTTPResponse, data: bytes) -> None:
    """Check an answer against the description, and for what it must not hold."""
    assert b"Traceback" not in data
    assert b"root:" not in data
    assert TOKEN.encode() not in data + str(response.headers).encode()
    json_body = "json" in response.headers.get("content-type", "")
    if "content-security-policy" not in response.headers:  # refused before it reached the application
        assert response.status in (400, 403, 426)
        return
    if response.status >= 400 and json_body and request.method != "HEAD":
        assert json.loads(data)["error"]
    operation = OPERATIONS.get((request.path, request.method))
    if operation is None:
        assert response.status < 500
        return
    assert str(response.status) in operation["responses"]
    content = operation["responses"][str(response.status)]["content"].get("application/json", {})
    reference = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    if reference in WHOLE_TYPES:
        msgspec.json.decode(data, type=WHOLE_TYPES[reference])


def attack(served: Served, count: int, checked: Any) -> Attacker:
    attacker = Attacker(served)

    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(all_requests)
    def run(request: Request) -> None:
        checked(request, *attacker.send(request))

    try:
        run()
    finally:
        attacker.close()
    return attacker


@pytest.mark.parametrize(
    "count",
    [
        200,
        pytest.param(2000, marks=pytest.mark.slow),
        pytest.param(10_000, marks=pytest.mark.nightly),
    ],
)
def test_every_request_gets_an_answer_as_described_and_the_run_goes_on(count: int):
    with serving(WebOptions(place="127.0.0.1:0", allow_adding=True, limits=MANY)) as found:
        attacker = attack(found, count, check)
        before = found.index
        assert found.ask("GET", "/healthz")[0] == 200
        give_up = time.monotonic() + 20
        while found.index < before + 2 and time.monotonic() < give_up:
            time.sleep(0.02)
        assert found.index >= before + 2
    assert attacker.requests >= count
    assert attacker.statuses[200] > count / 20
    assert len(attacker.statuses) >= 6


def test_without_a_token_no_request_does_or_shows_anything(tmp_path: Path):
    def refused(request: Request, response: http.client.HTTPResponse, data: bytes) -> None:
        check(request, response, data)
        assert response.status >= 400 or request.path in OPEN

    file = tmp_path / "token"
    file.write_text(TOKEN)
    with serving(WebOptions(place="127.0.0.1:0", token_file=str(file), limits=MANY)) as found:
        attack(found, 200, refused)
        assert found.sources.paused == {"door": False}
        assert not found.sink._state.session.markers()
