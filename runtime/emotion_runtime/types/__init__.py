"""Data types of the runtime: what is seen in images, and what is published about it."""

from emotion_runtime.types.events import (
    SCHEMA_VERSION,
    WATCHING,
    AggregateLine,
    EmotionEvent,
    Person,
    Quality,
    RunLine,
    SourceStatus,
    State,
    StatusLine,
    Why,
)
from emotion_runtime.types.frames import Box, Detections, Frame, Landmarks, Track

__all__ = [
    "SCHEMA_VERSION",
    "WATCHING",
    "AggregateLine",
    "Box",
    "Detections",
    "EmotionEvent",
    "Frame",
    "Landmarks",
    "Person",
    "Quality",
    "RunLine",
    "SourceStatus",
    "State",
    "StatusLine",
    "Track",
    "Why",
]
