"""Streams that die and come back, beside one that does not: through the whole live source."""

import ctypes
import gc
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stream_servers import (
    PASSWORD,
    RtspServer,
    drips,
    endless,
    garbage,
    http_server,
    jpeg,
    raw_server,
    rtsp_server,
    send_mjpeg,
    silent,
)

from emotion_runtime.sources.live import LiveSource
from emotion_runtime.sources.live_limits import LiveLimits
from emotion_runtime.sources.network import connect_network
from emotion_runtime.sources.network_address import NetworkLimits

if TYPE_CHECKING:
    from emotion_runtime.types import Frame, StatusLine

USER = f"joe:{PASSWORD}"
QUICK = NetworkLimits(opening=2, silence=1)
LIMITS = LiveLimits(opening=4, silence=3, frozen=0)


class Watched:
    """A live source, with everything that came from it."""

    def __init__(self, uri: str, limits: LiveLimits, network: NetworkLimits) -> None:
        self.source = LiveSource("cam", connect_network(uri, network), limits)
        self.frames: list[Frame] = []
        self.statuses: list[StatusLine] = []

    def poll(self) -> None:
        frame = self.source.poll()
        if frame is not None:
            self.frames.append(replace(frame, image=frame.image[:1, :1].copy()))
        self.statuses += self.source.take_statuses()

    @property
    def reasons(self) -> list[str]:
        return [line.reason for line in self.statuses if line.reason]


@contextmanager
def watched(
    *uris: str, limits: LiveLimits = LIMITS, network: NetworkLimits = QUICK
) -> Iterator[list[Watched]]:
    """Open sources, and poll them in a thread."""
    sources = [Watched(uri, limits, network) for uri in uris]
    over = threading.Event()

    def poll() -> None:
        while not over.wait(0.005):
            for source in sources:
                source.poll()

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        yield sources
    finally:
        over.set()
        poller.join()
        for source in sources:
            start = time.monotonic()
            source.source.close()
            assert time.monotonic() - start < 1


def wait(seconds: float, until: Callable[[], bool] = lambda: False) -> float:
    """Wait for so long or until something holds; return how long it took."""
    start = time.monotonic()
    while time.monotonic() - start < seconds and not until():
        time.sleep(0.005)
    return time.monotonic() - start


def usage() -> tuple[int, int]:
    """Return the numbers of threads and of open files of this process."""
    gc.collect()
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def memory() -> float:
    """Return the resident memory in MB, without what was freed and is kept for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def delivers(source: Watched) -> Callable[[], bool]:
    before = len(source.frames)
    return lambda: len(source.frames) > before


def break_it(server: RtspServer, kind: str) -> None:
    """Kill or stop the server, wait until it is lost, and bring it back."""
    if kind == "kill":
        server.kill()
        wait(random.uniform(0.3, 0.8))  # noqa: S311
        server.start()
    else:
        server.send(signal.SIGSTOP)
        wait(random.uniform(1.4, 2.0))  # noqa: S311
        server.send(signal.SIGCONT)


@pytest.mark.alone
@pytest.mark.parametrize(
    "times", [pytest.param(6, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.nightly)]
)
def test_a_server_that_is_killed_and_stopped_again_and_again(times: int):
    with (
        rtsp_server("--user", USER) as server,
        rtsp_server() as steady,
        watched(server.uri(USER), steady.uri()) as both,
    ):
        source, healthy = both
        wait(10, lambda: len(source.frames) > 20 and len(healthy.frames) > 20)
        used, size, first, begun = usage(), 0.0, healthy.frames[-1], time.monotonic()
        waits = []
        for number in range(times):
            if number == 1:  # the first time, more is loaded and allocated
                size = memory()
            wait(random.uniform(0.2, 0.8))  # noqa: S311
            break_it(server, "stop" if number % 3 == 2 else "kill")
            waits.append(wait(10, delivers(source)))
        wait(1.0)
        seconds, last = time.monotonic() - begun, healthy.frames[-1]
        print(f"back after at most {max(waits):.2f} s")  # noqa: T201
        assert max(waits) < 5, waits
        assert last.index - first.index == pytest.approx(15 * seconds, rel=0.05)  # none is lost
        assert last.dropped - first.dropped < 0.25 * last.index  # that a busy machine let this test take late
        assert [line.status for line in healthy.statuses] == ["connecting", "live"]
        assert np.all(np.diff([frame.t for frame in source.frames]) > 0)
        assert np.all(np.diff([frame.index for frame in source.frames]) > 0)
        # An attempt to connect opens files of its own: they count once the stream is live again.
        assert wait(10, lambda: np.all(np.less_equal(usage(), used))) < 10, (usage(), used)
        assert memory() - size < 20
        assert set(source.reasons) > {"the server ended the connection; check that it runs"}
        assert not any(PASSWORD in reason or "127.0.0.1" in reason for reason in source.reasons)


@pytest.mark.slow
def test_a_server_that_comes_back_with_another_codec_and_rate():
    with rtsp_server() as server, watched(server.uri()) as (source,):
        wait(10, lambda: len(source.frames) > 5)
        server.kill()
        server.start("--codec", "mjpeg", "--rate", "5")
        wait(0.5)  # for what was on its way
        seen = len(source.frames)
        wait(10, lambda: len(source.frames) > seen + 10)
        newest = source.frames[-5:]
        assert np.diff([frame.t for frame in newest]) == pytest.approx([0.2] * 4, abs=0.1)
        assert np.all(np.diff([frame.index for frame in source.frames]) > 0)
        assert np.all(np.diff([frame.t for frame in source.frames]) > 0)


@pytest.mark.slow
def test_a_wrong_password_is_said_once_and_tried_slowly():
    limits = replace(LIMITS, slow_retry=(1.0, 2.0))
    with rtsp_server("--user", USER) as server, watched(server.uri("joe:wrong"), limits=limits) as (source,):
        wait(2.5)
        assert [(line.status, line.reason and "password" in line.reason) for line in source.statuses] == [
            ("connecting", None),
            ("lost", True),
        ]


@pytest.mark.parametrize(
    ("talk", "scheme"),
    [
        (silent, "rtsp"),
        (garbage, "rtsp"),
        (drips(b"RTSP/1.0 200 OK\r\nX: 1\r\n"), "rtsp"),
        (silent, "http"),
        (endless(b"X: 1\r\n"), "http"),
    ],
)
def test_a_broken_server_beside_a_healthy_one(talk: Callable[..., None], scheme: str):
    with (
        http_server({"/cam": lambda request: send_mjpeg(request, map(jpeg, range(20, 250)))}) as place,
        raw_server(talk) as port,
        watched(
            f"{scheme}://{USER}@127.0.0.1:{port}/cam", f"http://{place}/cam", network=NetworkLimits(0.5, 0.5)
        ) as both,
    ):
        source, healthy = both
        wait(1.5)
        assert len(healthy.frames) > 15
        assert healthy.frames[-1].dropped <= 2
        assert not source.frames
        assert source.source.status == "lost"


def test_a_name_that_is_unknown_and_a_port_that_is_closed_do_not_disturb_each_other():
    with watched(f"rtsp://{USER}@camera.invalid/", f"http://{USER}@127.0.0.1:9/") as both:
        wait(1.5)
        assert ["name" in both[0].reasons[0], "refused" in both[1].reasons[0]] == [True, True]
        assert all(source.source.status == "lost" for source in both)
