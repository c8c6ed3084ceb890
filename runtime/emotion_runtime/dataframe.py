"""Events as a table of pandas, which is not a dependency of this package."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import EmotionEvent


def to_dataframe(events: Iterable[EmotionEvent]) -> Any:
    """Return a `pandas.DataFrame` with one row per person and frame; for the columns see `to_rows`.

    Args:
        events: For example `runtime.stream("people.mp4")` or `read_events("people.jsonl")`.

    Raises:
        EmotionError: pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise EmotionError(
            "to_dataframe needs pandas, which is not installed: pip install pandas, or use event.to_rows()"
        ) from error
    return pandas.DataFrame([row for event in events for row in event.to_rows()])
