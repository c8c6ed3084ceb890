"""Times of backends are kept in a file, for the machine and the programs that they were measured with."""

import importlib.metadata
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from doctor_installs import install
from fake_cameras import nobody
from timed_backends import FAST, SLOW, only_file

from emotion_runtime import backend_times
from emotion_runtime import fastest_backend as fastest
from emotion_runtime.bundle import load_bundle
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.fastest_backend import TimedChoice, TimedWay, best, fastest_backend
from emotion_runtime.tensorrt import cache


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


def newer_onnxruntime(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.syspath_prepend(*install(folder, "onnxruntime 99.0"))


def another_onnxruntime(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    version = importlib.metadata.version("onnxruntime")
    monkeypatch.syspath_prepend(*install(folder, f"onnxruntime-openvino {version}"))


def another_cpu(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    listing = folder / "cpuinfo"
    listing.write_text("processor : 0\nmodel name : Other\n\nprocessor : 1\nmodel name : Other\n")
    monkeypatch.setattr(fastest, "_CPUINFO", listing)


def fewer_cores(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    monkeypatch.setattr(fastest, "default_threads", lambda: 99)


def a_new_engine(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    engine = SimpleNamespace(key=SimpleNamespace(stem="frame_encoder-0123"), sha256="0" * 64)
    monkeypatch.setattr(cache, "read_sidecars", lambda _folder: [engine])


@pytest.mark.parametrize(
    "change", [newer_onnxruntime, another_onnxruntime, another_cpu, fewer_cores, a_new_engine]
)
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
