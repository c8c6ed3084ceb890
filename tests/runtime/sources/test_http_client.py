"""What servers of HTTP may do to a source: each ends in time, with a cause in words."""

import base64
import hashlib
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from stream_servers import (
    PASSWORD,
    QUICK,
    Answer,
    Talk,
    drips,
    endless,
    free_port,
    garbage,
    http_server,
    jpeg,
    lost,
    raw_server,
    redirect,
    send,
    send_mjpeg,
    shots_of,
    silent,
)

from emotion_runtime.sources.network import connect_network

USER = f"joe:{PASSWORD}"


def test_nobody_listens():
    error = lost(f"http://{USER}@127.0.0.1:{free_port()}/a.jpg")
    assert (error.cause, "refused" in str(error)) == ("connection", True)


def test_an_unknown_name():
    error = lost(f"http://{USER}@camera.invalid/a.jpg")
    assert (error.cause, "name" in str(error)) == ("connection", True)


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (400, "not found"),
        (403, "authentication"),
        (404, "not found"),
        (410, "not found"),
        (500, "connection"),
        (503, "connection"),
    ],
)
def test_a_refusal(status: int, cause: str):
    with http_server({"/cam": lambda request: send(request, "text/html", b"no", status)}) as place:
        assert lost(f"http://{USER}@{place}/cam").cause == cause


def basic(request: BaseHTTPRequestHandler) -> None:
    wanted = "Basic " + base64.b64encode(USER.encode()).decode()
    if request.headers["Authorization"] == wanted:
        send(request, "image/jpeg", jpeg(90))
        return
    request.send_response(401)
    request.send_header("WWW-Authenticate", 'Basic realm="cam"')
    request.end_headers()


def digest(request: BaseHTTPRequestHandler) -> None:
    given = request.headers["Authorization"] or ""
    parts = dict(
        part.strip().split("=", 1) for part in given.removeprefix("Digest ").split(",") if "=" in part
    )
    value = {name: text.strip('"') for name, text in parts.items()}
    if given:

        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()  # noqa: S324 - what the protocol says

        joined = ":".join(value[name] for name in ("nonce", "nc", "cnonce", "qop"))
        wanted = md5(f"{md5(f'joe:cam:{PASSWORD}')}:{joined}:{md5(f'GET:{request.path}')}")
        if value["response"] == wanted:
            send(request, "image/jpeg", jpeg(90))
            return
    request.send_response(401)
    request.send_header("WWW-Authenticate", 'Digest realm="cam", nonce="n0", qop="auth", algorithm=MD5')
    request.end_headers()


@pytest.mark.parametrize("answer", [basic, digest])
def test_a_password(answer: Answer):
    with http_server({"/cam.jpg": answer}) as place:
        assert shots_of(f"http://{USER}@{place}/cam.jpg", 2)[1].image.mean() == pytest.approx(90, abs=2)
        for user in ("joe:wrong@", ""):
            error = lost(f"http://{user}{place}/cam.jpg")
            assert (error.cause, "password" in str(error)) == ("authentication", True)


@pytest.mark.parametrize("wanted", ['Digest realm="cam", nonce="n", algorithm=SHA-512-256', "Negotiate"])
def test_a_kind_of_authentication_that_is_not_supported(wanted: str):
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(401)
        request.send_header("WWW-Authenticate", wanted)
        request.end_headers()

    with http_server({"/cam.jpg": answer}) as place:
        error = lost(f"http://{USER}@{place}/cam.jpg")
    assert (error.cause, "not supported" in str(error)) == ("authentication", True)


def test_a_redirection_is_followed_without_the_password():
    seen = []

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["Authorization"])
        send(request, "image/jpeg", jpeg(60))

    with (
        http_server({"/new.jpg": elsewhere}) as other,
        http_server({"/cam.jpg": redirect(f"http://{other}/new.jpg")}) as place,
    ):
        shots_of(f"http://{USER}@{place}/cam.jpg", 1)
    assert seen == [None]


ELSEWHERE = ("file:///etc/passwd", "ftp://127.0.0.1:9/cam.jpg", "rtsp://127.0.0.1:9/cam", "data:,cam")


@pytest.mark.parametrize("target", ["/cam", *ELSEWHERE])
def test_a_redirection_that_leads_nowhere(target: str):
    with http_server({"/cam": redirect(target)}) as place:
        assert lost(f"http://{place}/cam").cause == "not found"


@pytest.mark.parametrize("kind", ["video/mp4", "application/x-mpegurl"])
def test_a_redirection_is_followed_before_ffmpeg_opens_the_address(kind: str):
    """FFmpeg requests the address once more, and the server may answer something else then."""
    asked = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        if len(asked) == 1:
            send(request, kind, b"#EXTM3U\n")
        else:
            redirect("/other")(request)

    with http_server({"/new": answer, "/other": answer, "/cam": redirect("/new")}) as place:
        lost(f"http://{place}/cam")
    assert set(asked) == {"/new"}
    assert len(asked) > 1


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with http_server({"/cam.jpg": basic}) as place:
        assert len(shots_of(f"http://{USER}@{place}/cam.jpg", 2)) == 2


@pytest.mark.parametrize(
    ("talk", "cause"),
    [
        (silent, "time-out"),
        (garbage, "format"),
        (drips(b"HTTP/1.1 200 OK\r\nX-Header: 1\r\n"), "time-out"),
        (endless(b"HTTP/1.1 200 OK " + b"x" * 1000), "format"),
        (endless(b"X: 1\r\n"), "format"),
        (lambda connection, _: connection.recv(100), "connection"),
    ],
    ids=["silent", "garbage", "one byte at a time", "endless line", "endless header", "closes at once"],
)
def test_a_server_that_does_not_answer_properly(talk: Talk, cause: str):
    with raw_server(talk) as port:
        start = time.monotonic()
        error = lost(f"http://{USER}@127.0.0.1:{port}/cam")
        assert time.monotonic() - start < 3  # three times the limit
    assert error.cause == cause


def test_an_answer_that_is_a_page():
    with http_server({"/": lambda request: send(request, "text/html; charset=utf-8", b"<html>")}) as place:
        error = lost(f"http://{place}/")
    assert (error.cause, "page (text/html)" in str(error)) == ("format", True)


@pytest.mark.parametrize("after", [0.0, 0.4])
def test_cancelling_ends_a_source_that_waits(after: float):
    def stalls(request: BaseHTTPRequestHandler) -> None:
        if after:
            send_mjpeg(request, iter([jpeg(50)]))
        threading.Event().wait(5)

    cancel = threading.Event()
    with http_server({"/cam": stalls}) as place:
        threading.Timer(0.3, cancel.set).start()
        start = time.monotonic()
        try:
            list(connect_network(f"http://{place}/cam")(cancel))
        except Exception:  # noqa: BLE001 - nobody looks any more
            assert not after
        assert time.monotonic() - start < 3


def test_encryption(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    answers = {
        "/cam.jpg": basic,
        "/cam": lambda request: send_mjpeg(request, iter([jpeg(30), jpeg(40)])),
    }
    with http_server(answers, lambda plain: context.wrap_socket(plain, server_side=True)) as place:
        error = lost(f"https://{USER}@{place}/cam.jpg")
        assert (error.cause, "certificate is not trusted" in str(error)) == ("encryption", True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert len(shots_of(f"https://{USER}@{place}/cam.jpg", 2)) == 2
        assert len(shots_of(f"https://{USER}@{place}/cam", 2)) == 2
        with http_server(answers) as plain:
            answers["/down"] = redirect(f"http://{plain}/cam")
            assert lost(f"https://{place}/down").cause == "not found"
    with http_server(answers) as place:
        error = lost(f"https://{USER}@{place}/cam.jpg")
        assert (error.cause, "TLS" in str(error)) == ("encryption", True)


def test_limits_are_those_that_were_given():
    with raw_server(silent) as port:
        error = lost(f"http://127.0.0.1:{port}/cam")
    assert f"for {QUICK.opening:g} s" in str(error)
