"""Sources that are added, removed, paused and resumed while a run goes on."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import sample_events
from fake_cameras import IMAGE, FakeCamera, Paced, rounds_of, somebody

from emotion_runtime import EmotionError, EmotionRuntime
from emotion_runtime.rounds import Rounds
from emotion_runtime.sinks.mqtt import MqttSink
from emotion_runtime.sinks.mqtt_options import BrokerAddress, MqttOptions
from emotion_runtime.types import Frame
from emotion_runtime.web.cameras import Cameras


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
