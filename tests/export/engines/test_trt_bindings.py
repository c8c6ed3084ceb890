"""Every name of TensorRT's API that we use is in the bindings of 10.3, 10.16 and 11.4.

Their wheels come from PyPI; the libraries below them come from NVIDIA alone, so the bindings cannot be
imported. pybind11 keeps each name as a string, which can be read. tensorrt-rtx, which can be imported, tells
which of the names in our source are TensorRT's.
"""

import ast
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from exported import ROOT

from emotion_runtime.tensorrt.gpu import load_tensorrt

SOURCES = [
    ROOT / "export/emotion_export/tensorrt.py",
    ROOT / "export/emotion_export/layer_types.py",
    ROOT / "export/emotion_export/progress.py",
    ROOT / "runtime/emotion_runtime/tensorrt/api.py",
    ROOT / "runtime/emotion_runtime/tensorrt/engine.py",
    ROOT / "runtime/emotion_runtime/tensorrt/rtx.py",
]
LINUX = (
    "--python-version",
    "3.11",
    "--platform",
    "manylinux_2_28_x86_64",
    "--platform",
    "manylinux_2_17_x86_64",
)
WHEELS = {  # 1 MB each
    "10.3": "tensorrt-cu12-bindings==10.3.0",
    "10.16": "tensorrt-cu13-bindings==10.16.1.11",
    "11.4": "tensorrt-cu13-bindings==11.4.0.106",
}
# Never reached with another flavour than tensorrt-rtx.
RTX_ONLY = {
    # A GPU that is not there, which only it can build for:
    *("ComputeCapability", "num_compute_capabilities", "set_compute_capability"),
    # Its check of an engine, and its kernels, which are compiled where the engine runs:
    *("get_engine_validity", "EngineValidity", "EngineInvalidityDiagnostics", "INVALID", "SUBOPTIMAL"),
    *("dynamic_shapes_kernel_specialization_strategy", "DynamicShapesKernelSpecializationStrategy", "EAGER"),
    *("create_runtime_cache", "get_runtime_cache", "set_runtime_cache", "deserialize"),
}
# The same, of which newer versions of TensorRT have a part.
RTX_AND_NEWER = {"create_runtime_config", "set_execution_context_allocation_strategy"}
PYTHON_ONLY = {"nptype"}  # a function of the wheel's own __init__.py, not of the extension


def attributes(path: Path) -> set[str]:
    """Attributes that a module reads or calls, and methods that it defines for others to call."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return read | {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.fixture(scope="module")
def used() -> set[str]:
    """Names in our source that are TensorRT's."""
    library = load_tensorrt("tensorrt-rtx")
    classes = [value for value in vars(library).values() if isinstance(value, type)]
    known = set(vars(library)).union(*(set(dir(each)) for each in classes))
    python = set().union(
        *(dir(each) for each in (str, bytes, int, list, dict, set, Path, re.Pattern, np.dtype, np.ndarray))
    )
    names = (set().union(*map(attributes, SOURCES)) & known) - python
    return {name for name in names if not name.startswith("__")}


def test_the_names_are_found_in_the_source(used: set[str]):
    """The list is read, not kept by hand; it has what any builder and any runtime must call."""
    assert used >= {
        "build_serialized_network",
        "create_optimization_profile",
        "set_memory_pool_limit",
        "deserialize_cuda_engine",
        "execute_async_v3",
        "set_tensor_address",
        *("phase_start", "phase_finish", "step_complete", "log"),
        *RTX_ONLY,
        *PYTHON_ONLY,
    }
    # What TensorRT 10 and 11 dropped. Networks, engines and contexts used to be full of it.
    assert not used & {"num_bindings", "build_engine", "max_batch_size", "FP16", "INT8", "execute_async_v2"}
    assert not used & {"EXPLICIT_BATCH", "int8_calibrator", "device_memory_size", "max_workspace_size"}


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("version", WHEELS)
def test_bindings_have_all_names(used: set[str], download: Callable[..., Path], version: str):
    path = download(WHEELS[version], *LINUX)
    assert f"-{version}." in path.name
    with zipfile.ZipFile(path) as wheel:
        (extension,) = (name for name in wheel.namelist() if name.endswith("/tensorrt.so"))
        content = wheel.read(extension)
        package = wheel.read(extension.replace("tensorrt.so", "__init__.py")).decode()
    # A linker keeps a string that another one ends in only once: "INPUT" is the end of some "..._INPUT".
    missing = {name for name in used - PYTHON_ONLY if name.encode() + b"\0" not in content}
    assert missing - RTX_AND_NEWER == RTX_ONLY
    assert all(f"def {name}(" in package for name in PYTHON_ONLY)
