"""Estimate how each person in front of a camera appears to feel, in real time and without torch.

Example::

    from emotion_runtime import EmotionRuntime

    for event in EmotionRuntime(bundle="nano").stream("people.mp4"):
        print(event.t, [(person.id, person.top) for person in event.persons])
"""

from typing import TYPE_CHECKING, Any

from emotion_runtime.telemetry import opt_out

if TYPE_CHECKING:
    from emotion_runtime.dataframe import to_dataframe
    from emotion_runtime.errors import EmotionError, SourceBroken
    from emotion_runtime.privacy.image_filter import Privacy
    from emotion_runtime.reader import read_events
    from emotion_runtime.runtime import EmotionRuntime
    from emotion_runtime.sinks.draw import Annotator, draw
    from emotion_runtime.sinks.jsonl import JsonlSink
    from emotion_runtime.sinks.video import VideoSink
    from emotion_runtime.sinks.window import WindowSink
    from emotion_runtime.sources import open_source
    from emotion_runtime.timing import Timing
    from emotion_runtime.types import EmotionEvent, Frame, Person, Quality

__version__ = "0.1.0"
__all__ = [
    "Annotator",
    "EmotionError",
    "EmotionEvent",
    "EmotionRuntime",
    "Frame",
    "JsonlSink",
    "Person",
    "Privacy",
    "Quality",
    "SourceBroken",
    "Timing",
    "VideoSink",
    "WindowSink",
    "__version__",
    "draw",
    "open_source",
    "read_events",
    "to_dataframe",
]

# Every entry point of the runtime, training and export imports this package before other libraries.
opt_out()

_MODULE_OF = {
    "Annotator": "sinks.draw",
    "EmotionError": "errors",
    "EmotionEvent": "types",
    "EmotionRuntime": "runtime",
    "Frame": "types",
    "JsonlSink": "sinks.jsonl",
    "Person": "types",
    "Privacy": "privacy.image_filter",
    "Quality": "types",
    "SourceBroken": "errors",
    "Timing": "timing",
    "VideoSink": "sinks.video",
    "WindowSink": "sinks.window",
    "draw": "sinks.draw",
    "open_source": "sources",
    "read_events": "reader",
    "to_dataframe": "dataframe",
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
