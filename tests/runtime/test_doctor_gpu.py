"""The doctor reports a working GPU only if something has run on it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from emotion_runtime import detector_backend, open_backend
from emotion_runtime.backends import onnx
from emotion_runtime.backends.base import Unavailable
from emotion_runtime.backends.onnx import CPU, CUDA, OnnxBackend
from emotion_runtime.doctor import FAIL, OK, WARN, Finding, inference, machine
from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt import gpu as nvidia
from emotion_runtime.tensorrt.driver import CudaError
from emotion_runtime.tensorrt.gpu import Gpu


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_a_provider_that_falls_back_silently_is_reported(monkeypatch: pytest.MonkeyPatch):
    real = onnxruntime.InferenceSession

    def session(model: bytes, options: Any, providers: list[Any], **_: Any) -> Any:
        requested = [each if isinstance(each, str) else each[0] for each in providers]
        return real(model, options, providers=[name for name in requested if name == CPU])

    monkeypatch.setattr(onnx, "available_providers", lambda: [CUDA, "AzureExecutionProvider", CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    cuda, cpu = inference.providers()
    assert (cuda.state, cuda.text.split()[0]) == (WARN, CUDA)
    assert cuda.fix
    assert (cpu.state, cpu.text.split(",")[0]) == (OK, f"{CPU} starts")
    assert f"{onnx.default_threads()} threads on " in cpu.text


@pytest.mark.parametrize(
    ("cuda", "driver", "text", "fix"),
    [
        ("13.0", "12.4", "it needs CUDA 13.0, but the driver supports CUDA 12.4", "<1.27"),
        ("12.9", "12.4", "check driver, CUDA and cuDNN", "[cuda,cudnn]"),
        ("13.0", "13.2", "check driver, CUDA and cuDNN", "[cuda,cudnn]"),
        (None, "12.4", "check driver, CUDA and cuDNN", "[cuda,cudnn]"),
    ],
)
def test_an_onnxruntime_for_a_newer_cuda_than_the_driver_is_named(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, driver: str, text: str, fix: str
):
    monkeypatch.setattr(onnx, "available_providers", lambda: [CUDA])
    monkeypatch.setattr(inference, "provider_error", lambda _: "it falls back to CPUExecutionProvider")
    monkeypatch.setattr(onnxruntime, "cuda_version", cuda, raising=False)
    monkeypatch.setattr(nvidia, "find_gpu", lambda: Gpu("RTX A2000", "8.6", driver))
    finding = only(inference.providers())
    assert finding.state == WARN
    assert finding.text.endswith(text)
    assert finding.fix is not None
    assert fix in finding.fix


@pytest.mark.parametrize(("backend", "state"), [("cuda", FAIL), ("auto", WARN)])
def test_a_detector_that_a_run_would_refuse_is_a_failure(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, backend: str, state: str
):
    """On CUDA the encoders run, and the detector finds other boxes."""

    class Encoder(OnnxBackend):
        name = "cuda"

    def refused(*_: Any) -> Any:
        raise Unavailable("cuda", "the boxes are not those of ONNX Runtime", broken=True)

    monkeypatch.setattr(open_backend, "open_cuda", lambda graph: Encoder(graph, threads=1))
    monkeypatch.setattr(detector_backend, "open_cuda", refused)
    encoders, detector = inference.backend(str(tiny_bundle), backend)
    assert (encoders.state, detector.state) == (OK, state)
    assert ("the boxes are not those" in detector.text) == (state == FAIL)


class _FailsToRun:
    """A session that opens on CUDA but cannot run."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def run(self, *_: Any) -> None:
        (fail,) = [each for each in onnx.onnx_errors() if each.__name__ == "Fail"]
        raise fail("CUDNN_STATUS_NOT_INITIALIZED\nin line 7")


def test_a_provider_that_starts_but_does_not_run_is_reported(monkeypatch: pytest.MonkeyPatch):
    real = onnxruntime.InferenceSession

    def session(model: bytes, options: Any, providers: list[Any], **_: Any) -> Any:
        return _FailsToRun() if len(providers) > 1 else real(model, options, providers=providers)

    monkeypatch.setattr(onnx, "available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    cuda, cpu = inference.providers()
    assert (cuda.state, cpu.state) == (WARN, OK)
    assert "does not run (CUDNN_STATUS_NOT_INITIALIZED in line 7)" in cuda.text
    assert cuda.fix


def test_a_provider_whose_session_raises_is_a_separate_finding(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: Any, **options: Any) -> Any:
        if len(options["providers"]) > 1:
            raise EmotionError("cannot load it (libcublas.so.12 not found)")
        return real(*_, **options)

    real = onnx.open_session
    monkeypatch.setattr(onnx, "available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnx, "open_session", fails)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    cuda, cpu = inference.providers()
    assert (cuda.state, cpu.state) == (WARN, OK)
    assert "libcublas.so.12 not found" in cuda.text


def test_an_onnxruntime_that_does_not_run_is_a_failure_with_a_command(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: Any, **__: Any) -> Any:
        raise EmotionError("cannot load it (undefined symbol)")

    monkeypatch.setattr(onnx, "available_providers", lambda: [CPU])
    monkeypatch.setattr(onnx, "open_session", fails)
    cpu = only(inference.providers())
    assert cpu.state == FAIL
    assert cpu.fix == "pip install --force-reinstall onnxruntime (for an NVIDIA GPU: onnxruntime-gpu)"


@pytest.mark.parametrize(
    ("shown", "error", "state"),
    [
        ("echo 'Tesla T4, 470.82, 15360 MiB'", EmotionError, WARN),
        ("exit 9", EmotionError, OK),
        ("true", EmotionError, OK),
        ("exit 9", CudaError, WARN),
    ],
)
def test_a_cuda_that_does_not_start_on_a_gpu_is_reported(
    program: Any, monkeypatch: pytest.MonkeyPatch, shown: str, error: type[EmotionError], state: str
):
    def fails() -> Any:
        raise error("no usable GPU found")

    program("nvidia-smi", shown)
    monkeypatch.setattr(nvidia, "find_gpu", fails)
    finding = only(machine.cuda())
    assert finding.state == state
    assert "no usable GPU found" in finding.text
    assert (finding.fix is not None) == (state == WARN)


def test_a_tensorrt_for_a_newer_cuda_than_the_driver_is_named(monkeypatch: pytest.MonkeyPatch):
    packages = {
        "tensorrt-cu12": "10.16.1",
        "tensorrt-rtx-cu13": "1.7.1",
        "tensorrt-rtx-cu13-libs": "1.7.1",
        "tensorrt-rtx": "1.7.1",
    }
    monkeypatch.setattr(machine, "installed", lambda _: packages)
    monkeypatch.setattr(nvidia, "find_gpu", lambda: Gpu("Orin", "8.7", "12.6"))
    gpu, bad = machine.cuda()
    assert gpu == Finding("cuda", OK, "the driver supports CUDA 12.6; Orin, compute capability 8.7")
    assert bad.state == WARN
    assert bad.text == "tensorrt-rtx-cu13 1.7.1 needs CUDA 13, but the driver supports CUDA 12.6 (error 35)"
    assert bad.fix == (
        "update the driver, or pip uninstall -y tensorrt-rtx-cu13 && pip install tensorrt-rtx-cu12"
    )
    monkeypatch.setattr(nvidia, "find_gpu", lambda: Gpu("Thor", "11.0", "13.0"))
    assert only(machine.cuda()).state == OK


def test_a_gpu_that_onnxruntime_cannot_use_is_reported(program: Any):
    program("nvidia-smi", "exit 0")
    warning, *_ = inference.providers()
    assert warning.state == WARN
    assert warning.fix == "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
