"""Errors for a missing TensorRT or GPU, and the names that engines depend on."""

import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace
from typing import Any

import pytest
from cuda_stand_in import Cuda

from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt import gpu as nvidia
from emotion_runtime.tensorrt.gpu import Gpu, builder_name, find_gpu, load_tensorrt, start


def stand_in(version: str) -> SimpleNamespace:
    return SimpleNamespace(__version__=version, __spec__=ModuleSpec("tensorrt", None, origin="test"))


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
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in(version))
    if good:
        assert builder_name("tensorrt", load_tensorrt("tensorrt")).startswith(f"tensorrt {version} ")
    else:
        with pytest.raises(EmotionError, match=rf"tensorrt {version} is too old, .*JetPack 6\.1") as error:
            load_tensorrt("tensorrt")
        one_line(error)


def test_rtx_has_its_own_version_numbers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", stand_in("1.7.1.116"))
    assert load_tensorrt("tensorrt-rtx").__version__ == "1.7.1.116"


def gpu_of(multiprocessors: int, gib: float) -> Gpu:
    cuda = Cuda()
    cuda.multiprocessors, cuda.memory = multiprocessors, int(gib * 2**30)
    return find_gpu(cuda)


def test_the_properties_of_the_gpu():
    assert gpu_of(16, 61.4) == Gpu("Test GPU (16 multiprocessors, 61 GiB)", "8.7", "12.6")


def test_all_modules_of_a_family_are_different_gpus():
    """NVIDIA calls each of them Orin, of compute capability 8.7."""
    sizes = ((8, 7.4), (8, 15.2), (14, 29.9), (16, 61.4))
    assert len({gpu_of(*size) for size in sizes}) == len(sizes)


def test_a_builder_starts_or_names_the_driver():
    logger = SimpleNamespace(reason=lambda: "CUDA error 35")
    assert start(lambda given: (given, "builder"), logger, "tensorrt 10.3", "12.6") == (logger, "builder")

    def fails(_logger: object) -> Any:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    for cuda, words in (("12.6", "supports CUDA 12.6 "), ("", "supports no CUDA ")):
        with pytest.raises(
            EmotionError,
            match=rf"tensorrt 11 does not start on this driver, which {words}\(CUDA error 35; error 35 means",
        ) as e:
            start(fails, logger, "tensorrt 11", cuda)
        one_line(e)
