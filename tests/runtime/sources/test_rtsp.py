"""RTSP with a real server: GStreamer's. One connection, and why it ends."""

import signal
import ssl
import threading
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from stream_servers import (
    PASSWORD,
    Talk,
    drips,
    endless,
    free_port,
    garbage,
    lost,
    raw_server,
    rtsp_server,
    shots_of,
    silent,
)

from emotion_runtime.sources.network import connect_network
from emotion_runtime.sources.network_address import NetworkLimits

USER = f"joe:{PASSWORD}"
LIMITS = NetworkLimits(opening=5, silence=1)


@pytest.mark.slow
def test_h264_with_a_password():
    with rtsp_server("--user", USER) as server:
        shots = shots_of(server.uri(USER), 45, LIMITS)
        for user in ("joe:wrong", ""):
            error = lost(server.uri(user), LIMITS)
            assert (error.cause, "password" in str(error)) == ("authentication", True)
        assert lost(server.uri(USER, path="other"), LIMITS).cause == "not found"
    assert {shot.image.shape for shot in shots} == {(240, 320, 3)}
    assert not np.array_equal(shots[0].image, shots[-1].image)
    captured = [shot.captured for shot in shots]
    assert np.median(np.diff(captured)) == pytest.approx(1 / 15, abs=0.01)
    assert sorted(captured) == captured
    # With its reports, the server states the wall clock, which here is ours.
    assert shots[-1].time.timestamp() == pytest.approx(time.time(), abs=1)


@pytest.mark.nightly
@pytest.mark.parametrize("codec", ["h264", "h265", "mjpeg"])
@pytest.mark.parametrize("transport", ["", "#transport=tcp", "#transport=udp"])
@pytest.mark.parametrize("password", ["", "--user", "--digest"])
def test_codecs_and_transports(codec: str, transport: str, password: str):
    user = {"": (), "--user": ("--user", USER), "--digest": ("--user", USER, "--digest")}[password]
    with rtsp_server("--codec", codec, *user) as server:
        uri = server.uri(USER if user else "") + transport
        shots = shots_of(uri, 30, LIMITS)
        assert np.median(np.diff([shot.captured for shot in shots])) == pytest.approx(1 / 15, abs=0.02)
        if user:
            assert lost(server.uri("joe:wrong"), LIMITS).cause == "authentication"


@pytest.mark.slow
def test_a_camera_that_has_only_udp():
    with rtsp_server("--protocols", "udp") as server:
        assert len(shots_of(server.uri(), 5, LIMITS)) == 5
        error = lost(server.uri() + "#transport=tcp", LIMITS)
        assert (error.cause, "#transport=udp" in str(error)) == ("format", True)


@pytest.mark.slow
def test_the_size_changes():
    with rtsp_server() as server:
        sizes = []
        shots = connect_network(server.uri(), LIMITS)(threading.Event())
        for index, shot in enumerate(islice(shots, 90)):
            sizes.append(shot.image.shape[:2])
            if index == 15:
                server.send(signal.SIGUSR1)
            if sizes[-1] != sizes[0]:
                break
        shots.close()
    assert (sizes[0], sizes[-1]) == ((240, 320), (180, 240))


@pytest.mark.slow
def test_parameter_sets_between_the_slices_of_an_image():
    with rtsp_server("--codec", "slices") as server:
        shots = shots_of(server.uri(), 75, LIMITS)
    # A ball on black: from the second key frame on, no part is grey.
    assert max(float(shot.image.mean()) for shot in shots[35:]) < 10
    assert np.median(np.diff([shot.captured for shot in shots[35:]])) == pytest.approx(1 / 15, abs=0.01)


def test_the_server_is_killed():
    with rtsp_server() as server:
        shots = connect_network(server.uri(), LIMITS)(threading.Event())
        next(shots)
        threading.Timer(0.3, server.kill).start()
        start = time.monotonic()
        with pytest.raises(Exception, match="ended the connection") as caught:
            list(shots)
        assert time.monotonic() - start < 3
    assert caught.value.cause == "ended"


@pytest.mark.slow
def test_the_server_is_stopped_and_its_last_image_counts_as_old():
    with rtsp_server() as server:
        shots = connect_network(server.uri(), LIMITS)(threading.Event())
        list(islice(shots, 15))
        server.send(signal.SIGSTOP)
        stopped, ages = time.monotonic(), []
        with pytest.raises(Exception, match="sent nothing for 1 s") as caught:
            ages.extend((time.monotonic(), time.monotonic() - shot.captured) for shot in shots)
        assert time.monotonic() - stopped < 3
        # FFmpeg held one image back, and delivers it when it gives up waiting for the first time.
        assert all(age > 0.3 for arrival, age in ages if arrival > stopped + 0.4)
    assert caught.value.cause == "time-out"


@pytest.mark.slow
def test_a_backlog_counts_as_old():
    with rtsp_server() as server:
        shots = connect_network(server.uri(), NetworkLimits(5, 10))(threading.Event())
        list(islice(shots, 15))
        # The reader stalls, not the server: what it gets then was sent before.
        time.sleep(1.6)
        ages = [time.monotonic() - shot.captured for shot in islice(shots, 60)]
        shots.close()
    assert max(ages[:3]) > 1.3
    assert ages[-1] < 0.8


def test_a_video_that_is_none():
    with rtsp_server("--codec", "sound") as server:
        assert lost(server.uri(), LIMITS).cause in ("format", "not found")


def test_nobody_listens():
    error = lost(f"rtsp://{USER}@127.0.0.1:{free_port()}/cam")
    assert (error.cause, "refused" in str(error)) == ("connection", True)


def test_an_unknown_name():
    error = lost(f"rtsp://{USER}@camera.invalid/cam")
    assert (error.cause, "name" in str(error)) == ("connection", True)


@pytest.mark.parametrize(
    ("talk", "causes"),
    [
        (silent, {"time-out"}),
        (garbage, {"format", "time-out"}),
        (drips(b"RTSP/1.0 200 OK\r\nX: 1\r\n"), {"time-out"}),
        (endless(b"x" * 1000), {"format", "time-out"}),
        (endless(b"RTSP/1.0 200 OK\r\nContent-Length: 2000000000\r\n\r\n"), {"format", "time-out"}),
        (lambda connection, _: connection.recv(100), {"ended", "connection", "format"}),
    ],
    ids=["silent", "garbage", "one byte at a time", "endless line", "length of 2 GB", "closes at once"],
)
def test_a_server_that_does_not_answer_properly(talk: Talk, causes: set[str]):
    with raw_server(talk) as port:
        start = time.monotonic()
        error = lost(f"rtsp://{USER}@127.0.0.1:{port}/cam")
        assert time.monotonic() - start < 6  # three times the limits of opening and of silence
    assert error.cause in causes


@pytest.mark.slow
def test_encryption(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    with rtsp_server("--tls", str(certificate)) as server:
        uri = server.uri().replace("rtsp://", "rtsps://")
        error = lost(uri, LIMITS)
        assert (error.cause, "certificate is not trusted" in str(error)) == ("encryption", True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert ssl.get_default_verify_paths().cafile == str(certificate)
        assert len(shots_of(uri, 5, LIMITS)) == 5
    with rtsp_server() as server:
        error = lost(server.uri().replace("rtsp://", "rtsps://"), LIMITS)
        assert (error.cause, "TLS" in str(error)) == ("encryption", True)
