"""The GPUs for which TensorRT for RTX can build an engine without one of them, as `--target` names them."""

import re

from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt.api import TensorRT


def parse_targets(text: str, library: TensorRT) -> str:
    """Return the compute capabilities of targets, separated by spaces: "8.0 8.6" for "SM80,SM86".

    Args:
        text: The targets.
        library: The module `tensorrt_rtx`.

    Raises:
        EmotionError: A target is unknown, or this builder does not support it.
    """
    names = (re.fullmatch(r"SM(\d+)", name) for name in library.ComputeCapability.__members__)
    known = sorted(int(name[1]) for name in names if name)
    version = f"tensorrt-rtx {library.__version__}"
    supported = ", ".join(f"SM{number}" for number in known)
    capabilities = []
    for target in text.split(","):
        name = target.strip().upper()
        if not re.fullmatch(r"SM\d{2,3}", name):
            raise EmotionError(f"target {target!r} is not known: expected one of {supported} ({version})")
        if (number := int(name[2:])) > known[-1]:
            raise EmotionError(
                f"target {name} is newer than this builder: {version} builds for {supported}: "
                "pip install --upgrade tensorrt-rtx"
            )
        if number not in known:
            raise EmotionError(
                f"target {name} is not supported by {version}, which builds for {supported}: build on that "
                "GPU with --flavor tensorrt"
            )
        capabilities.append(f"{number // 10}.{number % 10}")
    return " ".join(dict.fromkeys(capabilities))


def targets_of(capabilities: str) -> list[str]:
    """Return targets from compute capabilities, as `parse_targets` returns them."""
    return [f"SM{capability.replace('.', '')}" for capability in capabilities.split()]
