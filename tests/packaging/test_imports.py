"""Arrows between the packages, read from the source: runtime <- train <- export; no torch in runtime."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "torchvision", "transformers", "open_clip", "ultralytics", "sklearn", "onnxscript"}
FORBIDDEN = {
    "runtime/emotion_runtime": HEAVY | {"emotion_train", "emotion_export"},
    "train/emotion_train": {"emotion_export", "ultralytics"},
    "export/emotion_export": {"ultralytics"},
}


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
    assert not crossing


def test_the_runtime_declares_what_it_imports():
    """Every third-party package of the runtime is a declared dependency, an extra, or comes with one."""
    declared = {
        "numpy",
        "cv2",
        "PIL",
        "msgspec",
        "safetensors",
        "av",
        "supervision",
        "trackers",
        "onnx",
        "tqdm",
    }
    extras = {"onnxruntime", "tomli"}
    used = set().union(
        *(imported(f.read_text(encoding="utf-8")) for f in (ROOT / "runtime/emotion_runtime").rglob("*.py"))
    )
    third_party = {name for name in used if name not in sys.stdlib_module_names and name != "emotion_runtime"}
    assert third_party <= declared | extras
