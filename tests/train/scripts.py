"""The commands of emotion_train, each as a fresh module whose globals a test may change."""

import importlib.util
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[2] / "train" / "emotion_train" / "commands"


def script(name: str) -> ModuleType:
    """commands/NAME.py as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
