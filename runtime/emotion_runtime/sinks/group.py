"""Feed all sinks of a run; one that fails is dropped, and the others go on."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.base import AggregateSink, EndingSink, FinishingSink, IdleSink, Sink, StatusSink
from emotion_runtime.types import AggregateLine, EmotionEvent, Frame, StatusLine


class SinkGroup:
    """Several sinks that are used as one. As a context manager it closes them at the end.

    Args:
        sinks: The sinks. They may be opened while they are taken: if one cannot be opened, those before it
            are closed.

    Attributes:
        failures: What went wrong with the sinks that failed, one sentence each.
        partial_files: The files of these sinks: some of their results are missing.
    """

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks: list[Sink] = []
        self._files: list[Path] = []
        self.failures: list[str] = []
        self.partial_files: list[Path] = []
        try:
            for sink in sinks:
                self._sinks.append(sink)
        except BaseException:
            self.close()
            raise
        self._empty = not self._sinks

    @property
    def files(self) -> list[Path]:
        """The files that are, or were, written by the sinks that did not fail."""
        return [*self._files, *(path for sink in self._sinks for path in _files_of(sink))]

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Give a frame to every sink.

        Returns:
            False if the run should end: a viewer or a reader left, or the last sink failed.
        """
        wanted = [self._guarded(sink, partial(sink.write, frame, event)) for sink in list(self._sinks)]
        return all(wanted) and (self._empty or bool(self._sinks))

    def write_status(self, line: StatusLine) -> bool:
        """Give a change of the status of a source to the sinks that take it. Return False as `write` does."""
        taking = [sink for sink in self._sinks if isinstance(sink, StatusSink)]
        wanted = [self._guarded(sink, partial(sink.write_status, line)) for sink in taking]
        return all(wanted) and (self._empty or bool(self._sinks))

    def write_aggregate(self, line: AggregateLine) -> bool:
        """Give counts over several people to the sinks that take them. Return False as `write` does."""
        taking = [sink for sink in self._sinks if isinstance(sink, AggregateSink)]
        wanted = [self._guarded(sink, partial(sink.write_aggregate, line)) for sink in taking]
        return all(wanted) and (self._empty or bool(self._sinks))

    def idle(self) -> bool:
        """Let the sinks do what they have to do while no frame comes. Return False as `write` does."""
        idle = [sink for sink in self._sinks if isinstance(sink, IdleSink)]
        wanted = [self._guarded(sink, sink.idle) for sink in idle]
        return all(wanted) and (self._empty or bool(self._sinks))

    def end(self, sources: Iterable[str]) -> None:
        """Tell the sinks of which sources no further frame comes."""
        for name in sources:
            for sink in [each for each in self._sinks if isinstance(each, EndingSink)]:
                try:
                    sink.end(name)
                except (EmotionError, OSError) as error:  # noqa: PERF203 - few sources end
                    self._drop(sink, error)

    def finish(self, sources: list[str]) -> None:
        """Tell the sinks that have a file per source which sources were read to their ends.

        Args:
            sources: Their names; the list is emptied.
        """
        names, sources[:] = list(sources), []
        for sink in [each for each in self._sinks if isinstance(each, FinishingSink)]:
            try:
                for name in names:
                    sink.finish(name)
            except (EmotionError, OSError) as error:  # noqa: PERF203 - there is one such sink
                self._drop(sink, error)

    def close(self) -> None:
        """Finish and flush all sinks; an error of one is added to `failures`. Safe to call twice."""
        for sink in list(self._sinks):
            try:
                sink.close()
            except (EmotionError, OSError) as error:
                self.failures.append(str(error))
                self.partial_files += _files_of(sink)
            else:
                self._files += _files_of(sink)
            self._sinks.remove(sink)

    def _guarded(self, sink: Sink, write: Callable[[], bool]) -> bool:
        """Let a sink write; drop it if it fails. Return whether the run should go on."""
        try:
            return write()
        except (EmotionError, OSError) as error:
            self._drop(sink, error)
            return True

    def _drop(self, sink: Sink, error: Exception) -> None:
        self._sinks.remove(sink)
        self.failures.append(str(error))
        if self._sinks:  # otherwise the run ends, and the failure is its result
            logging.getLogger(__name__).error("%s; the run goes on without this output", error)
        try:
            sink.close()
        except (EmotionError, OSError) as second:
            logging.getLogger(__name__).debug("closing a failed sink: %s", second)
        self.partial_files += _files_of(sink)

    def __enter__(self) -> "SinkGroup":  # noqa: PYI034 - typing.Self needs Python 3.11
        """Return the group itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the sinks, see `close`."""
        self.close()


def _files_of(sink: Sink) -> list[Path]:
    files: list[Path] = getattr(sink, "files", [])  # a sink without files need not have the attribute
    return files
