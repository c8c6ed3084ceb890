"""Live sources run on the backend that is fastest on this machine, among those that pass the parity check."""

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from fake_cameras import nobody

from emotion_runtime import backend_times
from emotion_runtime import fastest_backend as fastest
from emotion_runtime.backends.base import Backend, Feeds, Outputs, Unavailable, count_persons
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.cli import main
from emotion_runtime.detectors import Detector
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.errors import EmotionError
from emotion_runtime.fastest_backend import TimedChoice, TimedWay, best, fastest_backend
from emotion_runtime.names import Precision
from emotion_runtime.open_backend import open_encoders
from emotion_runtime.sinks.jsonl_folder import unfinished
from emotion_runtime.tensorrt import cache
from emotion_runtime.tensorrt.open_engines import MissingEngine
from emotion_runtime.types import RunLine


class Stand:
    """A backend that takes its time; a wrong one negates all outputs."""

    def __init__(self, name: str, backend: Backend, seconds: float, *, wrong: bool) -> None:
        self.name, self.description = name, f"stand-in for {name}"
        self._backend, self._seconds, self._wrong = backend, seconds, wrong

    def run(self, feeds: Feeds) -> Outputs:
        time.sleep(self._seconds)
        outputs = self._backend.run(feeds)
        return {name: -value if self._wrong else value for name, value in outputs.items()}

    def close(self) -> None:
        """Do nothing."""


class Closing(Stand):
    """A backend that runs out of memory with more than two people, and counts how often it is closed."""

    closed = 0

    def run(self, feeds: Feeds) -> Outputs:
        if count_persons(feeds) > backend_times.PERSONS:
            raise EmotionError("out of memory")
        return super().run(feeds)

    def close(self) -> None:
        Closing.closed += 1


SECONDS = {"cpu": 0.02, "openvino": 0.0, "cuda": 0.0}
FAST, SLOW = TimedWay("openvino", 1, 1.0), TimedWay("cpu", 1, 2.0)


def backends(choice: TimedChoice | None) -> set[str]:
    assert choice is not None
    return {way.backend for way in choice.encoders}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of what is opened: a fast cuda that is wrong, a fast openvino, and a slow cpu."""
    opened: list[str] = []

    def opens(name: str, bundle: Bundle, precision: Precision | None, **_options: int) -> list[Backend]:
        opened.append(name)
        if name.startswith("tensorrt"):
            raise Unavailable(name, "no usable GPU found")
        real = open_encoders("cpu", bundle, precision)
        return [Stand(name, each, SECONDS[name], wrong=name == "cuda") for each in real]

    monkeypatch.setattr(backend_times, "open_and_try", opens)
    monkeypatch.setattr(backend_times, "default_threads", lambda: 2)
    monkeypatch.setattr(fastest, "_is_installed", lambda _: True)
    monkeypatch.setattr(backend_times, "_ROUNDS", 3)
    monkeypatch.setenv("EMOTION_ENGINE_CACHE", str(tmp_path / "cache"))
    return opened


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names that are measured, of which only openvino and cpu work; nothing is run."""
    names: list[str] = []

    def measure(*arguments: object) -> backend_times.Measured:
        names.extend(arguments[-1])  # type: ignore[arg-type]  # the candidates
        return backend_times.Measured([("openvino", 1, 1.0), ("cpu", 1, 2.0)])

    monkeypatch.setattr(fastest, "_is_installed", lambda name: name in ("openvino", "cpu"))
    monkeypatch.setattr(backend_times, "measure", measure)
    monkeypatch.setenv("EMOTION_ENGINE_CACHE", str(tmp_path / "cache"))
    return names


@pytest.fixture(scope="module")
def face() -> CenterFace:
    return CenterFace(threads=1)


def only_file(folder: Path) -> Path:
    (file,) = (folder / "cache").glob("backend-*.json")
    return file


def test_the_fastest_that_passes_is_chosen_once(
    machine: list[str], tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    bundle = load_bundle(tiny_bundle)
    choice = fastest_backend(bundle, nobody, None)
    assert choice is not None
    assert best(choice.encoders).backend == "openvino"
    # cuda is wrong, and TensorRT is not available
    assert [(way.backend, way.threads) for way in choice.encoders] == [
        ("openvino", 1),
        ("openvino", 2),
        ("cpu", 1),
        ("cpu", 2),
    ]
    assert choice.encoders[-1].milliseconds >= 2000 * SECONDS["cpu"]
    assert choice.detector == []
    (warning,) = [line for line in caplog.messages if "is not used" in line]
    assert warning.startswith("backend auto: cuda is not used: stand-in for cuda: fp32 differs")
    machine.clear()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert fastest_backend(bundle, nobody, None) == choice
    assert machine == []
    assert caplog.messages == [warning]
    assert only_file(tmp_path).stat().st_mode & 0o022 == 0


@pytest.mark.parametrize(
    "content",
    [
        b'{"measured_on',
        b"",
        b"[]",
        b'{"measured_on": ["another machine"], "encoders": [CPU], "detector": [], "skipped": []}',
        b'{"measured_on": SAME, "encoders": [NPU], "detector": [], "skipped": []}',
        b'{"measured_on": SAME, "encoders": [], "detector": [], "skipped": []}',
        b'{"measured_on": SAME, "encoders": [OPENVINO], "detector": [], "skipped": []}',
        b'{"measured_on": SAME, "encoders": [CPU], "detector": [OPENVINO], "skipped": []}',
        b'{"measured_on": SAME, "encoders": [CPU, NEGATIVE], "detector": [], "skipped": []}',
        b'{"measured_on": SAME, "encoders": [CPU], "detector": []}',
        b'{"measured_on": SAME, "milliseconds": {"cpu": 1.0}, "skipped": []}',  # of an earlier version
    ],
)
def test_a_damaged_or_foreign_file_is_measured_again(
    measured: list[str], tiny_bundle: Path, tmp_path: Path, content: bytes
):
    first = fastest_backend(load_bundle(tiny_bundle), nobody, None)
    assert first is not None
    ways = {"CPU": SLOW, "OPENVINO": FAST, "NEGATIVE": TimedWay("cuda", 0, -1.0)}
    ways["NPU"] = TimedWay("npu", 0, 1.0)  # type: ignore[arg-type]  # there is no such backend
    for name, value in {"SAME": first.measured_on, **ways}.items():
        content = content.replace(name.encode(), msgspec.json.encode(value))
    only_file(tmp_path).write_bytes(content)
    measured.clear()
    assert fastest_backend(load_bundle(tiny_bundle), nobody, None) == first
    assert measured == ["openvino", "cpu"]
    assert msgspec.json.decode(only_file(tmp_path).read_bytes(), type=TimedChoice) == first


@pytest.mark.usefixtures("machine")
def test_a_backend_that_fails_is_skipped_closed_and_tried_again(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def opens(name: str, bundle: Bundle, precision: Precision | None, *, threads: int) -> list[Backend]:
        if name == "cuda":
            real = open_encoders("cpu", bundle, precision)
            return [Closing(name, each, 0.0, wrong=False) for each in real]
        if name == "openvino":
            raise RuntimeError("unsupported\n operation")
        if name.startswith("tensorrt"):
            raise Unavailable(name, "the GPU's memory is full", broken=name == "tensorrt")
        return works(name, bundle, precision, threads=threads)

    works = backend_times.open_and_try
    monkeypatch.setattr(backend_times, "open_and_try", opens)
    monkeypatch.setattr(Closing, "closed", 0)
    assert backends(fastest_backend(load_bundle(tiny_bundle), nobody, None)) == {"cpu"}
    assert Closing.closed == 2
    # Whether less than warnings are logged depends on the tests before.
    warnings = [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING]
    assert warnings == [
        "backend auto: the GPU's memory is full",
        "backend auto: cuda is not used: out of memory",
        "backend auto: openvino is not used: unsupported operation",
    ]
    monkeypatch.setattr(backend_times, "open_and_try", works)
    again = fastest_backend(load_bundle(tiny_bundle), nobody, None)
    assert again is not None
    assert best(again.encoders).backend == "openvino"
    assert only_file(tmp_path).exists()


@pytest.mark.usefixtures("machine")
def test_an_error_of_the_cpu_is_not_hidden(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    def opens(*_: object, **_options: object) -> list[Backend]:
        raise EmotionError("no graph of this precision")

    monkeypatch.setattr(backend_times, "open_and_try", opens)
    with pytest.raises(EmotionError, match="no graph of this precision"):
        fastest_backend(load_bundle(tiny_bundle), nobody, None)


@pytest.mark.usefixtures("machine")
def test_each_start_says_how_to_build_missing_engines(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def opens(name: str, bundle: Bundle, precision: Precision | None, *, threads: int) -> list[Backend]:
        if name == "tensorrt":
            raise MissingEngine(name, "no engine of frame_encoder", fix="emotion-export trt --bundle nano")
        return works(name, bundle, precision, threads=threads)

    works = backend_times.open_and_try
    monkeypatch.setattr(backend_times, "open_and_try", opens)
    monkeypatch.setattr(fastest, "_is_installed", lambda name: name in ("tensorrt", "cpu"))
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert fastest_backend(load_bundle(tiny_bundle), nobody, None) is not None
        line = "backend auto: no engine of frame_encoder: emotion-export trt --bundle nano"
        assert caplog.messages.count(line) == 1


def test_openvino_is_measured_with_the_shipped_detector(
    tiny_bundle: Path,
    tmp_path: Path,
    face: CenterFace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    pytest.importorskip("openvino")
    monkeypatch.setattr(fastest, "_is_installed", lambda name: name in ("openvino", "cpu"))
    monkeypatch.setattr(backend_times, "_ROUNDS", 1)
    monkeypatch.setattr(backend_times, "_SIZE", (192, 320))
    monkeypatch.setenv("EMOTION_ENGINE_CACHE", str(tmp_path / "cache"))
    with caplog.at_level(logging.INFO):
        choice = fastest_backend(load_bundle(tiny_bundle), face, None)
    assert choice is not None
    assert backends(choice) == {"openvino", "cpu"}
    assert {way.backend for way in choice.detector} == {"openvino", "cpu"}
    assert len(caplog.messages) == 4  # the candidates, their times for both parts, and where they are kept
    assert face.network is face.reference


def newer_onnxruntime(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    real = fastest.importlib.metadata.version
    monkeypatch.setattr(
        fastest.importlib.metadata, "version", lambda name: "99.0" if name == "onnxruntime" else real(name)
    )


def another_cpu(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    listing = folder / "cpuinfo"
    listing.write_text("processor : 0\nmodel name : Other\n\nprocessor : 1\nmodel name : Other\n")
    monkeypatch.setattr(fastest, "_CPUINFO", listing)


def fewer_cores(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    monkeypatch.setattr(fastest, "default_threads", lambda: 99)


def a_new_engine(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    engine = SimpleNamespace(key=SimpleNamespace(stem="frame_encoder-0123"), sha256="0" * 64)
    monkeypatch.setattr(cache, "read_sidecars", lambda _folder: [engine])


@pytest.mark.parametrize("change", [newer_onnxruntime, another_cpu, fewer_cores, a_new_engine])
def test_another_machine_measures_for_itself(
    measured: list[str],
    tiny_bundle: Path,
    face: CenterFace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[pytest.MonkeyPatch, Path], None],
):
    monkeypatch.setattr(fastest, "_is_installed", lambda name: name in ("cuda", "cpu"))
    bundle = load_bundle(tiny_bundle)
    assert fastest_backend(bundle, face, None) == fastest_backend(bundle, face, None)
    assert measured.count("cpu") == 1
    fastest_backend(bundle, face, "int8")
    fastest_backend(bundle, nobody, None)
    fastest_backend(bundle, CenterFace(threads=1, long_side=160), None)
    assert measured.count("cpu") == 4
    change(monkeypatch, tmp_path)
    fastest_backend(bundle, face, None)
    assert measured.count("cpu") == 5


@pytest.mark.usefixtures("measured")
def test_a_cache_folder_that_cannot_be_written_costs_one_warning(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMOTION_ENGINE_CACHE", str(tmp_path / "file" / "cache"))
    choice = fastest_backend(load_bundle(tiny_bundle), nobody, None)
    assert choice is not None
    (warning,) = [line for line in caplog.messages if "cannot be kept" in line]
    assert warning.startswith("the times of the backends cannot be kept, so the next start measures again: ")


@pytest.mark.usefixtures("measured")
def test_two_at_once_leave_one_whole_file(tiny_bundle: Path, tmp_path: Path):
    bundle, found = load_bundle(tiny_bundle), list[TimedChoice | None]()
    threads = [
        threading.Thread(target=lambda: found.append(fastest_backend(bundle, nobody, None))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(choice and best(choice.encoders) == FAST for choice in found)
    assert msgspec.json.decode(only_file(tmp_path).read_bytes(), type=TimedChoice) in found


def test_the_detector_is_timed_too_and_runs_as_before(
    tiny_bundle: Path, tmp_path: Path, face: CenterFace, monkeypatch: pytest.MonkeyPatch
):
    used: list[tuple[str, object]] = []

    def run_network(detector: CenterFace, name: str, **options: object) -> object:
        used.append((name, options["threads"]))
        return detector.reference

    feeds = {"persons": np.zeros(backend_times.PERSONS)}
    check = SimpleNamespace(feeds=[[feeds]], run=lambda *_: ([], ""))
    encoder = SimpleNamespace(run=lambda _feeds: {}, close=lambda: None)
    monkeypatch.setattr(backend_times, "make_parity_check", lambda *_: check)
    monkeypatch.setattr(backend_times, "open_and_try", lambda *_, **_options: [encoder, encoder])
    monkeypatch.setattr(backend_times, "default_threads", lambda: 3)
    monkeypatch.setattr(fastest, "_is_installed", lambda name: name in ("openvino", "cpu"))
    monkeypatch.setenv("EMOTION_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(backend_times, "run_network", run_network)
    monkeypatch.setattr(backend_times, "_SIZE", (96, 160))
    before = face.network = object()  # type: ignore[assignment]  # anything but the reference
    choice = fastest_backend(load_bundle(tiny_bundle), face, None)
    assert choice is not None
    assert used == [("openvino", 1), ("openvino", 3), ("cpu", 1), ("cpu", 3)]
    assert [(way.backend, way.threads) for way in choice.detector] == used
    assert face.network is before
    face.network = face.reference


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


@pytest.mark.parametrize(("cores", "measured"), [(1, False), (2, True)])
def test_with_one_backend_only_threads_are_timed(
    machine: list[str],
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    measured: bool,
):
    monkeypatch.setattr(fastest, "_is_installed", lambda name: name == "cpu")
    monkeypatch.setattr(fastest, "default_threads", lambda: cores)
    assert (fastest_backend(load_bundle(tiny_bundle), nobody, None) is not None) is measured
    assert machine == ["cpu", "cpu"] * measured
    assert (tmp_path / "cache").exists() is measured


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
    monkeypatch.setitem(open_backend._GRAPH_BACKENDS, "openvino", broken)
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
    assert unfinished(["people.mp4"], tmp_path, run) == (["people.mp4"] if redone else [])
