"""List installed packages from their metadata; importing would not show that two packages own one module."""

import re
from collections.abc import Sequence
from importlib.metadata import distributions

# Packages with a similar name, but modules of their own.
_OTHERS = {
    "onnxruntime-extensions",
    "onnxruntime-genai",
    "onnxruntime-tools",
    "opencv-stubs",
    "openvino-telemetry",
}


def installed(prefix: str, path: Sequence[str] | None = None) -> dict[str, str]:
    """Return the version of each installed package of a family, by name.

    Packages of one family own the same module, so those of later folders are hidden: an environment with
    `--system-site-packages` has its own packages, and what the user or the system has installed.

    Args:
        prefix: Name of the family: "onnxruntime" finds onnxruntime, onnxruntime-gpu, onnxruntime-openvino
            etc.
        path: Folders of installed packages, the first one wins; None: those of this Python.
    """
    found: dict[str, str] = {}
    folder = None
    for each in distributions(path=list(path)) if path is not None else distributions():
        name = re.sub(r"[-_.]+", "-", each.metadata["Name"] or "").lower()
        if name in _OTHERS or not re.fullmatch(rf"{prefix}(-.+)?", name):
            continue
        folder = folder or str(each.locate_file(""))
        if str(each.locate_file("")) == folder:
            found.setdefault(name, each.version)
    return dict(sorted(found.items()))
