"""JSON lines: written at once, rounded, with any name, and into pipes."""

import json
import subprocess
import sys
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
from sample_events import EMOTIONS, event, frame, person

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.jsonl import JsonlSink
from emotion_runtime.sinks.video import VideoSink
from emotion_runtime.types import Person


def test_lines_are_written_at_once_and_match_the_events(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonlSink(path)
    for index in range(3):
        assert sink.write(frame(index), event(person(1, (1.23456, 2, 3, 4)), frame=index, t=index / 3))
        lines = path.read_text().splitlines()
        assert len(lines) == index + 1  # before the file is closed: nothing is buffered
        line = json.loads(lines[-1])
        assert list(line) == ["schema", "type", "source", "frame", "t", "persons", "latency_ms", "dropped"]
        assert (line["schema"], line["source"], line["frame"], line["dropped"]) == (2, "video.mp4", index, 2)
        assert line["t"] == pytest.approx(index / 3, abs=1e-6)
        assert line["persons"][0]["box"] == pytest.approx([1.23456, 2, 3, 4], abs=0.01)
    sink.close()
    sink.close()
    with pytest.raises(EmotionError, match=r"out\.jsonl: it is closed; make a new JsonlSink to write more"):
        sink.write(frame(3), event())


def test_numbers_are_rounded_and_probabilities_still_sum_to_one(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonlSink(str(path))
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = dict(zip(EMOTIONS, rng.dirichlet(np.full(7, 0.3)).tolist(), strict=True))
        one = Person(
            id=1,
            box=(1 / 3, 1, 2, 2),
            score=1 / 3,
            state="steady",
            top="fear",
            emotions=values,
            raw=values,
            arousal=-1 / 3,
        )
        sink.write(frame(), event(one))
    sink.close()
    for text in path.read_text().splitlines():
        line = json.loads(text)["persons"][0]
        assert sum(line["emotions"].values()) == pytest.approx(1, abs=1e-7)
        assert (line["valence"], line["dominance"]) == (None, None)
        assert line["arousal"] == pytest.approx(-1 / 3, abs=1e-7)
        longest = max(len(str(value).split(".")[-1]) for value in line["raw"].values() if value >= 1e-4)
        assert longest <= 8


def test_names_that_are_not_utf_8_are_written_with_a_replacement(tmp_path: Path) -> None:
    sink = JsonlSink(str(tmp_path / "out.jsonl"))
    for source in ("caf\udce9.mp4", "喜悦.mp4"):
        sink.write(frame(), msgspec.structs.replace(event(), source=source))
    sink.close()
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["source"] for line in lines] == ["caf\ufffd.mp4", "喜悦.mp4"]


@pytest.mark.parametrize("name", ["out-10:30.mp4", "%03d.mp4"])
def test_any_name_can_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    sink = VideoSink(name)
    sink.write(frame(), event())
    sink.close()
    with av.open(f"file:{name}") as container:
        assert len(list(container.decode(video=0))) == 1


def test_lines_on_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sink = JsonlSink("-")
    sink.write(frame(), event(person(1, (0, 0, 9, 9))))
    sink.close()
    sys.stdout.flush()  # closing the sink leaves standard output open
    assert json.loads(capfdbinary.readouterr().out)["persons"][0]["id"] == 1


def test_closed_pipe_ends_writing_quietly() -> None:
    program = (
        "from emotion_runtime.sinks.jsonl import JsonlSink\n"
        "from emotion_runtime.types import EmotionEvent\n"
        "sink = JsonlSink('-')\n"
        "event = EmotionEvent(source='x' * 1000, frame=0, t=0.0, persons=[])\n"
        "while sink.write(None, event): pass\n"
        "sink.close()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline()
        run.stdout.close()
        assert run.stderr.read() == b""
        assert run.wait(30) == 0


@pytest.mark.parametrize("name", ["file/out.jsonl", "."])
def test_jsonl_file_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmotionError, match=r"cannot be (written|created)") as caught:
        JsonlSink(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_full_disk_is_reported() -> None:
    sink = JsonlSink("/dev/full")
    with pytest.raises(EmotionError, match="No space left"):
        sink.write(frame(), event())
