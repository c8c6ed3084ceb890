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

from emotion_runtime import backend_times
from emotion_runtime import fastest_backend as fastest
from emotion_runtime.backends.base import Backend, Feeds, Outputs, Unavailable, count_persons
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.cli import main
from emotion_runtime.detectors import Detector
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.errors import EmotionError
from emotion_runtime.fastest_backend import TimedChoice, fastest_backend
from emotion_runtime.names import Precision
from emotion_runtime.open_backend import open_encoders
from emotion_runtime.sinks.jsonl_folder import unfinished
from emotion_runtime.tensorrt import cache
from emotion_runtime.tensorrt.open_engines import MissingEngine
from emotion_runtime.types import Detections, RunLine


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


def nobody(_image_bgr: np.ndarray) -> Detections:
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of what is opened: a fast cuda that is wrong, a fast openvino, and a slow cpu."""
    opened: list[str] = []

    def opens(name: str, bundle: Bundle, precision: Precision | None) -> list[Backend]:
        opened.append(name)
        if name.startswith("tensorrt"):
            raise Unavailable(name, "no usable GPU found")
        real = open_encoders("cpu", bundle, precision)
        return [Stand(name, each, SECONDS[name], wrong=name == "cuda") for each in real]

    monkeypatch.setattr(backend_times, "open_and_try", opens)
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
        return backend_times.Measured({"openvino": 1.0, "cpu": 2.0})

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
    assert choice.backend == "openvino"
    assert set(choice.milliseconds) == {"openvino", "cpu"}  # cuda is wrong, and TensorRT is not available
    assert choice.milliseconds["cpu"] >= 2000 * SECONDS["cpu"]
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
        b'{"measured_on": ["another machine"], "milliseconds": {"cpu": 1.0}, "skipped": []}',
        b'{"measured_on": [], "milliseconds": {"npu": 1.0}, "skipped": []}',
        b'{"measured_on": SAME, "milliseconds": {"openvino": 1.0}, "skipped": []}',
        b'{"measured_on": [], "milliseconds": {"cpu": -1.0}, "skipped": []}',
        b'{"measured_on": [], "milliseconds": {"cpu": null}, "skipped": []}',
        b'{"measured_on": SAME, "milliseconds": {"cpu": 1.0}}',
    ],
)
def test_a_damaged_or_foreign_file_is_measured_again(
    measured: list[str], tiny_bundle: Path, tmp_path: Path, content: bytes
):
    first = fastest_backend(load_bundle(tiny_bundle), nobody, None)
    assert first is not None
    only_file(tmp_path).write_bytes(content.replace(b"SAME", msgspec.json.encode(first.measured_on)))
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
    def opens(name: str, bundle: Bundle, precision: Precision | None) -> list[Backend]:
        if name == "cuda":
            real = open_encoders("cpu", bundle, precision)
            return [Closing(name, each, 0.0, wrong=False) for each in real]
        if name == "openvino":
            raise RuntimeError("unsupported\n operation")
        if name.startswith("tensorrt"):
            raise Unavailable(name, "the GPU's memory is full", broken=name == "tensorrt")
        return works(name, bundle, precision)

    works = backend_times.open_and_try
    monkeypatch.setattr(backend_times, "open_and_try", opens)
    monkeypatch.setattr(Closing, "closed", 0)
    choice = fastest_backend(load_bundle(tiny_bundle), nobody, None)
    assert choice is not None
    assert set(choice.milliseconds) == {"cpu"}
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
    assert again.backend == "openvino"
    assert only_file(tmp_path).exists()


@pytest.mark.usefixtures("machine")
def test_an_error_of_the_cpu_is_not_hidden(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    def opens(*_: object) -> list[Backend]:
        raise EmotionError("no graph of this precision")

    monkeypatch.setattr(backend_times, "open_and_try", opens)
    with pytest.raises(EmotionError, match="no graph of this precision"):
        fastest_backend(load_bundle(tiny_bundle), nobody, None)


@pytest.mark.usefixtures("machine")
def test_each_start_says_how_to_build_missing_engines(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def opens(name: str, bundle: Bundle, precision: Precision | None) -> list[Backend]:
        if name == "tensorrt":
            raise MissingEngine(name, "no engine of frame_encoder", fix="emotion-export trt --bundle nano")
        return works(name, bundle, precision)

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
    assert set(choice.milliseconds) == {"openvino", "cpu"}
    assert len(caplog.messages) == 2  # the candidates and their times
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
    assert {choice.backend for choice in found if choice} == {"openvino"}
    assert msgspec.json.decode(only_file(tmp_path).read_bytes(), type=TimedChoice) in found


def test_the_detector_is_timed_too_and_runs_as_before(
    tiny_bundle: Path, tmp_path: Path, face: CenterFace, monkeypatch: pytest.MonkeyPatch
):
    used: list[str] = []

    def run_like(detector: CenterFace, name: str, **_options: object) -> object:
        used.append(name)
        return detector.reference

    feeds = {"persons": np.zeros(backend_times.PERSONS)}
    check = SimpleNamespace(feeds=[[feeds]], run=lambda *_: ([], ""))
    encoder = SimpleNamespace(run=lambda _feeds: {}, close=lambda: None)
    monkeypatch.setattr(backend_times, "make_parity_check", lambda *_: check)
    monkeypatch.setattr(backend_times, "open_and_try", lambda *_: [encoder, encoder])
    monkeypatch.setattr(fastest, "_is_installed", lambda name: name in ("openvino", "cpu"))
    monkeypatch.setenv("EMOTION_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(backend_times, "run_like_encoders", run_like)
    monkeypatch.setattr(backend_times, "_SIZE", (96, 160))
    before = face.network = object()  # type: ignore[assignment]  # anything but the reference
    assert fastest_backend(load_bundle(tiny_bundle), face, None) is not None
    assert used == ["openvino", "cpu"]
    assert face.network is before
    face.network = face.reference


def test_another_backend_must_save_a_tenth_of_the_time():
    assert TimedChoice([], {"openvino": 8.9, "cpu": 10.0}, []).backend == "openvino"
    assert TimedChoice([], {"openvino": 9.1, "cpu": 10.0}, []).backend == "cpu"
    assert TimedChoice([], {"cpu": 0.0}, []).backend == "cpu"


def test_with_one_backend_there_is_nothing_to_time(
    machine: list[str], tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fastest, "_is_installed", lambda name: name == "cpu")
    assert fastest_backend(load_bundle(tiny_bundle), nobody, None) is None
    assert machine == []
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("realtime", [True, False])
def test_only_live_runs_are_timed_and_say_so(
    tiny_bundle: Path, fixed_detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, realtime: bool
):
    def choose(_bundle: Bundle, _detector: Detector, _precision: Precision | None) -> TimedChoice:
        return TimedChoice([], {"cpu": 1.5, "openvino": 2.5}, [])

    monkeypatch.setattr(fastest, "fastest_backend", choose)
    arguments = ["--source", "demo", "--bundle", str(tiny_bundle), "--detector", str(fixed_detector)]
    arguments += ["--max-frames", "2", "--jsonl", str(tmp_path / "out.jsonl")]
    assert main([*arguments, *(["--realtime"] if realtime else [])]) == 0
    options = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])["options"]
    assert options.get("backend_milliseconds") == ({"cpu": 1.5, "openvino": 2.5} if realtime else None)
    assert options.get("backend") == ("cpu" if realtime else None)


def test_a_choice_that_no_longer_opens_is_replaced_and_the_run_line_says_by_what(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    from emotion_runtime import EmotionRuntime, open_backend  # noqa: PLC0415

    def broken(_graph: object) -> Backend:
        raise Unavailable("openvino", "OpenVINO does not start", broken=True)

    choice = TimedChoice([], {"openvino": 1.0, "cpu": 9.0}, [])
    monkeypatch.setattr(fastest, "fastest_backend", lambda *_: choice)
    monkeypatch.setitem(open_backend._GRAPH_BACKENDS, "openvino", broken)
    with EmotionRuntime(tiny_bundle, nobody, live=True) as runtime:
        assert "CPUExecutionProvider" in runtime.backend
        assert runtime.run_line({"jsonl": "-"}).options == {
            "backend": "cpu",
            "backend_milliseconds": {"openvino": 1.0, "cpu": 9.0},
            "jsonl": "-",
        }
    assert any("OpenVINO does not start" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("before", "redone"),
    [
        ({"backend": "openvino", "backend_milliseconds": {"openvino": 1.0, "cpu": 2.0}}, False),
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
    run = line({"backend": "cpu", "backend_milliseconds": {"cpu": 1.0}})
    assert unfinished(["people.mp4"], tmp_path, run) == (["people.mp4"] if redone else [])
