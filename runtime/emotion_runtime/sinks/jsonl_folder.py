"""Write JSON lines into a folder, one file per source, so that a run over many files can be continued."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import make_folder, readable
from emotion_runtime.sinks.jsonl import JsonlSink
from emotion_runtime.types import AggregateLine, EmotionEvent, Frame, RunLine

_PARTIAL = ".partial"  # is added to the name of a file that is not finished
_BY_TIME = ("backend", "threads", "detector_backend", "detector_threads", "backend_milliseconds")


class JsonlFolderSink:
    """Writes the events of `people.mp4` to `people.mp4.jsonl`, which exists only once it is complete.

    Until then it is called `people.mp4.jsonl.partial`.

    Args:
        folder: The folder, which is created.
        run: The first line of each file. None: no such line.
        wall_clock: See `JsonlSink`.
        frames: See `JsonlSink`.

    Attributes:
        files: The files that were finished.

    Raises:
        EmotionError: The folder cannot be created. `write` and `finish` raise it if a file cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        run: RunLine | None = None,
        wall_clock: bool = False,
        frames: bool = True,
    ) -> None:
        self._folder = Path(folder)
        self._new = partial(JsonlSink, run=run, wall_clock=wall_clock, frames=frames)
        self._open: dict[str, JsonlSink] = {}  # by source
        self.files: list[Path] = []
        make_folder(self._folder)

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Write one line. Always returns True."""
        if frame.source not in self._open:
            path = _partial(jsonl_path(self._folder, frame.source))
            self._open[frame.source] = self._new(str(path))
        return self._open[frame.source].write(frame, event)

    def write_aggregate(self, line: AggregateLine) -> bool:
        """Write the counts of one moment of a source that has a file. Always returns True."""
        return line.source not in self._open or self._open[line.source].write_aggregate(line)

    def finish(self, source: str) -> None:
        """Give the file of a source its final name, after its last frame."""
        sink = self._open.pop(source, None)
        if sink is not None:
            sink.close()
            path = jsonl_path(self._folder, source)
            _partial(path).replace(path)
            self.files.append(path)

    def close(self) -> None:
        """Close the files that are not finished; they keep their partial names."""
        for source in list(self._open):
            self._open.pop(source).close()


def is_jsonl_folder(jsonl: str | None) -> bool:
    """Return whether `--jsonl` means a folder: an existing one, or a name that ends with a slash."""
    return bool(jsonl) and jsonl != "-" and (str(jsonl).endswith("/") or Path(str(jsonl)).is_dir())


def jsonl_path(folder: Path, source: str) -> Path:
    """Return the file for a source."""
    return folder / f"{Path(source).name}.jsonl"


def unfinished(sources: Mapping[str, Path], folder: Path, run: RunLine | None) -> list[str]:
    """Return the sources for which there are no complete results of a run with the same model and options.

    Results that are older than the file that they are of are not complete: its content may be another one.

    Args:
        sources: The files to be processed, by their names in results.
        folder: The folder of the results.
        run: The first line that the results of this run will have. None: all of them count as unfinished.

    Raises:
        EmotionError: Two files have the same name, or there are results of another file of the name, so that
            one would replace the results of the other.
    """
    names = [Path(source).name for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EmotionError(
            f"several files are called {twice[0]}; their results would have the same name: process their "
            "folders in runs of their own, each with a --jsonl folder of its own"
        )
    if run is None:
        return list(sources)
    return [name for name, path in sources.items() if not _is_finished(name, path, folder, run)]


def _is_finished(name: str, path: Path, folder: Path, run: RunLine) -> bool:
    results = jsonl_path(folder, name)
    try:
        with results.open("rb") as file:
            before = msgspec.json.decode(file.readline(), type=RunLine)
            first = file.readline()
        is_newer = _changed_at(path) > results.stat().st_mtime_ns if path.exists() else False
        line = msgspec.json.decode(first) if first else {}
    except (OSError, msgspec.DecodeError):
        return False
    of = line.get("source", name) if isinstance(line, dict) else name
    if of != readable(name) and os.path.realpath(of) != os.path.realpath(path):
        raise EmotionError(
            f"{results} has the results of {of}, which those of {readable(name)} would replace: give another "
            "folder to --jsonl, or --overwrite"
        )
    return not is_newer and _comparable(before) == _comparable(run)


def _changed_at(path: Path) -> int:
    """Return when a file was changed at the latest, in nanoseconds.

    A camera with a wrong clock, or another time zone, gives its files times in the future, which results are
    always older than. When a file got its content and its times on this machine, `st_ctime_ns` says. Only if
    the clock of this machine, or of its file server, was set back is that in the future, too. Then nothing
    tells whether the file was changed since, and it is processed again in every run until that time: to take
    it for finished could leave out results without a word.
    """
    status = path.stat()
    return min(status.st_mtime_ns, status.st_ctime_ns)


def _comparable(run: RunLine) -> RunLine:
    """Leave out how many frames a run may process, which cut no finished file, and a choice by time."""
    timed = _BY_TIME if "backend_milliseconds" in run.options else ()
    options = {name: value for name, value in run.options.items() if name not in ("max_frames", *timed)}
    return msgspec.structs.replace(run, options=options)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + _PARTIAL)
