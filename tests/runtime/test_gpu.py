"""Errors for missing TensorRT, cuda-python or GPU, and the names that engines depend on."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt import gpu as nvidia
from emotion_runtime.tensorrt.gpu import Gpu, builder_name, call, find_gpu, load_cuda, load_tensorrt


def one_line(error: pytest.ExceptionInfo[EmotionError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("flavor", ["tensorrt", "tensorrt-rtx"])
def test_without_tensorrt_the_error_has_the_three_ways_to_install_it(
    flavor: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, flavor.replace("-", "_"), None)
    with pytest.raises(EmotionError, match=f"{flavor} is not installed") as error:
        load_tensorrt(flavor)
    for way in (
        "Jetson: sudo apt install",
        "discrete GPU: pip install tensorrt.",
        "pip install tensorrt-rtx",
    ):
        assert way in one_line(error)


def test_type_stubs_alone_are_no_tensorrt(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    """The package tensorrt-stubs leaves a folder that can be imported, and is empty."""
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.pyi").touch()
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not nvidia.is_installed("tensorrt")
    with pytest.raises(EmotionError, match="tensorrt is not installed") as error:
        load_tensorrt("tensorrt")
    one_line(error)


def test_bindings_without_their_libraries(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    """For example if only the wheel of the bindings is installed."""
    (tmp_path / "tensorrt.py").write_text(
        "raise ImportError('libnvinfer.so.10: cannot open\\n shared object')"
    )
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        EmotionError, match=r"does not start \(libnvinfer\.so\.10: cannot open shared"
    ) as error:
        load_tensorrt("tensorrt")
    assert "Jetson" in one_line(error)


@pytest.mark.parametrize(
    ("version", "good"), [("8.5.2", False), ("10.2.0", False), ("10.3.0", True), ("11.4.0.106", True)]
)
def test_the_oldest_supported_version(version: str, good: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=version))
    if good:
        assert builder_name("tensorrt", load_tensorrt("tensorrt")).startswith(f"tensorrt {version} ")
    else:
        with pytest.raises(EmotionError, match=rf"tensorrt {version} is too old, .*JetPack 6\.1") as error:
            load_tensorrt("tensorrt")
        one_line(error)


def test_rtx_has_its_own_version_numbers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace(__version__="1.7.1.116"))
    assert load_tensorrt("tensorrt-rtx").__version__ == "1.7.1.116"


def test_without_cuda_python(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(EmotionError, match="cuda-python is not installed: pip install cuda-bindings"):
        load_cuda()


def test_a_cuda_python_that_does_not_start(monkeypatch: pytest.MonkeyPatch):
    def broken(_name: str) -> Any:
        raise ImportError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(nvidia.importlib, "import_module", broken)
    with pytest.raises(EmotionError, match=r"cuda-python .* does not start \(libcudart\.so\.12") as error:
        load_cuda()
    assert "pip install --force-reinstall cuda-bindings" in one_line(error)


class Code(int):
    name = "cudaErrorNoDevice"


def stand_in(status: int, count: int, *, multiprocessors: int = 8, gib: float = 7.4) -> Any:
    properties = SimpleNamespace(
        name=b"Orin", major=8, minor=7, multiProcessorCount=multiprocessors, totalGlobalMem=int(gib * 2**30)
    )
    return SimpleNamespace(
        cudaGetDeviceCount=lambda: (Code(status), count),
        cudaGetDeviceProperties=lambda _device: (Code(0), properties),
        cudaDriverGetVersion=lambda: (Code(0), 12060),
    )


def test_the_properties_of_the_gpu():
    assert find_gpu(stand_in(0, 1)) == Gpu("Orin (8 multiprocessors, 7 GiB)", "8.7", "12.6")


def test_all_modules_of_a_family_are_different_gpus():
    """NVIDIA calls each of them Orin, of compute capability 8.7."""
    sizes = ((8, 7.4), (8, 15.2), (14, 29.9), (16, 61.4))
    found = {find_gpu(stand_in(0, 1, multiprocessors=count, gib=gib)) for count, gib in sizes}
    assert len(found) == len(sizes)


@pytest.mark.parametrize(
    ("bindings", "fix"),
    [
        ("13.4.4", "pip install 'cuda-bindings==12.*'"),
        ("12.9.10", "update the driver (Jetson: sudo apt install cuda-compat-12-9)"),
    ],
)
def test_bindings_that_are_newer_than_the_driver_are_named_with_the_fix(
    monkeypatch: pytest.MonkeyPatch, bindings: str, fix: str
):
    monkeypatch.setattr(nvidia.importlib.metadata, "version", lambda _name: bindings)
    with pytest.raises(EmotionError) as error:
        find_gpu(stand_in(35, 0))
    assert one_line(error) == (
        f"the GPU driver supports CUDA 12.6, but the installed cuda-bindings {bindings} need a newer one "
        f"(cudaErrorInsufficientDriver): {fix}"
    )


@pytest.mark.parametrize(
    ("status", "count", "words"), [(100, 0, "cudaErrorNoDevice"), (0, 0, "CUDA reports no device")]
)
def test_no_gpu(status: int, count: int, words: str):
    line = rf"no usable GPU found \({words}\): check the driver with nvidia-smi"
    with pytest.raises(EmotionError, match=line) as error:
        find_gpu(stand_in(status, count))
    one_line(error)


def test_a_call_returns_the_result_or_raises():
    def cuda_two() -> tuple[Code, int]:
        return Code(0), 42

    def cuda_none() -> tuple[Code]:
        return (Code(0),)

    def cuda_bad() -> tuple[Code, None]:
        return Code(2), None

    assert call(cuda_two) == 42
    assert call(cuda_none) is None
    with pytest.raises(EmotionError, match="CUDA: cuda_bad failed with cudaErrorNoDevice"):
        call(cuda_bad)


@pytest.mark.skipif(find_spec("cuda") is None, reason="cuda-python is not installed")
def test_the_real_cuda_python():
    """Without a GPU it returns an error status and does not crash."""
    cuda = load_cuda()
    status, count = cuda.cudaGetDeviceCount()
    if int(status) == 0 and count:
        assert find_gpu().name
    else:
        with pytest.raises(EmotionError, match="no usable GPU found"):
            find_gpu()
