"""The interface of sinks, and what a run may write."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol, runtime_checkable

from emotion_runtime.feature_log import FeatureLog
from emotion_runtime.sinks.mqtt_options import MqttOptions
from emotion_runtime.sinks.rotation import Rotation
from emotion_runtime.types import AggregateLine, EmotionEvent, Frame, RunLine, StatusLine


class Sink(Protocol):
    """Takes every processed frame with its event, in order.

    A sink that writes files can list them in an attribute `files`, for the report at the end of a run.
    """

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Take one frame. Return False if the run should end, since the window or pipe was closed."""
        ...

    def close(self) -> None:
        """Finish and flush; safe to call twice."""
        ...


@runtime_checkable
class StatusSink(Sink, Protocol):
    """A sink that also takes changes of the status of a source."""

    def write_status(self, line: StatusLine) -> bool:
        """Take one change of status. Return False as `write` does."""
        ...


@runtime_checkable
class AggregateSink(Sink, Protocol):
    """A sink that also takes counts over several people."""

    def write_aggregate(self, line: AggregateLine) -> bool:
        """Take the counts of one moment. Return False as `write` does."""
        ...


@runtime_checkable
class IdleSink(Sink, Protocol):
    """A sink that has something to do while no frame comes, such as a window that wants to be closed."""

    def idle(self) -> bool:
        """Do it, in a moment. Return False as `write` does."""
        ...


@runtime_checkable
class EndingSink(Sink, Protocol):
    """A sink that holds something for each source, which it releases when no frame of the source comes."""

    def end(self, source: str) -> None:
        """Release what is held for a source, whether frames of it came or not."""
        ...


@runtime_checkable
class FinishingSink(Sink, Protocol):
    """A sink with a file for each source, which is finished when the source was read to its end."""

    def finish(self, source: str) -> None:
        """Finish the file of a source."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a run writes.

    Attributes:
        jsonl: File for JSON lines, or "-" for standard output. None: none.
        rotation: When the files of JSON lines and of the table begin anew. None: never.
        csv: File for a table of persons, or "-" for standard output. None: none.
        report: File for a page about the run. None: none.
        labels: Labels that get a column in tables.
        frames: Whether there is a JSON line for each frame. False: only for counts over several people.
        on_change: Whether JSON lines leave out events in which nothing has changed.
        record: File for the annotated video, or a folder for one annotated copy of each source. None: none.
        sound: Whether recordings have the sound of their sources.
        record_segment: Seconds after which a new file of the recording begins. None: one file.
        embeddings: File for the embeddings of persons. None: none.
        features: Where the pipeline puts them; needed with `embeddings`.
        mqtt: What is published to an MQTT broker. None: nothing.
        show: Whether to show the annotated video in a window.
        append: Whether to keep what the files contain. False: they are replaced.
        wall_clock: Whether to add the present time to events of files.
        sources: Names of the sources, in order; recordings are numbered by it. Each file of a folder is one.
            With the file of each, whose sound is recorded; None: it is not a file.
        windows: How many windows there will be.
        run: The first line of JSON lines. None: no such line.
        stopped: Set from outside when the run should end; waiting for the reader of a pipe ends then.
    """

    jsonl: str | None = None
    csv: str | None = None
    report: str | None = None
    labels: tuple[str, ...] = ()
    rotation: Rotation | None = None
    frames: bool = True
    on_change: bool = False
    record: str | None = None
    sound: bool = True
    record_segment: float | None = None
    embeddings: str | None = None
    features: FeatureLog | None = None
    mqtt: MqttOptions | None = None
    show: bool = False
    append: bool = False
    wall_clock: bool = False
    sources: Mapping[str, Path | None] = field(default_factory=dict)
    windows: int = 1
    run: RunLine | None = None
    stopped: Event | None = None
