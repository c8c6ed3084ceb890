"""Live sources in one loop: nobody waits for anybody, and what happens to a source is told in order."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import sample_events

from emotion_runtime import EmotionError, EmotionRuntime
from emotion_runtime.errors import SourceBroken
from emotion_runtime.metrics import StageTimer
from emotion_runtime.rounds import Rounds
from emotion_runtime.sinks.mqtt import MqttSink
from emotion_runtime.sinks.mqtt_options import BrokerAddress, MqttOptions
from emotion_runtime.types import Detections, EmotionEvent, Frame, SourceStatus, StatusLine
from emotion_runtime.web.cameras import Cameras

IMAGE = np.zeros((96, 128, 3), np.uint8)


class FakeCamera:
    """A live source that a test drives by hand."""

    live = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.over = False
        self.error: Exception | None = None
        self.calls: list[str] = []
        self._lock = threading.Lock()
        self._frame: Frame | None = None
        self._count = self._dropped = 0
        self._statuses: list[StatusLine] = []
        self._callback: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Frame]:
        raise AssertionError("the loop polls live sources")

    def give(self, time_: datetime | None = None) -> None:
        now = time.monotonic()
        with self._lock:
            self._dropped += self._frame is not None
            self._frame = Frame(
                IMAGE,
                self._count,
                self._count / 30,
                self.name,
                captured=now,
                dropped=self._dropped,
                time=time_,
            )
            self._count += 1
        self._callback()

    def say(self, status: SourceStatus, reason: str | None = None, at: datetime | None = None) -> None:
        at = at or datetime.now(timezone.utc)
        with self._lock:
            self._statuses.append(StatusLine(source=self.name, time=at, status=status, reason=reason))
        self._callback()

    def end(self, error: Exception | None = None) -> None:
        self.error, self.over = error, True
        self._callback()

    def poll(self) -> Frame | None:
        with self._lock:
            frame, self._frame = self._frame, None
        return frame

    def take_statuses(self) -> list[StatusLine]:
        with self._lock:
            taken, self._statuses = self._statuses, []
        return taken

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")


class Paced(FakeCamera):
    """A camera with a frame rate, from a thread of its own, until it is stopped."""

    def __init__(self, name: str, rate: float, *, frames: int | None = None) -> None:
        super().__init__(name)
        self._rate, self._frames = rate, frames
        self._stop = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        start = time.monotonic()
        self.say("live")
        while not self._stop.wait(max(start + self._count / self._rate - time.monotonic(), 0)):
            if self._count == self._frames:
                self.say("lost", "unplugged")
                return
            self.give(datetime.now(timezone.utc))

    def stop(self) -> None:
        self._stop.set()


class Hanging(FakeCamera):
    """A camera whose library never returns, not even when it is closed."""

    def close(self) -> None:
        threading.Event().wait()


def nobody(_image_bgr: np.ndarray) -> Detections:
    return Detections.empty()


def slowly(_image_bgr: np.ndarray) -> Detections:
    time.sleep(0.02)
    return Detections.empty()


@pytest.fixture
def runtime(tiny_bundle: Path) -> EmotionRuntime:
    return EmotionRuntime(tiny_bundle, nobody, "cpu")


def rounds_of(*sources: object, **options: float) -> Rounds:
    return Rounds(list(sources), StageTimer(), **options)


def events_of(runtime: EmotionRuntime, sources: list, seconds: float) -> list[EmotionEvent]:
    """Return the events of some seconds; all sources are closed then, within a second."""
    rounds = Rounds(sources, runtime.timer, seconds=seconds)
    events = [event for step in runtime.steps(rounds) for _, event in step.events]
    start = time.monotonic()
    rounds.close()
    assert time.monotonic() - start < 1.2
    return events


@pytest.mark.slow
@pytest.mark.alone
def test_a_fast_camera_beside_slow_hanging_and_dying_ones_is_as_fast_as_alone(runtime: EmotionRuntime):
    seconds = 3.0
    for attempt in range(3):  # a busy machine may take the processor away for a moment
        alone = events_of(runtime, [Paced("door", 30)], seconds)
        beside = events_of(
            runtime,
            [Paced("slow", 0.5), Hanging("hung"), Paced("door", 30), Paced("dying", 15, frames=10)],
            seconds,
        )
        counts = Counter(event.source for event in beside)
        latency, usual = (
            float(np.median([event.latency_ms for event in events if event.source == "door"]))
            for events in (beside, alone)
        )
        if counts["door"] >= 0.95 * len(alone) and latency < usual + 5:
            break
        assert attempt < 2, f"{counts} events beside {len(alone)} alone; {latency:.1f} and {usual:.1f} ms"
    assert counts["door"] >= 0.9 * 30 * seconds
    assert counts["slow"] == 2
    assert 8 <= counts["dying"] <= 10
    assert counts["hung"] == 0


def test_a_file_and_a_camera_take_turns(tiny_bundle: Path):
    """A file is read as fast as possible; neither starves the other, with a detector that takes 20 ms."""

    def endless() -> Iterator[Frame]:
        for index in range(10**9):
            yield Frame(IMAGE, index, index / 25, "file")

    runtime = EmotionRuntime(tiny_bundle, slowly, "cpu")
    events = []
    rounds = Rounds([endless(), Paced("door", 100)], runtime.timer, seconds=1.5)
    for step in runtime.steps(rounds):
        events += [event for _, event in step.events]
        if sum(event.source == "door" for event in events) == 20:
            break
    rounds.close()
    file = [event.frame for event in events if event.source == "file"]
    assert 15 <= len(file) <= 25
    assert file == list(range(len(file)))


def test_an_iterable_that_blocks_holds_up_no_camera(runtime: EmotionRuntime):
    release = threading.Event()

    def blocking() -> Iterator[Frame]:
        yield Frame(IMAGE, 0, 0.0, "mine")
        release.wait(20)

    rounds = Rounds([blocking(), Paced("door", 50)], runtime.timer)
    events: list[EmotionEvent] = []
    for step in runtime.steps(rounds):
        events += [event for _, event in step.events]
        if len(events) >= 20:
            break
    assert [event.source for event in events].count("mine") == 1
    release.set()
    rounds.close()


def test_iterables_with_times_of_capture_do_not_wait_for_each_other(runtime: EmotionRuntime):
    stop = threading.Event()

    def camera(name: str, rate: float) -> Iterator[Frame]:
        index = 0
        while not stop.wait(1 / rate):
            yield Frame(IMAGE, index, index / rate, name, captured=time.monotonic())
            index += 1

    events = []
    for _, event in runtime.follow([camera("fast", 50), camera("slow", 2)]):
        events.append(event)
        if sum(each.source == "slow" for each in events) == 2:
            break
    stop.set()
    assert len(events) > 15


def test_nothing_new_gives_empty_rounds():
    camera = FakeCamera("door")
    rounds = iter(rounds_of(camera))
    start = time.monotonic()
    assert next(rounds).frames == []
    assert 0.1 < time.monotonic() - start < 2
    threading.Timer(0.05, camera.give).start()
    assert [frame.index for frame in next(rounds).frames] == [0]


@pytest.mark.parametrize("status", ["frozen", "lost"])
def test_statuses_come_in_order_with_frames(status: SourceStatus):
    camera = FakeCamera("door")
    rounds = iter(rounds_of(camera))
    now = datetime.now(timezone.utc)
    camera.say("live")
    camera.give(now)
    camera.say(status, "unplugged", now + timedelta(milliseconds=5))
    first = next(rounds)
    assert [line.status for line in first.statuses] == ["live"]
    assert len(first.frames) == 1
    second = next(rounds)
    assert [line.status for line in second.statuses] == [status]
    assert second.frames == []
    camera.say("live", at=now + timedelta(seconds=1))
    camera.give(now + timedelta(seconds=1))
    third = next(rounds)
    assert [line.status for line in third.statuses] == ["live"]
    assert [frame.index for frame in third.frames] == [1]


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        (["connecting"], "source door was not connected at the end"),
        (["live"], None),
        (["live", "lost"], r"source door was lost at 20\d\d-.* UTC: reason of lost"),
        (["live", "lost", "live"], None),
        (["live", "lost", "ended"], "source door was lost"),
        (["live", "ended"], None),
        (["live", "frozen"], None),
        (["paused"], None),
        ([], None),
    ],
)
def test_sources_that_were_not_live_at_the_end_are_failures(statuses: list, message: str | None):
    camera = FakeCamera("door")
    rounds = rounds_of(camera, Paced("yard", 100))
    for status in statuses:
        camera.say(status, f"reason of {status}")
    for _ in zip(range(5), rounds, strict=False):
        pass
    rounds.close()
    broken = rounds.broken()
    if message is None:
        assert broken is None
    else:
        assert broken is not None
        assert broken.args[0].startswith("source door")
        with pytest.raises(SourceBroken, match=message):
            raise broken
    rounds.raise_errors()  # that a camera is away is no error of the iteration


def test_error_of_a_source_in_real_time_comes_after_its_last_frame():
    camera = FakeCamera("clip.mp4")
    rounds = rounds_of(camera, seconds=5.0)
    camera.give()
    camera.end(SourceBroken("clip.mp4 is cut off"))
    assert [len(one.frames) for one in rounds] == [1, 0, 0]
    with pytest.raises(SourceBroken, match="cut off"):
        rounds.raise_errors()


def test_time_is_limited_by_the_clock_if_no_frame_comes():
    start = time.monotonic()
    assert not any(one.frames for one in rounds_of(FakeCamera("door"), FakeCamera("yard"), seconds=0.5))
    assert 0.4 < time.monotonic() - start < 2


def test_sources_are_added_and_removed_by_other_threads(runtime: EmotionRuntime):
    door, yard = Paced("door", 50), Paced("yard", 50)
    rounds = Rounds([door], runtime.timer)
    seen: list[str] = []
    for step in runtime.steps(rounds):
        seen += [event.source for _, event in step.events]
        if len(seen) == 5:
            threading.Thread(target=rounds.add, args=(yard,)).start()
        if seen.count("yard") == 5 and seen[-1] == "yard":
            thread = threading.Thread(target=rounds.remove, args=("door",))
            thread.start()
            thread.join()
            assert "door" in runtime.summary()
            del seen[:]
            seen += ["yard"] * 6
        if seen.count("yard") > 20:
            break
    assert "door" not in seen[8:]
    assert door._stop.is_set()
    with pytest.raises(EmotionError, match="no source 'door'; expected one of: yard"):
        rounds.remove("door")
    with pytest.raises(EmotionError, match=r"same name \(yard\)"):
        rounds.add(FakeCamera("yard"))
    rounds.add(FakeCamera("door"))
    rounds.close()
    with pytest.raises(EmotionError, match="the stream is closed"):
        rounds.add(FakeCamera("late"))


def test_removing_the_last_source_ends_the_stream(runtime: EmotionRuntime):
    rounds = Rounds([Paced("door", 50)], runtime.timer)
    names = []
    for step in runtime.steps(rounds):
        names += [event.source for _, event in step.events]
        if len(names) == 3 and step.events:
            rounds.remove("door")
    assert len(names) == 3


def statuses_of(rounds: Rounds, name: str) -> list[tuple[SourceStatus, str | None]]:
    return [(line.status, line.reason) for one in rounds for line in one.statuses if line.source == name]


@pytest.mark.parametrize("seen", [True, False])
def test_a_removed_live_source_ends_with_the_changes_that_are_left(seen: bool):
    camera, yard = FakeCamera("door"), FakeCamera("yard")
    rounds = rounds_of(camera, yard)
    turns = iter(rounds)
    camera.say("live")
    if seen:
        camera.give(datetime.now(timezone.utc))
    before = next(turns)
    assert [line.status for line in before.statuses] == ["live"]
    camera.say("degraded", "the image is black")
    rounds.remove("door")
    yard.end()
    assert statuses_of(rounds, "door") == [("degraded", "the image is black"), ("ended", "it was removed")]
    assert rounds.close() == []
    assert rounds.broken() is None


def test_a_live_source_whose_time_is_over_ends():
    camera = FakeCamera("door")
    camera.say("live")
    rounds = rounds_of(camera, seconds=0.3)
    assert statuses_of(rounds, "door") == [("live", None), ("ended", "its time is over")]


def test_a_live_source_that_has_ended_by_itself_ends_once():
    camera = FakeCamera("door")
    camera.say("live")
    camera.say("ended", "the video was played to its end")
    rounds = rounds_of(camera, FakeCamera("yard"), seconds=0.3)
    assert [status for status, _ in statuses_of(rounds, "door")] == ["live", "ended"]


def test_a_file_in_real_time_ends_with_a_status():
    played, clip, corrupt = FakeCamera("played.mp4"), FakeCamera("clip.mp4"), FakeCamera("corrupt.mp4")
    rounds = rounds_of(played, clip, corrupt)
    for source in (played, clip, corrupt):
        source.give()
    turns = iter(rounds)
    next(turns)
    played.end()
    corrupt.end(SourceBroken("source corrupt.mp4 failed"))
    rounds.remove("clip.mp4")
    lines = [line for one in rounds for line in one.statuses]
    assert {(line.source, line.status, line.reason) for line in lines} == {
        ("played.mp4", "ended", "it was played to its end"),
        ("corrupt.mp4", "ended", "reading it failed"),
        ("clip.mp4", "ended", "it was removed"),
    }
    assert len(lines) == 3
    assert [str(error) for error in rounds.errors] == ["source corrupt.mp4 failed"]


def test_each_file_of_a_folder_in_real_time_ends_when_the_next_one_begins():
    folder = FakeCamera("clips/")
    rounds = rounds_of(folder)
    lines = []
    for name in ("a.mp4", "b.mp4"):
        folder.name = name
        folder.give()
        lines += next(iter(rounds)).statuses
    folder.end()
    lines += [line for one in rounds for line in one.statuses]
    assert [(line.source, line.status) for line in lines] == [("a.mp4", "ended"), ("b.mp4", "ended")]


def test_sources_are_paused_and_removed_before_their_first_event():
    """Over the interface of the page and over MQTT."""
    door, yard, hall = FakeCamera("door"), FakeCamera("yard"), FakeCamera("hall")
    rounds = rounds_of(door, yard, hall)
    commands = [("home/yard/pause/set", b"ON")]
    broker = SimpleNamespace(failure=None, keep=None, send=None, take_received=lambda: commands)
    options = MqttOptions(
        address=BrokerAddress("localhost", 1883, tls=False, prefix="home"),
        pause=lambda name, paused: (rounds.pause if paused else rounds.resume)(name),
        names=rounds.names,
    )
    assert MqttSink(options, broker).idle()
    cameras = Cameras(rounds, rounds.add, allow_adding=True)
    cameras.pause("door")
    cameras.remove("hall")
    assert (door.calls, yard.calls) == (["pause"], ["pause"])
    cameras.resume("door")
    door.give()
    assert [frame.source for frame in next(iter(rounds)).frames] == ["door"]
    assert rounds.names() == ["door", "yard"]


def test_people_of_a_removed_camera_are_no_longer_published():
    """Over the loop and the sink for MQTT, with a stand-in for the broker."""
    camera, yard, clock = FakeCamera("door"), FakeCamera("yard"), [0.0]
    kept: dict[str, bytes] = {}
    broker = SimpleNamespace(
        failure=None, keep=kept.__setitem__, send=lambda *_: None, take_received=list, close=lambda: None
    )
    address = BrokerAddress("localhost", 1883, tls=False, prefix="home")
    sink = MqttSink(MqttOptions(address=address, every=5.0), broker, lambda: clock[0])
    rounds = rounds_of(camera, yard)
    camera.say("live")
    camera.give()
    for one in rounds:
        for line in one.statuses:
            sink.write_status(line)
        for frame in one.frames:
            one_person = sample_events.event(sample_events.person(1, (0, 0, 9, 9)))
            sink.write(frame, msgspec.structs.replace(one_person, source=frame.source))
            assert json.loads(kept["home/door/state"])["people"] == 1
            rounds.remove("door")
            yard.end()
    state = json.loads(kept.pop("home/door/state"))
    assert (state["status"], state["people"], state["label"]) == ("ended", None, None)
    assert (state["connected"], state["fps"], state["latency_p95_ms"]) == (False, 0.0, None)
    assert json.loads(kept["home/door/status"])["reason"] == "it was removed"
    clock[0] += 60
    sink.idle()
    assert "home/door/state" not in kept  # nothing about it is published again


def test_a_removed_source_starts_over_when_it_is_added_again(tiny_bundle: Path):
    def somebody(_image_bgr: np.ndarray) -> Detections:
        return Detections(np.array([(16, 24, 48, 64)], np.float32), np.array([0.9], np.float32))

    runtime = EmotionRuntime(tiny_bundle, somebody, "cpu")
    rounds = Rounds([Paced("door", 50), Paced("yard", 50)], runtime.timer)
    states: list[str] = []
    added = False
    for step in runtime.steps(rounds):
        for _, event in step.events:
            if event.source == "door":
                states += [person.state for person in event.persons]
        if len(states) > 5 and not added:
            rounds.remove("door")
            rounds.add(Paced("door", 50))
            added = True
            del states[:]
        if added and len(states) > 2:
            break
    rounds.close()
    assert states[0] == "new"


def test_paused_sources_give_nothing_and_files_go_on_where_they_were():
    camera = FakeCamera("door")
    rounds = rounds_of(camera)
    turns = iter(rounds)
    rounds.pause("door")
    camera.give()
    assert next(turns).frames == []
    rounds.resume("door")
    camera.give()
    assert [frame.index for frame in next(turns).frames] == [1]
    assert camera.calls == ["pause", "resume"]

    def file(name: str) -> Iterator[Frame]:
        for index in range(20):
            yield Frame(IMAGE, index, index / 10, name)

    rounds, taken = rounds_of(file("a"), file("b")), []
    for number, one in enumerate(rounds):
        taken.append(" ".join(f"{frame.source}{frame.index}" for frame in one.frames))
        if number == 1:
            rounds.pause("b")
        if number == 4:
            rounds.resume("b")
        if number == 6:
            break
    assert taken == ["a0 b0", "a1 b1", "a2", "a3", "a4", "a5 b2", "a6 b3"]


def test_a_paused_source_that_goes_on_telling_of_frames_does_not_silence_the_loop():
    """Outputs take commands in the empty rounds: nobody could resume a file in real time otherwise."""
    camera = Paced("door", 100)
    rounds = rounds_of(camera)
    turns = iter(rounds)
    rounds.pause("door")
    start = time.monotonic()
    while next(turns).frames:
        assert time.monotonic() - start < 1
    assert next(turns).frames == []
    assert time.monotonic() - start < 1.5
    rounds.close()


def test_hanging_sources_are_closed_within_a_second():
    rounds = rounds_of(*(Hanging(f"camera {index}") for index in range(6)))
    next(iter(rounds))
    start = time.monotonic()
    rounds.close()
    assert time.monotonic() - start < 1.2


def test_stop_ends_a_wait_at_once():
    rounds = rounds_of(FakeCamera("door"))
    turns = iter(rounds)
    threading.Timer(0.05, rounds.stop).start()
    start = time.monotonic()
    assert len(list(turns)) <= 1
    assert time.monotonic() - start < 0.19


def test_a_source_may_change_its_size_and_its_clock(tiny_bundle: Path):
    def somebody(_image_bgr: np.ndarray) -> Detections:
        return Detections(np.array([(16, 24, 48, 64)], np.float32), np.array([0.9], np.float32))

    def restarting() -> Iterator[Frame]:
        for index in range(5):
            yield Frame(IMAGE, index, 100 + index / 10, "door")
        for index in range(5):
            yield Frame(IMAGE[:, :80], 5 + index, index / 10, "door")

    runtime = EmotionRuntime(tiny_bundle, somebody, "cpu")
    events = [event for _, event in runtime.follow([restarting()])]
    assert len(events) == 10
    ids = [[person.id for person in event.persons] for event in events]
    assert ids == [[1]] * 5 + [[2]] * 5  # nobody inherits anything, and no id is used twice
    assert [person.state for person in events[5].persons] == ["new"]
