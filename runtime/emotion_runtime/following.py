"""From frames to events: drop the state of sources that end, and tell apart the iterations of one source."""

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field

from emotion_runtime.errors import EmotionError
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.rounds import Rounds
from emotion_runtime.summary import Summary
from emotion_runtime.types import EmotionEvent, Frame, StatusLine

OnStatus = Callable[[StatusLine], object]


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of several sources gave; empty from time to time if nothing happens.

    Attributes:
        statuses: Changes of the status of live sources; they come before the events.
        events: Frames, with images that may leave, and their events.
        ended: Names of sources of which no further frame comes; their last ones were in earlier steps.
    """

    statuses: list[StatusLine] = field(default_factory=list)
    events: list[tuple[Frame, EmotionEvent]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)


class Following:
    """Feeds the frames of rounds to a pipeline.

    Args:
        pipeline: Turns frames into events.
        summary: Counts the events.
        check: Is called before every step; it raises an error if the pipeline cannot be used.
    """

    def __init__(self, pipeline: Pipeline, summary: Summary, check: Callable[[], None]) -> None:
        self._pipeline = pipeline
        self._check = check
        self._summary = summary
        self._readers: dict[str, Rounds] = {}  # which iteration reads a source, by its name

    def events(
        self, rounds: Rounds, on_status: OnStatus | None = None
    ) -> Generator[tuple[Frame, EmotionEvent], None, None]:
        """Yield every frame with its event.

        Args:
            rounds: The frames.
            on_status: Is called with every change of the status of a live source.

        Raises:
            EmotionError: See `steps`.
            SourceBroken: One or more sources failed midway; raised after the last event.
        """
        with closing(self.steps(rounds)) as steps:
            for step in steps:
                if on_status is not None:
                    for line in step.statuses:
                        on_status(line)
                yield from step.events
        rounds.raise_errors()

    def steps(self, rounds: Rounds) -> Generator[Step, None, None]:
        """Yield what the rounds give.

        Raises:
            EmotionError: Two sources have the same name, or a source was opened again meanwhile.
        """
        names: set[str] = set()
        try:
            for one in rounds:
                for name in one.ended:
                    names.discard(name)
                    self._release(name, rounds)
                for name in one.started:
                    names.add(name)
                    self._readers[name] = rounds
                    self._pipeline.forget(name)  # an iteration of before may have been left without an end
                    self._summary.forget(name)
                self._check_reader(names, rounds)
                self._check()
                events = self._pipeline.step_all(one.frames) if one.frames else []
                for frame, event in zip(one.frames, events, strict=True):
                    self._summary.add(event, still=frame.still)
                leaving = map(self._pipeline.images.leaving, one.frames)
                yield Step(one.statuses, list(zip(leaving, events, strict=True)), one.ended)
        finally:
            # The caller may iterate again from the beginning, which would look like time running backwards.
            for name in names:
                self._release(name, rounds)

    def _release(self, name: str, reader: Rounds) -> None:
        """Drop the state of a source that an iteration has read, unless a later one reads it now."""
        if self._readers.get(name) is reader:
            del self._readers[name]
            self._pipeline.forget(name)

    def _check_reader(self, names: Iterable[str], reader: Rounds) -> None:
        """Raise an error if sources that an iteration reads were opened again by a later one."""
        for name in names:
            if self._readers.get(name) is not reader:
                raise EmotionError(
                    f"source {name} was opened again while its first stream still ran; expected one stream "
                    "of a source at a time: close the first one, or make an EmotionRuntime for each"
                )
