"""How each person in front of a camera feels, without torch.

from emotion_runtime import EmotionRuntime

for event in EmotionRuntime(bundle="nano").stream("people.mp4"):
    ...
"""

from typing import TYPE_CHECKING, Any

from emotion_runtime.telemetry import opt_out

if TYPE_CHECKING:
    from emotion_runtime.errors import EmotionError
    from emotion_runtime.pipeline import Timing
    from emotion_runtime.runtime import EmotionRuntime
    from emotion_runtime.types import EmotionEvent, Person

__version__ = "0.1.0"
__all__ = ["EmotionError", "EmotionEvent", "EmotionRuntime", "Person", "Timing", "__version__"]

# Every entry point of the runtime, training and export imports this package first.
opt_out()

_HOMES = {
    "EmotionError": "errors",
    "EmotionEvent": "types",
    "EmotionRuntime": "runtime",
    "Person": "types",
    "Timing": "pipeline",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for.

    The command line, training and export import this package for one module each, and should not pay for
    OpenCV and the models' code each time.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only now

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
