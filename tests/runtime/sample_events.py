"""Frames, persons and events for tests of sinks."""

import numpy as np

from emotion_runtime.types import EmotionEvent, Frame, Person, Quality, RunLine, State

EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
RUN = RunLine(version="1", bundle="nano", bundle_sha256="0" * 64, head="probe", options={"window": 2.0})


def person(
    person_id: int,
    box: tuple[float, float, float, float],
    *,
    top: str | None = "happiness",
    state: State = "steady",
) -> Person:
    probabilities = np.full(len(EMOTIONS), 1 / 14)
    probabilities[EMOTIONS.index(top or "neutral")] += 0.5
    values = dict(zip(EMOTIONS, probabilities.tolist(), strict=True))
    return Person(
        id=person_id,
        box=box,
        score=0.987654321,
        state=state,
        top=top,
        why=None if top else "uncertain",
        emotions=values,
        raw=values,
        quality=Quality(head_px=box[2] - box[0]),
        valence=1 / 3,
    )


def event(*persons: Person, frame: int = 0, t: float = 0.0) -> EmotionEvent:
    return EmotionEvent(
        source="video.mp4", frame=frame, t=t, persons=list(persons), latency_ms=12.3456789, dropped=2
    )


def frame(index: int = 0, t: float = 0.0, *, size: tuple[int, int] = (480, 270), source: str = "a") -> Frame:
    return Frame(np.full((size[1], size[0], 3), 90, np.uint8), index, t, source)
