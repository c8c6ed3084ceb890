"""Sessions out of files of JSON lines."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from emotion_runtime.reader import Line, read_lines
from emotion_runtime.sinks.changes import KEEP_ALIVE
from emotion_runtime.sinks.report.session import Session
from emotion_runtime.types import EmotionEvent, RunLine

_ON_CHANGE_PAUSE = KEEP_ALIVE + 5.0  # seconds; a line that is due comes with the next frame


def read_sessions(paths: Sequence[str | Path]) -> Iterator[Session]:
    """Yield the sessions in files of `--jsonl`, in order, each once it is complete.

    A line about the run begins a session, unless it begins a part of a file that was rotated.

    Args:
        paths: The files; parts of a rotated file in their order.

    Raises:
        EmotionError: A file cannot be read, or a line is not one of `--jsonl`.
    """
    session: Session | None = None
    run: RunLine | None = None  # was read, and nothing after it
    for path in paths:
        for line in read_lines(path):
            if isinstance(line, RunLine):
                run = line
                continue
            if session is None or (run is not None and not _goes_on(session, run, line)):
                if session is not None:
                    yield session
                session = _begin(run)
            run = None
            if isinstance(line, EmotionEvent):
                session.add(line)
            else:
                session.add_status(line)
    if session is not None:
        yield session


def _begin(run: RunLine | None) -> Session:
    on_change = run is not None and run.options.get("on_change") is True
    return Session(run, pause=_ON_CHANGE_PAUSE if on_change else None)


def _goes_on(session: Session, run: RunLine, line: Line) -> bool:
    """Return whether a line after a line about the run belongs to the session before it."""
    if run != session.run:
        return False
    if not isinstance(line, EmotionEvent):
        return getattr(line, "status", None) != "connecting"  # with which each source of a run begins
    last = session.last_frame(line.source)
    return last is None or line.frame > last
