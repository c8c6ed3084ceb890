"""Estimate how each person in front of a camera appears to feel, in real time and without torch.

Example::

    from emotion_runtime import EmotionRuntime

    for event in EmotionRuntime(bundle="nano").stream("people.mp4"):
        print(event.t, [(person.id, person.top) for person in event.persons])
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

# Every entry point of the runtime, training and export imports this package before other libraries.
opt_out()

_MODULE_OF = {
    "EmotionError": "errors",
    "EmotionEvent": "types",
    "EmotionRuntime": "runtime",
    "Person": "types",
    "Timing": "pipeline",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first access.

    The command line, training and export import single modules of this package, and should not wait for
    OpenCV and the code of the models each time.
    """
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - needed only here

    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
