"""Packages that cannot be loaded: which one it is, and the command that fixes it."""

import re
from importlib.metadata import PackageNotFoundError, requires
from types import ModuleType, TracebackType

# Packages by module; of a family that shares a module, the one that is installed is named.
_PACKAGES = {"cv2": "opencv-python", "PIL": "pillow", "skimage": "scikit-image", "google": "protobuf"}
_FAMILIES = {"cv2": "opencv", "onnxruntime": "onnxruntime"}
# OpenCV's wheels use these libraries of the system, which servers, containers and small boards often lack.
_OF_THE_SYSTEM = re.compile(r"\blib(GL|gthread-2\.0|glib-2\.0)\.so")
_OF_PYTHON = ("importlib", "_frozen_importlib", "emotion_")


LoadError = ImportError | OSError | AttributeError


def broken_module(error: LoadError) -> str | None:
    """Return the module outside of this project that cannot be loaded; None if there is none."""
    if isinstance(error, AttributeError):
        return _left_over(error.obj)
    if not isinstance(error, ImportError) and "shared object" not in str(error):
        return None  # of a file
    name = (getattr(error, "name", None) or _raised_in(error.__traceback__) or "").partition(".")[0]
    if not name or name.startswith("emotion_"):
        return None
    # Whoever follows the fix installs the package: never propose a name that nothing here depends on.
    return name if not isinstance(error, ModuleNotFoundError) or name in _declared_modules() else None


def fix_for(error: LoadError) -> str | None:
    """Return the command that probably makes a package load again; None if the error is about none."""
    if _OF_THE_SYSTEM.search(str(error)):
        return "sudo apt install libgl1 libglib2.0-0"
    module = broken_module(error)
    if module is None:
        return None
    from emotion_runtime.installed import installed  # noqa: PLC0415 - slow to import, and only here

    package = _PACKAGES.get(module, module)
    found = [*installed(_FAMILIES[module])] if module in _FAMILIES else []
    return f"pip install --force-reinstall {found[0] if found else package}"


def _declared_modules() -> set[str]:
    """Return the modules of the packages that this project declares, extras included."""
    try:
        lines = requires("emotion-runtime") or []
    except PackageNotFoundError:  # a checkout that was not installed
        lines = []
    packages = {re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() for line in lines}
    modules = {package: module for module, package in _PACKAGES.items()}
    return {modules.get(package, package.replace("-", "_")) for package in packages}


def _left_over(module: object) -> str | None:
    """Return the name of a package of which only the folder is left, since one of two with it was removed."""
    if not isinstance(module, ModuleType) or not hasattr(module, "__path__"):
        return None
    return module.__name__ if getattr(module, "__file__", None) is None else None


def _raised_in(traceback: TracebackType | None) -> str | None:
    """Return the innermost module of a traceback that belongs neither to Python nor to this project."""
    found = None
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if name != "__main__" and not name.startswith(_OF_PYTHON):
            found = name
        traceback = traceback.tb_next
    return found
