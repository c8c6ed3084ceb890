"""What a live run does with the times of backends: which it takes, and what it says about it."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fake_cameras import nobody
from timed_backends import FAST, SLOW

from emotion_runtime import fastest_backend as fastest
from emotion_runtime.backends.base import Backend, Unavailable
from emotion_runtime.bundle import Bundle
from emotion_runtime.cli import main
from emotion_runtime.detectors import Detector
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.fastest_backend import TimedChoice, TimedWay, best
from emotion_runtime.names import Precision
from emotion_runtime.sinks.jsonl_folder import unfinished
from emotion_runtime.types import RunLine


def test_another_backend_must_save_a_tenth_of_the_time():
    cpu = TimedWay("cpu", 1, 10.0)
    assert best([TimedWay("openvino", 1, 8.9), cpu]).backend == "openvino"
    assert best([TimedWay("openvino", 1, 9.1), cpu]).backend == "cpu"
    assert best([TimedWay("cpu", 1, 0.0)]).backend == "cpu"


def test_more_threads_must_take_little_more_than_half_of_the_time():
    one = TimedWay("cpu", 1, 18.0)
    assert best([one, TimedWay("cpu", 2, 10.0)]).threads == 2
    assert best([TimedWay("cpu", 2, 10.1), one]).threads == 1
    # The threads are chosen first: a backend that needs one thread is worth more than two busy ones.
    assert best([one, TimedWay("cpu", 2, 9.0), TimedWay("cuda", 0, 8.0)]).backend == "cuda"


@pytest.mark.parametrize("realtime", [True, False])
def test_only_live_runs_are_timed_and_say_so(
    tiny_bundle: Path, fixed_detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, realtime: bool
):
    def choose(_bundle: Bundle, _detector: Detector, _precision: Precision | None) -> TimedChoice:
        return TimedChoice([], [TimedWay("cpu", 1, 1.5), TimedWay("openvino", 2, 2.5)], [], [])

    monkeypatch.setattr(fastest, "fastest_backend", choose)
    arguments = ["--source", "demo", "--bundle", str(tiny_bundle), "--detector", str(fixed_detector)]
    arguments += ["--max-frames", "2", "--jsonl", str(tmp_path / "out.jsonl")]
    assert main([*arguments, *(["--realtime"] if realtime else [])]) == 0
    options = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])["options"]
    times = {"encoders": {"cpu, 1 thread": 1.5, "openvino, 2 threads": 2.5}}
    assert options.get("backend_milliseconds") == (times if realtime else None)
    assert options.get("backend") == ("cpu" if realtime else None)


def test_detector_and_encoders_run_each_in_its_best_way(
    tiny_bundle: Path, face: CenterFace, monkeypatch: pytest.MonkeyPatch
):
    from emotion_runtime import EmotionRuntime  # noqa: PLC0415

    pytest.importorskip("openvino")
    choice = TimedChoice([], [SLOW], [FAST, SLOW], [])
    monkeypatch.setattr(fastest, "fastest_backend", lambda *_: choice)
    with EmotionRuntime(tiny_bundle, face, live=True) as runtime:
        runtime.step(np.zeros((192, 320, 3), np.uint8), 0.0)
        assert runtime.backend.endswith("CPUExecutionProvider, 1 thread")
        assert "OpenVINO" in face.network.description
        assert "1 thread" in face.network.description
        options = runtime.run_line().options
    assert (options["backend"], options["threads"]) == ("cpu", 1)
    assert (options["detector_backend"], options["detector_threads"]) == ("openvino", 1)
    assert options["backend_milliseconds"]["detector"] == {"openvino, 1 thread": 1.0, "cpu, 1 thread": 2.0}
    face.network = face.reference


def test_a_choice_that_no_longer_opens_is_replaced_and_the_run_line_says_by_what(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    from emotion_runtime import EmotionRuntime, open_backend  # noqa: PLC0415

    def broken(_graph: object, *, threads: int) -> Backend:
        assert threads == 1
        raise Unavailable("openvino", "OpenVINO does not start", broken=True)

    choice = TimedChoice([], [FAST, SLOW], [], [])
    monkeypatch.setattr(fastest, "fastest_backend", lambda *_: choice)
    monkeypatch.setattr(open_backend, "OpenVinoBackend", broken)
    with EmotionRuntime(tiny_bundle, nobody, live=True) as runtime:
        assert "CPUExecutionProvider" in runtime.backend
        assert runtime.run_line({"jsonl": "-"}).options == {
            "backend": "cpu",
            "threads": 1,
            "backend_milliseconds": {"encoders": {"openvino, 1 thread": 1.0, "cpu, 1 thread": 2.0}},
            "jsonl": "-",
        }
    assert any("OpenVINO does not start" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("before", "redone"),
    [
        (TimedChoice([], [FAST, SLOW], [FAST, SLOW], []).options("openvino"), False),
        ({"backend": "openvino"}, True),  # that was requested
        ({}, False),
    ],
)
def test_results_do_not_become_unfinished_because_another_backend_is_faster(
    tmp_path: Path, before: dict[str, object], redone: bool
):
    def line(options: dict[str, object]) -> RunLine:
        return RunLine(version="1", bundle="nano", bundle_sha256="0" * 64, head="probe", options=options)

    (tmp_path / "people.mp4.jsonl").write_bytes(msgspec.json.encode(line(before)) + b"\n")
    run = line(TimedChoice([], [SLOW], [SLOW], []).options("cpu"))
    assert unfinished({"people.mp4": tmp_path / "people.mp4"}, tmp_path, run) == (
        ["people.mp4"] if redone else []
    )
