"""What is installed, read from the metadata and not by importing: two packages can own one module."""

import re
from collections.abc import Sequence
from importlib.metadata import distributions

# Of the same family, with modules of their own.
_OTHERS = {"onnxruntime-extensions", "onnxruntime-genai", "onnxruntime-tools", "opencv-stubs"}


def installed(prefix: str, path: Sequence[str] | None = None) -> dict[str, str]:
    """Version by name of the distributions that provide a module of several names.

    prefix: "onnxruntime" finds onnxruntime, onnxruntime-gpu, onnxruntime-openvino and the like. path: folders
    of installed packages, the first wins; None: those of this Python.
    """
    found: dict[str, str] = {}
    for each in distributions(path=list(path)) if path is not None else distributions():
        name = re.sub(r"[-_.]+", "-", each.metadata["Name"] or "").lower()
        if name in _OTHERS or not re.fullmatch(rf"{prefix}(-.+)?", name):
            continue
        found.setdefault(name, each.version)
    return dict(sorted(found.items()))
