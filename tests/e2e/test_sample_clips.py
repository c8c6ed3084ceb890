"""The shipped model and detector on real people: the command as the README has it, from file to files."""

import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from emotion_runtime import EmotionRuntime
from emotion_runtime.bundle import load_bundle
from emotion_runtime.cli import main
from emotion_runtime.heads import load_head
from emotion_runtime.pipeline import Timing

pytestmark = pytest.mark.slow

EKMAN = {"anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"}
# Counted by eye. Everybody is in sight from the first frame to the last.
PERSONS = {
    "intel_face-demographics-walking-and-pause.gif": 3,
    "intel_head-pose-face-detection-female-and-male.gif": 2,
}


@dataclass(frozen=True)
class Ran:
    clip: Path
    persons: int
    jsonl: bytes
    record: Path

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.jsonl.splitlines()]


@pytest.fixture(scope="module", params=PERSONS)
def ran(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    clip, folder = shared_data / "videos" / request.param, tmp_path_factory.mktemp("ran")
    jsonl, record = folder / "out.jsonl", folder / "out.mp4"
    assert main(["--source", str(clip), "--jsonl", str(jsonl), "--record", str(record)]) == 0
    return Ran(clip, PERSONS[request.param], jsonl.read_bytes(), record)


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def test_everybody_keeps_one_number_from_the_third_frame_to_the_last(ran: Ran):
    everybody = list(range(1, ran.persons + 1))
    assert [[person["id"] for person in event["persons"]] for event in ran.events[2:]] == [everybody] * (
        len(ran.events) - 2
    )
    for number in range(ran.persons):  # and stands where they stood: no two change places
        centers = np.array(
            [[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2] for box in boxes_of(ran.events[2:], number)]
        )
        widths = np.array([box[2] - box[0] for box in boxes_of(ran.events[2:], number)])
        assert (np.abs(np.diff(centers, axis=0)).max(axis=1) < widths[1:]).all()


def boxes_of(events: list[dict], number: int) -> list[list[float]]:
    return [event["persons"][number]["box"] for event in events]


def test_everybody_warms_up_once_and_then_always_has_a_distribution(ran: Ran):
    likely = load_head(load_bundle("nano")).abstain
    for number in range(ran.persons):
        told = [event["persons"][number] for event in ran.events[2:]]
        states = [person["state"] for person in told]
        warm = states.index("steady")
        assert 0 < warm < len(states)
        assert set(states[:warm]) == {"warming"}
        assert set(states[warm:]) == {"steady"}
        for person in told[warm:]:
            for values in (person["emotions"], person["raw"]):
                assert set(values) == EKMAN
                assert min(values.values()) >= 0
                assert sum(values.values()) == pytest.approx(1, abs=1e-6)
            if max(person["emotions"].values()) < likely - Timing().hysteresis:
                assert person["top"] is None  # nothing is likely enough to be said
            elif max(person["emotions"].values()) >= likely + Timing().hysteresis:
                assert person["top"] in EKMAN


def test_a_second_run_writes_the_same_bytes(ran: Ran, tmp_path: Path):
    again = tmp_path / "again.jsonl"
    assert main(["--source", str(ran.clip), "--jsonl", str(again)]) == 0
    assert again.read_bytes() == ran.jsonl


def test_python_sees_what_the_command_wrote(ran: Ran):
    events = list(EmotionRuntime(bundle="nano").stream(ran.clip))
    assert len(events) == len(ran.events)
    for event, line in zip(events, ran.events, strict=True):
        assert (event.frame, len(event.persons)) == (line["frame"], len(line["persons"]))
        for person, written in zip(event.persons, line["persons"], strict=True):
            assert (person.id, person.state, person.top) == (written["id"], written["state"], written["top"])
            assert person.emotions == pytest.approx(written["emotions"], abs=1e-7)


def test_the_recording_is_the_clip_with_everybody_marked(ran: Ran):
    originals, recorded = pictures(ran.clip), pictures(ran.record)
    assert len(recorded) == len(originals) == len(ran.events)
    height, width = originals[0].shape[:2]
    assert (height, width) == (270, 480)
    last, event = recorded[-1].astype(int) - originals[-1], ran.events[-1]
    for person in event["persons"]:
        x1, y1, x2, y2 = (round(side) for side in person["box"])
        inside = np.abs(last[y1 + 6 : y2 - 6, x1 + 6 : x2 - 6])
        edge = np.abs(last[y1 - 1 : y2 + 1, x1 - 1 : x1 + 2])
        assert edge.mean() > 15  # a line along the whole side
        assert inside.mean() < 8  # and the face left alone, up to what H.264 costs
    quiet = np.abs(recorded[0].astype(int) - originals[0])  # nobody is confirmed yet: nothing drawn
    assert quiet.mean() < 4
