"""The shipped model and detector on real people: the command of the README, from a video to its outputs."""

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
from emotion_runtime.timing import Timing

pytestmark = pytest.mark.slow

EKMAN = {"anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"}
# Counted by hand. Everybody is visible from the first frame to the last.
PERSONS = {
    "intel_face-demographics-walking-and-pause.gif": 3,
    "intel_head-pose-face-detection-female-and-male.gif": 2,
}


@dataclass(frozen=True)
class FinishedRun:
    clip: Path
    persons: int
    jsonl: bytes
    record: Path

    @property
    def events(self) -> list[dict]:
        _, *frames = map(json.loads, self.jsonl.splitlines())  # the first line is about the run
        return frames


@pytest.fixture(scope="module", params=PERSONS)
def finished(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> FinishedRun:
    clip, folder = shared_data / "videos" / request.param, tmp_path_factory.mktemp("finished")
    jsonl, record = folder / "out.jsonl", folder / "out.mp4"
    assert main(["--source", str(clip), "--jsonl", str(jsonl), "--record", str(record)]) == 0
    return FinishedRun(clip, PERSONS[request.param], jsonl.read_bytes(), record)


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def test_everybody_keeps_one_id_from_the_first_frame_to_the_last(finished: FinishedRun):
    everybody = list(range(1, finished.persons + 1))
    ids = [[person["id"] for person in event["persons"]] for event in finished.events]
    assert ids == [everybody] * len(finished.events)
    for index in range(finished.persons):  # and moves little: no two people swap their ids
        centers = np.array(
            [[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2] for box in boxes_of(finished.events, index)]
        )
        widths = np.array([box[2] - box[0] for box in boxes_of(finished.events, index)])
        assert (np.abs(np.diff(centers, axis=0)).max(axis=1) < widths[1:]).all()


def boxes_of(events: list[dict], index: int) -> list[list[float]]:
    return [event["persons"][index]["box"] for event in events]


def test_everybody_warms_up_once_and_then_has_probabilities_in_every_frame(finished: FinishedRun):
    threshold = load_head(load_bundle("nano")).abstain
    for index in range(finished.persons):
        persons = [event["persons"][index] for event in finished.events]
        states = [person["state"] for person in persons]
        warm = states.index("steady")
        assert states[:warm] == ["new"] * 2 + ["warming"] * (warm - 2)
        assert set(states[warm:]) == {"steady"}
        assert finished.events[warm]["t"] <= 0.8
        assert {person["top"] for person in persons[:warm]} == {None}
        assert all((person["top"] is None) == (person["why"] is not None) for person in persons)
        for person in persons:
            for values in (person["emotions"], person["raw"]):
                assert set(values) == EKMAN
                assert min(values.values()) >= 0
                assert sum(values.values()) == pytest.approx(1, abs=1e-6)
        for person in persons[warm:]:
            if person["top"]:
                assert person["emotions"][person["top"]] >= threshold
            elif max(person["emotions"].values()) >= threshold + Timing().hysteresis:
                assert person["why"] not in (None, "uncertain", "warming")


def test_second_run_writes_identical_jsonl(finished: FinishedRun, tmp_path: Path):
    again = tmp_path / "again.jsonl"
    assert main(["--source", str(finished.clip), "--jsonl", str(again)]) == 0
    assert again.read_bytes() == finished.jsonl


def test_python_api_gives_the_events_that_the_command_wrote(finished: FinishedRun):
    events = list(EmotionRuntime(bundle="nano").stream(finished.clip))
    assert len(events) == len(finished.events)
    for event, line in zip(events, finished.events, strict=True):
        assert (event.frame, len(event.persons)) == (line["frame"], len(line["persons"]))
        for person, written in zip(event.persons, line["persons"], strict=True):
            assert (person.id, person.state, person.top) == (written["id"], written["state"], written["top"])
            assert person.emotions == pytest.approx(written["emotions"], abs=1e-7)


def test_recording_shows_the_clip_with_everybody_marked(finished: FinishedRun):
    originals, recorded = decoded(finished.clip), decoded(finished.record)
    assert len(recorded) == len(originals) == len(finished.events)
    height, width = originals[0].shape[:2]
    assert (height, width) == (270, 480)
    last, event = recorded[-1].astype(int) - originals[-1], finished.events[-1]
    for person in event["persons"]:
        x1, y1, x2, y2 = (round(side) for side in person["box"])
        inside = np.abs(last[y1 + 6 : y2 - 6, x1 + 6 : x2 - 6])
        edge = np.abs(last[y1 - 1 : y2 + 1, x1 - 1 : x1 + 2])
        assert edge.mean() > 15  # a line along the whole side
        assert inside.mean() < 8  # the face is unchanged, up to H.264 compression
