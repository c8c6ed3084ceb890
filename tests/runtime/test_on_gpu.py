"""What only an NVIDIA GPU shows: the driver, engines on it, and the runtime with CUDA.

    pytest -m gpu tests/runtime

TensorRT itself has a stand-in here, whose engine copies on the GPU, so that this runs on every GPU: it is
about memory, streams and captured graphs.
"""

import ctypes
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_stand_in import MOST, Context, D, Engine, Library, T

from emotion_runtime.backends.cuda import open_cuda
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import load_bundle
from emotion_runtime.detectors import open_detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.fastest_backend import fastest_backend
from emotion_runtime.tensorrt.driver import LIBRARY, CudaError, Driver
from emotion_runtime.tensorrt.engine import TensorRTBackend
from emotion_runtime.tensorrt.gpu import find_gpu

pytestmark = pytest.mark.gpu

FLOAT = 4  # bytes
BLOCK = 1 << 28


class CopyingContext(Context):
    """An execution context whose work is real: the first moment of every clip, copied on the GPU."""

    engine: "CopyingEngine"

    def set_device_memory(self, address: int, size: int) -> None:
        assert size <= self.engine.device_memory_size_v2
        self.scratch = address

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.runs += 1
        self.engine.meanwhile(stream)
        source, target = self.addresses["embeddings"], self.addresses["features"]
        for person in range(self.shape[0]):
            to, start = target + FLOAT * person * D, source + FLOAT * person * T * D
            if self.engine.copy(to, start, FLOAT * D, stream):
                return False
        return True


class CopyingEngine(Engine):
    """An engine that works on the GPU. meanwhile: called in every run, before its work."""

    def __init__(self) -> None:
        self.contexts: list[Context] = []
        self.settings, self.full = None, False
        self.meanwhile: Any = lambda _stream: None
        self.copy = ctypes.CDLL(LIBRARY).cuMemcpyDtoDAsync_v2
        self.copy.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p]

    def create_execution_context(self, settings: Any) -> CopyingContext:
        assert settings == "user"
        self.contexts.append(CopyingContext(self))
        return self.contexts[-1]


@pytest.fixture
def engine() -> CopyingEngine:
    return CopyingEngine()


def opened(engine: CopyingEngine) -> TensorRTBackend:
    return TensorRTBackend(b"engine", flavor="tensorrt", library=Library(engine))


@pytest.fixture
def backend(engine: CopyingEngine) -> Iterator[TensorRTBackend]:
    backend = opened(engine)
    yield backend
    backend.close()


def check(backend: TensorRTBackend, persons: int, seed: int) -> None:
    clips = np.random.default_rng([persons, seed]).random((persons, T, D), np.float32)
    np.testing.assert_array_equal(backend.run({"embeddings": clips})["features"], clips[:, 0])


def graphs(backend: TensorRTBackend) -> list[bool]:
    return [bool(prepared.graph) for prepared in backend._prepared.values()]


def test_the_gpu_is_that_of_nvidia_smi():
    query = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    line = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    name, mebibytes, capability = line.split(", ")
    gpu = find_gpu()
    found = re.fullmatch(rf"{re.escape(name)} \((\d+) multiprocessors, (\d+) GiB\)", gpu.name)
    assert found, gpu
    assert int(found[1]) > 0
    assert abs(int(found[2]) - int(mebibytes) / 1024) < 2  # the driver keeps some for itself
    assert (gpu.compute_capability, gpu.driver.count(".")) == (capability, 1)


def test_a_full_memory_is_named():
    driver = Driver()
    driver.use()
    with pytest.raises(CudaError, match="cuMemAlloc_v2 failed with CUDA_ERROR_OUT_OF_MEMORY"):
        driver.get("cuMemAlloc_v2", 1 << 45)


def test_plain_captured_and_replayed_runs_compute_the_same(backend: TensorRTBackend, engine: CopyingEngine):
    for turn in range(4):
        for persons in (1, MOST, 3):
            check(backend, persons, turn)
    assert graphs(backend) == [True] * 3
    assert [context.runs for context in engine.contexts[1:]] == [2] * 3  # then the graph alone


def test_several_engines_in_several_threads():
    def work(seed: int) -> list[bool]:
        backend = opened(CopyingEngine())
        for turn in range(50):
            check(backend, 1 + (turn + seed) % MOST, turn)
        captured = graphs(backend)
        backend.close()
        return captured

    with ThreadPoolExecutor(4) as pool:
        assert all(all(captured) for captured in pool.map(work, range(4)))


def test_another_thread_may_allocate_during_a_capture(backend: TensorRTBackend, engine: CopyingEngine):
    driver = Driver()

    def allocate() -> None:
        driver.use()
        driver.call("cuMemFree_v2", driver.get("cuMemAlloc_v2", BLOCK))

    with ThreadPoolExecutor(1) as pool:
        engine.meanwhile = lambda _stream: pool.submit(allocate).result()
        for turn in range(3):
            check(backend, 2, turn)
    assert graphs(backend) == [True]


def test_a_capture_that_fails_leaves_plain_runs(
    backend: TensorRTBackend, engine: CopyingEngine, caplog: pytest.LogCaptureFixture
):
    wait = ctypes.CDLL(LIBRARY).cuStreamSynchronize
    wait.argtypes = [ctypes.c_void_p]
    engine.meanwhile = wait  # which no capture allows
    with caplog.at_level(logging.WARNING):
        for turn in range(4):
            check(backend, 2, turn)
    assert graphs(backend) == [False]
    (record,) = caplog.records
    assert "no CUDA graph for inputs" in record.message
    assert "CUDA_ERROR_STREAM_CAPTURE" in record.message


def test_closing_frees_all_memory(engine: CopyingEngine):
    """More than the GPU has, one after the other."""
    driver = Driver()
    driver.use()
    engine.device_memory_size_v2 = BLOCK * 4
    total = driver.get("cuDeviceTotalMem_v2", driver.device)
    for turn in range(total // engine.device_memory_size_v2 + 8):
        backend = opened(engine)
        check(backend, 2, turn)
        backend.close()


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Leave almost none of the GPU's memory to others."""
    driver, held, size = Driver(), [], BLOCK
    driver.use()
    while size >= 1 << 21:
        try:
            held.append(driver.get("cuMemAlloc_v2", size))
        except CudaError:  # noqa: PERF203 - the end of the memory
            size //= 2
    yield
    for address in held:
        driver.call("cuMemFree_v2", address)


def run(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "emotion_runtime", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return what standard output carries: JSON lines and nothing else."""
    assert done.returncode == 0, done.stderr
    assert done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_people_on_cuda_are_those_of_the_cpu():
    found = {}
    for name in ("cpu", "cuda"):
        found[name] = lines(run("--source", "demo", "--max-frames", "40", "--backend", name, "--jsonl", "-"))
        assert found[name][0]["options"]["backend"] == name
    frames = {name: [line for line in each if line["type"] == "frame"] for name, each in found.items()}
    assert len(frames["cpu"]) == len(frames["cuda"]) == 40
    for one, other in zip(frames["cpu"], frames["cuda"], strict=True):
        assert [person["id"] for person in one["persons"]] == [person["id"] for person in other["persons"]]
        for a, b in zip(one["persons"], other["persons"], strict=True):
            np.testing.assert_allclose(a["box"], b["box"], atol=0.1)
            assert a["raw"] == pytest.approx(b["raw"], abs=1e-3)


def test_two_runs_on_cuda_give_the_same_bytes():
    first, second = (
        lines(run("--source", "demo", "--max-frames", "40", "--backend", "cuda", "--jsonl", "-"))
        for _ in range(2)
    )
    assert [line for line in first if line["type"] == "frame"] == [
        line for line in second if line["type"] == "frame"
    ]


def test_the_doctor_runs_on_cuda():
    done = run("--doctor", "--json", "--backend", "cuda")
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    texts = [finding["text"] for finding in report["findings"]]
    assert any("CUDAExecutionProvider starts" in text for text in texts), texts


def test_auto_for_live_sources_times_cuda_beside_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EMOTION_ENGINE_CACHE", str(tmp_path))
    choice = fastest_backend(load_bundle("nano"), open_detector("face"), None)
    assert choice is not None
    for ways in (choice.encoders, choice.detector):
        assert {way.backend for way in ways} >= {"cpu", "cuda"}, choice


def test_cuda_goes_on_without_a_graph_if_another_thread_breaks_its_capture(caplog: pytest.LogCaptureFixture):
    """ONNX Runtime captures in a mode that forbids all other threads to allocate."""
    graph = load_bundle("nano").graph_path("temporal_encoder")
    backend, reference, stopped = open_cuda(graph), OnnxBackend(graph), threading.Event()

    def allocate() -> None:
        driver = Driver()
        driver.use()
        while not stopped.is_set():
            with suppress(CudaError):
                driver.call("cuMemFree_v2", driver.get("cuMemAlloc_v2", 1 << 20))

    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.WARNING):
        pool.submit(allocate)
        try:
            for persons in range(1, 31):
                for turn in range(3):
                    rng = np.random.default_rng([persons, turn])
                    clips = {"embeddings": rng.standard_normal((persons, 8, 256)).astype(np.float32)}
                    (found,), (expected,) = (each.run(clips).values() for each in (backend, reference))
                    np.testing.assert_allclose(found, expected, atol=1e-4)
        finally:
            stopped.set()
    assert all("no CUDA graph for embeddings" in message for message in caplog.messages)


@pytest.mark.usefixtures("little_memory")
def test_without_memory_cuda_is_refused_in_one_line_and_auto_goes_on():
    done = run("--source", "demo", "--max-frames", "3", "--backend", "cuda", "--jsonl", "-")
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.strip().count("\n") == 0, done.stderr
    assert "error: " in done.stderr
    found = lines(run("--source", "demo", "--max-frames", "3", "--backend", "auto", "--jsonl", "-"))
    assert sum(line["type"] == "frame" for line in found) == 3


def test_an_error_of_cuda_has_no_traceback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # read by the driver of a new process
    done = run("--source", "demo", "--max-frames", "3", "--backend", "cuda", "--jsonl", "-")
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "Traceback" not in done.stderr


def test_no_engine_is_left_open_after_an_error(engine: CopyingEngine):
    engine.device_memory_size_v2 = 1 << 45
    with pytest.raises(EmotionError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        opened(engine)
