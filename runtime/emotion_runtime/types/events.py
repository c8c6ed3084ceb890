"""What a run publishes as lines of JSONL: events, the run itself, changes of status, counts of people."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from emotion_runtime.rounding import rounded
from emotion_runtime.types.frames import Box

SCHEMA_VERSION = 2

State = Literal["new", "warming", "steady", "lost", "photo"]
Why = Literal["warming", "small", "blurred", "cut", "turned away", "occluded", "uncertain", "stale"]
SourceStatus = Literal["connecting", "live", "degraded", "frozen", "lost", "paused", "ended"]
# Statuses in which new images come. In the others it is not known who is there.
WATCHING: tuple[SourceStatus, ...] = ("live", "degraded")


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """How well the head of a person can be seen; None where it is not measured.

    Attributes:
        head_px: Width of the head in frame pixels.
        sharpness: From 0 (blurred) to 1 (sharp).
        inside: Fraction of the head inside the frame, in [0, 1].
        frontal: From 0 (profile, or turned away) to 1 (facing the camera).
        roll_deg: Tilt of the head in degrees, in (-180, 180]; positive: clockwise in the image.
    """

    head_px: float
    sharpness: float | None = None
    inside: float = 1.0
    frontal: float | None = None
    roll_deg: float | None = None


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One person in one frame; a part of `EmotionEvent`.

    Attributes:
        id: The track's id, from 1, unique within the source; 0, and not in JSONL, where ids are not
            published.
        box: (x1, y1, x2, y2) in frame pixels.
        score: Score of the detection, in [0, 1].
        state: "new" until the person was found in several frames, "warming" until there are embeddings
            enough, then "steady"; "lost" while the person is not visible; "photo" in a still image.
        top: The shown label after hysteresis. None for the reason `why`.
        why: Why there is no label. None: there is one.
        emotions: Probability by label, smoothed over time. Empty until the first encoding.
        raw: The same from the latest clip alone. Both sum to 1 if the head is a softmax.
        quality: How well the head can be seen. None: not measured yet.
        filled: Fraction of a clip for which there are embeddings, in [0, 1].
        valence: Smoothed over time, in the units that the bundle's affect head was fitted on. None until the
            first encoding, and if the bundle has no such head. The same holds for arousal and dominance.
        arousal: See `valence`.
        dominance: See `valence`.
    """

    id: int = 0
    box: Box
    score: float
    state: State
    top: str | None = None
    why: Why | None = None
    emotions: dict[str, float] = {}
    raw: dict[str, float] = {}
    quality: Quality | None = None
    filled: float = 1.0
    valence: float | None = None
    arousal: float | None = None
    dominance: float | None = None

    @property
    def confidence(self) -> float | None:
        """Probability of the shown label, in [0, 1]; None if there is no label."""
        return None if self.top is None else self.emotions[self.top]


class EmotionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The result for one frame; one line of JSONL.

    Attributes:
        schema: Version of the format.
        type: Kind of the line.
        source: Name of the source.
        frame: Number of the frame in its source, from 0.
        t: Seconds of media time.
        time: Wall-clock time of the capture, in UTC. None, and not in JSONL, where it is not known.
        persons: The persons in view, and those lost a moment ago.
        latency_ms: Milliseconds from capture to this event; 0 for a file that is read frame by frame.
        dropped: Frames dropped since the source was opened.
    """

    schema: int = SCHEMA_VERSION
    type: Literal["frame"] = "frame"
    source: str
    frame: int
    t: float
    time: datetime | None = None
    persons: list[Person]
    latency_ms: float = 0.0
    dropped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the event as JSON-ready values, rounded: what the line of JSONL holds."""
        values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(rounded(self)))
        return values

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one flat row per person, for tables.

        The columns are those of the frame, `id`, `x1` to `y2`, `score`, `state`, `top`, `why`, `confidence`,
        the values of `quality`, `valence`, `arousal` and `dominance`, and for each label `p_LABEL`. A value
        that is not known is None.
        """
        line = self.to_dict()
        return [_row(line, person) for person in line["persons"]]


def _row(line: dict[str, Any], person: dict[str, Any]) -> dict[str, Any]:
    row = {name: line.get(name) for name in ("source", "frame", "t", "time")} | {"id": person.get("id")}
    row |= zip(("x1", "y1", "x2", "y2"), person["box"], strict=True)
    row |= {name: person[name] for name in ("score", "state", "top", "why")}
    row["confidence"] = person["emotions"].get(person["top"])
    row |= dict.fromkeys(Quality.__struct_fields__) | (person["quality"] or {})
    row |= {name: person[name] for name in ("valence", "arousal", "dominance")}
    return row | {f"p_{label}": value for label, value in person["emotions"].items()}


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a JSONL file: what made the lines after it.

    Attributes:
        schema: Version of the format.
        type: Kind of the line.
        version: Version of this program.
        bundle: Name of the bundle.
        bundle_sha256: Hash of the bundle's bundle.json, which holds the hashes of its files.
        head: Name of the head that predicts emotions.
        options: Options that differ from their defaults, by name.
    """

    schema: int = SCHEMA_VERSION
    type: Literal["run"] = "run"
    version: str
    bundle: str
    bundle_sha256: str
    head: str
    options: dict[str, Any] = {}


class StatusLine(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the status of a live source.

    Attributes:
        schema: Version of the format.
        type: Kind of the line.
        source: Name of the source.
        time: Wall-clock time of the change, in UTC.
        status: The new status.
        reason: What happened, in words; None: nothing that needs a reason.
    """

    schema: int = SCHEMA_VERSION
    type: Literal["status"] = "status"
    source: str
    time: datetime
    status: SourceStatus
    reason: str | None = None


class AggregateLine(msgspec.Struct, frozen=True, kw_only=True):
    """How many people had which label at one moment; there is no such line for fewer than a given number.

    Attributes:
        schema: Version of the format.
        type: Kind of the line.
        source: Name of the source.
        t: Seconds of media time.
        time: Wall-clock time of the capture, in UTC. None, and not in JSONL, where it is not known.
        people: Number of people in view who had a label at this moment.
        counts: How many of them had each label.
    """

    schema: int = SCHEMA_VERSION
    type: Literal["aggregate"] = "aggregate"
    source: str
    t: float
    time: datetime | None = None
    people: int
    counts: dict[str, int]
