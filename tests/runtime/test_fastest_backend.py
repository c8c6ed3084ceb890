"""Live sources run on the backend that is fastest on this machine, among those that pass the parity check."""

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_cameras import nobody
from timed_backends import SECONDS, Closing, Stand, backends, only_file

from emotion_runtime import backend_times
from emotion_runtime import fastest_backend as fastest
from emotion_runtime.backends.base import Backend, Unavailable
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.errors import EmotionError
from emotion_runtime.fastest_backend import best, fastest_backend
from emotion_runtime.names import Precision
from emotion_runtime.open_backend import open_encoders


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
            fix = "emotion-export trt --bundle nano"
            raise Unavailable(name, "no engine of frame_encoder", fix=fix, build=["--bundle", "nano"])
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
