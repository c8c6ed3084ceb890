import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from exported import load_module
from trt_stand_ins import Engine, EngineAndTypes, Main, types_of

from emotion_export import engines as building
from emotion_export.cli import main
from emotion_export.commands import trt
from emotion_export.tensorrt import Builder
from emotion_export.triton import write_repository
from emotion_runtime.bundle import Bundle, load_bundle
from emotion_runtime.tensorrt.gpu import Gpu, load_tensorrt


@pytest.fixture(scope="session")
def download(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Download the wheel of a requirement. Without a network the test is skipped; in CI it fails."""

    def get(requirement: str, *options: str) -> Path:
        folder = tmp_path_factory.mktemp("wheel")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--dest", str(folder), *options, requirement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            output = done.stderr.strip().splitlines() or ["pip printed nothing"]
            reason = f"{requirement} cannot be downloaded: {output[-1]}"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        (wheel,) = folder.glob("*.whl")
        return wheel

    return get


@pytest.fixture(scope="session")
def nano_bundle() -> Bundle:
    return load_bundle("nano")


@pytest.fixture(scope="session")
def schema(download: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Triton's protobuf of a model's configuration, from the wheel of its client (0.1 MB)."""
    folder = tmp_path_factory.mktemp("schema")
    with zipfile.ZipFile(download("tritonclient")) as archive:
        path = archive.extract("tritonclient/grpc/model_config_pb2.py", folder)
    return load_module(Path(path))


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, nano_bundle: Bundle) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "repository"
    assert write_repository(nano_bundle, folder) == ["nano_frame_encoder", "nano_temporal_encoder"]
    return folder


@pytest.fixture
def to_trt() -> Main:
    """Run the command; without --detector it builds the encoders only, which most tests are about."""

    def run(*arguments: object) -> int:
        texts = [str(argument) for argument in arguments]
        alone = [] if "--detector" in texts or not texts else ["--detector", "none"]
        return main(["trt", *texts, *alone])

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make builds instant; return the names of what was built."""
    built: list[str] = []

    def build(_builder: object, model: onnx.ModelProto, name: str, _limits: object) -> EngineAndTypes:
        built.append(name)
        return model.SerializeToString(), types_of(model)

    monkeypatch.setattr(building, "build_engine", build)
    return built


@pytest.fixture
def gpu(quick: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Provide a GPU on which ONNX Runtime runs the engines; return the names of what was built."""
    monkeypatch.setattr(trt, "find_gpu", lambda: Gpu("Test GPU", "8.6", "12.6"))
    monkeypatch.setattr(building, "TensorRTBackend", Engine)
    return quick


@pytest.fixture(scope="module")
def rtx() -> Builder:
    return Builder(load_tensorrt("tensorrt-rtx"), "tensorrt-rtx", Gpu("", "8.6", "12.6"))
