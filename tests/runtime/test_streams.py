"""Streams in ordinary and asynchronous loops."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from emotion_runtime import EmotionError, EmotionRuntime, Frame
from emotion_runtime.metrics import StageTimer
from emotion_runtime.rounds import Rounds
from emotion_runtime.streams import Stream, StreamSources


def no_sources() -> StreamSources:
    return StreamSources(Rounds([], StageTimer()))


class Numbers:
    """Yields 0, 1, ... and notes in which threads, and that it was closed."""

    def __init__(self, count: int, seconds: float = 0.0) -> None:
        self.count, self.seconds = count, seconds
        self.threads: set[int] = set()
        self.started, self.closed = threading.Event(), threading.Event()

    def __call__(self) -> Iterator[int]:
        self.started.set()
        try:
            for number in range(self.count):
                self.threads.add(threading.get_ident())
                time.sleep(self.seconds)
                yield number
        finally:
            self.closed.set()


def test_ordinary_loop_and_next():
    numbers = Numbers(4)
    stream = Stream(numbers(), no_sources())
    assert next(stream) == 0
    assert list(stream) == [1, 2, 3]
    assert numbers.closed.is_set()


def test_leaving_the_block_closes_the_sources():
    numbers = Numbers(4)
    with Stream(numbers(), no_sources()) as stream:
        next(stream)
        assert not numbers.closed.is_set()
    assert numbers.closed.is_set()
    assert list(stream) == []


def test_second_thread_that_reads_a_stream_gets_an_error():
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> Iterator[int]:
        begun.set()
        go_on.wait(10)
        yield 1

    stream = Stream(wait(), no_sources())
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, stream)
        begun.wait(10)
        with pytest.raises(EmotionError, match="another thread reads this stream; expected one at a time"):
            next(stream)
        go_on.set()
        assert first.result() == 1


def test_asynchronous_loop_leaves_the_event_loop_free():
    async def main() -> tuple[list[int], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        seen = [number async for number in Stream(numbers(), no_sources())]
        ticking.cancel()
        return seen, ticks

    numbers = Numbers(5, seconds=0.04)
    seen, ticks = asyncio.run(main())
    assert seen == [0, 1, 2, 3, 4]
    assert ticks >= 5
    assert len(numbers.threads) == 1
    assert threading.get_ident() not in numbers.threads
    assert numbers.closed.wait(5)


def test_cancelled_task_closes_the_sources_and_leaves_no_thread():
    async def main() -> None:
        async def consume() -> None:
            async for _ in Stream(numbers(), no_sources()):
                pass

        task = asyncio.create_task(consume())
        assert await asyncio.to_thread(numbers.started.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    numbers = Numbers(10**6, seconds=0.01)
    asyncio.run(main())
    assert numbers.closed.wait(5)
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("emotion-stream") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_breaking_out_of_an_asynchronous_loop_closes_the_sources():
    async def main() -> None:
        async for number in Stream(numbers(), no_sources()):
            if number == 2:
                break

    numbers = Numbers(10**6)
    asyncio.run(main())
    assert numbers.closed.wait(5)


def test_error_reaches_the_asynchronous_loop(runtime: EmotionRuntime):
    async def main() -> None:
        async for _ in runtime.stream("nobody.mp4"):
            pass

    with pytest.raises(EmotionError, match=r"nobody\.mp4"):
        asyncio.run(main())


def test_same_events_in_both_loops_and_with_frames(runtime: EmotionRuntime):
    async def main() -> list:
        stream = runtime.stream("demo")
        events = []
        async for event in stream:
            events.append(event)
            if len(events) == 5:
                break
        return events

    events = asyncio.run(main())
    with runtime.stream("demo", with_frames=True) as stream:
        pairs = [next(stream) for _ in range(5)]
    assert [event for _, event in pairs] == events
    for frame, event in pairs:
        assert isinstance(frame, Frame)
        assert frame.image.shape == (360, 640, 3)
        assert (frame.source, frame.index, frame.t) == (event.source, event.frame, event.t)


def test_sources_are_added_paused_and_removed_while_the_stream_runs(runtime: EmotionRuntime):
    with runtime.stream("demo", realtime=True) as stream:
        assert next(stream).source == "demo"
        stream.add("again=demo")
        with pytest.raises(EmotionError, match=r"same name \(again\)"):
            stream.add("again=demo")
        stream.pause("demo")
        while next(stream).source != "again":
            pass
        assert {next(stream).source for _ in range(3)} == {"again"}
        stream.resume("demo")
        while next(stream).source != "demo":
            pass
        stream.remove("again")
        events = [next(stream).source for _ in range(4)]
        assert set(events[1:]) == {"demo"}, events  # the first may be of the same step as the one before
        assert stream.statuses() == {}  # files have none
        stream.remove("demo")
        assert list(stream) == []
    with pytest.raises(EmotionError, match="the stream is closed"):
        stream.add("demo")


def test_sources_are_paused_and_removed_before_the_first_event(runtime: EmotionRuntime):
    with runtime.stream("one=demo", "two=demo.png", realtime=True) as stream:
        with pytest.raises(EmotionError, match="no source 'three'"):
            stream.pause("three")
        stream.remove("two")  # which does not even exist
        with pytest.raises(EmotionError, match="no source 'two'"):
            stream.resume("two")
        stream.pause("one")
        stream.add("again=demo")
        assert {next(stream).source for _ in range(3)} == {"again"}
        stream.resume("one")
        while next(stream).source != "one":
            pass
    with runtime.stream("demo") as stream:
        stream.pause("demo")
        stream.resume("demo")
        assert next(stream).source == "demo"
    with runtime.stream("demo") as stream:
        stream.remove("demo")
        assert list(stream) == []


def test_status_of_a_camera_is_told_and_another_thread_closes_the_stream(runtime: EmotionRuntime):
    with socket.socket() as taken:  # a port at which nothing listens
        taken.bind(("127.0.0.1", 0))
        lines = []
        stream = runtime.stream(f"door=rtsp://127.0.0.1:{taken.getsockname()[1]}/x", on_status=lines.append)
        threading.Timer(0.7, stream.close).start()
        start = time.monotonic()
        assert list(stream) == []  # a camera that is away is no error: it is opened again and again
        assert 0.6 < time.monotonic() - start < 3
    assert [line.status for line in lines][:2] == ["connecting", "lost"]
    assert stream.statuses() == {} or stream.statuses()["door"].status == "lost"


def test_growing_file_is_followed_until_the_stream_is_closed(runtime: EmotionRuntime, tmp_path: Path):
    path = tmp_path / "growing.ts"
    with av.open(str(path), "w", format="mpegts") as container:
        video = container.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        for index in range(40):
            image = np.full((96, 128, 3), index, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(video.encode())
    stream = runtime.stream(path, follow=True)
    assert [next(stream).frame for _ in range(30)] == list(range(30))
    threading.Timer(0.3, stream.close).start()  # it waits for more by then
    start = time.monotonic()
    list(stream)
    assert time.monotonic() - start < 3


LEFT_OPEN = """
from emotion_runtime.metrics import StageTimer
from emotion_runtime.rounds import Rounds
from emotion_runtime.sources import open_source
from emotion_runtime.streams import Stream, StreamSources

def frames(rounds):
    for one in rounds:
        yield from ((frame, None) for frame in one.frames)

sources = StreamSources(Rounds([], StageTimer()), realtime=True)
stream = Stream(sources.results(["demo"], frames, with_frames=True), sources)
next(stream)
alone = iter(open_source("demo", realtime=True))
next(alone)
"""


def test_a_program_that_leaves_a_stream_open_ends():
    done = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
