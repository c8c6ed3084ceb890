"""The GPUs for which TensorRT for RTX can build an engine without one of them, as `--target` names them."""

import re

from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt.api import TensorRT


def parse_targets(text: str, library: TensorRT) -> str:
    """Return the compute capabilities of several targets, separated by spaces: "8.0 8.6" for "SM80,SM86".

    Raises:
        EmotionError: As for `parse_target`.
    """
    return " ".join(dict.fromkeys(parse_target(target.strip(), library) for target in text.split(",")))


def parse_target(text: str, library: TensorRT) -> str:
    """Return the compute capability of a target: "8.6" for "SM86".

    Args:
        text: The target.
        library: The module `tensorrt_rtx`.

    Raises:
        EmotionError: The target is unknown, or this builder does not support it.
    """
    known = sorted(
        (name for name in library.ComputeCapability.__members__ if re.fullmatch(r"SM\d+", name)),
        key=_sm_number,
    )
    name = text.upper()
    if name in known:
        return f"{_sm_number(name) // 10}.{_sm_number(name) % 10}"
    version = f"tensorrt-rtx {library.__version__}"
    if not re.fullmatch(r"SM\d{2,3}", name):
        raise EmotionError(f"target {text!r} is not known: expected one of {', '.join(known)} ({version})")
    if _sm_number(name) > _sm_number(known[-1]):
        raise EmotionError(
            f"target {name} is newer than this builder: {version} builds for {', '.join(known)}: "
            "pip install --upgrade tensorrt-rtx"
        )
    raise EmotionError(
        f"target {name} is not supported by {version}, which builds for {', '.join(known)}: build on that "
        "GPU with --flavor tensorrt"
    )


def _sm_number(target: str) -> int:
    return int(target.removeprefix("SM"))
