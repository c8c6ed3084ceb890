"""One run of the command `emotion-runtime`: open the sources and the sinks, and feed the one to the other."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from emotion_runtime.config import RunConfig
from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.options import LIVE_SEGMENT, PROGRAM
from emotion_runtime.stop_signals import StopRequest

if TYPE_CHECKING:
    from emotion_runtime.metrics import RunReport
    from emotion_runtime.runtime import EmotionRuntime
    from emotion_runtime.sinks.base import Outputs
    from emotion_runtime.sinks.group import SinkGroup
    from emotion_runtime.sources import Source
    from emotion_runtime.timing import Timing
    from emotion_runtime.types import Frame, RunLine

# Modules that run models or read video are imported when a run starts, so that `--help` and typos are fast.


def run_config(config: RunConfig, started: float, stop: StopRequest) -> None:
    """Process all frames of the sources, and print a summary.

    Args:
        config: The options of the run.
        started: `time.monotonic()` when the program began.
        stop: Ends the run after the current frame, or while the run waits for one.

    Raises:
        EmotionError: Something cannot be opened or written, or a source failed midway (`SourceBroken`).
    """
    broken: SourceBroken | None = None
    stop.rescue_with(lambda: sys.stderr.write(f"{PROGRAM}: stopped before the first frame\n"))
    with ExitStack() as stack:
        from emotion_runtime.closing_report import closing_lines  # noqa: PLC0415 - see above
        from emotion_runtime.metrics import RunReport  # noqa: PLC0415
        from emotion_runtime.sinks import open_sinks  # noqa: PLC0415
        from emotion_runtime.sinks.group import SinkGroup  # noqa: PLC0415

        report = RunReport(started)
        runtime = _open_runtime(config, stack)
        # Sources before sinks: a mistyped source must not empty the results of an earlier run.
        run_line = runtime.run_line(config.changed)
        finished: list[str] = []  # files that were read to their ends, and whose results are not closed yet
        sources = _open_sources(config, _files_to_do(config, run_line), stack, stop.stopped, finished.append)
        outputs = _outputs(config, run_line, stop)
        sinks = stack.enter_context(_closing(SinkGroup(open_sinks(outputs)), stop))
        stop.rescue_with(lambda: _rescue(sinks, report, runtime))
        progress = stack.enter_context(_progress(config))
        try:
            for frame, event in runtime.follow(sources):
                with stop.writing(), runtime.timer.stage("sinks"):
                    sinks.finish(finished)
                    still_wanted = sinks.write(frame, event)
                report.add(event, still=frame.still)
                progress.update()
                if not still_wanted or stop.stopped.is_set() or report.frames == config.max_frames:
                    break
        except SourceBroken as error:
            kept = f"results for the {report.frames} frames processed so far were saved"
            broken = SourceBroken(f"{error}; {kept}")
        sinks.finish(finished)
    # The sinks are closed: what is printed here is on the disk.
    for line in closing_lines(report, runtime.summary(), sinks.files, sinks.partial_files):
        sys.stderr.write(f"{line}\n")
    sys.stderr.write(f"{PROGRAM}: {report.line(runtime.timer, runtime.backend)}\n")
    if sinks.failures:
        lost = f"an output failed: {'; '.join(sinks.failures)}"
        raise EmotionError(lost if broken is None else f"{broken}; {lost}")
    if broken is not None:
        raise broken


def _open_runtime(config: RunConfig, stack: ExitStack) -> "EmotionRuntime":
    """Load the models of a run; the stack closes them."""
    from emotion_runtime.runtime import EmotionRuntime  # noqa: PLC0415 - see above

    runtime = EmotionRuntime(
        config.bundle,
        config.detector,
        config.backend,
        head=config.head,
        timing=_timing(config),
        precision=config.precision,
        detector_size=config.detector_size,
        detector_score=config.detector_score,
    )
    stack.callback(runtime.close)
    if runtime.experimental:
        name = f"the head {config.head}" if config.head else "the default head of the bundle"
        sys.stderr.write(f"{PROGRAM}: {name} is experimental: see the model card for its accuracy\n")
    return runtime


def _open_sources(
    config: RunConfig,
    files: list[Path] | None,
    stack: ExitStack,
    stopped: Event,
    finished: Callable[[str], None],
) -> "list[Iterable[Frame]]":
    """Open the sources of a run.

    Args:
        config: The options of the run.
        files: Files to be read one after the other instead. None: all sources at the same time.
        stack: Closes the sources.
        stopped: Ends what sources wait for.
        finished: Is called with the path of each of the files that was read to its end.
    """
    from emotion_runtime.rounds import limited  # noqa: PLC0415 - see above
    from emotion_runtime.sources import open_source  # noqa: PLC0415
    from emotion_runtime.sources.in_turn import in_turn  # noqa: PLC0415

    def opened(uri: str | int) -> "Source":
        return open_source(uri, realtime=config.realtime, follow=config.follow, stop=stopped)

    def completed(path: str) -> None:
        if not stopped.is_set():  # otherwise the file ended early
            finished(path)

    if files is not None:
        return [stack.enter_context(closing(in_turn(files, opened, completed, seconds=config.duration)))]
    return [limited(stack.enter_context(opened(uri)), config.duration, of=str(uri)) for uri in config.sources]


def _files_to_do(config: RunConfig, run_line: "RunLine") -> list[Path] | None:
    """Return the files of all sources that have no complete results yet; None without `--jsonl FOLDER/`.

    Raises:
        EmotionError: A source is not a file, a folder or a pattern.
    """
    from emotion_runtime.sinks.jsonl_folder import is_jsonl_folder, unfinished  # noqa: PLC0415 - see above
    from emotion_runtime.sources import expand  # noqa: PLC0415

    if not is_jsonl_folder(config.jsonl):
        return None
    paths = [path for uri in config.sources for path in expand(str(uri))]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise EmotionError(f"--jsonl {config.jsonl} is a folder, for results of files: {missing[0]} is none")
    left = unfinished(paths, Path(str(config.jsonl)), None if config.overwrite else run_line)
    if len(left) < len(paths):
        sys.stderr.write(
            f"{PROGRAM}: {len(paths) - len(left)} of {len(paths)} files were finished by an earlier run; "
            "--overwrite processes them again\n"
        )
    return left


@contextmanager
def _closing(sinks: "SinkGroup", stop: StopRequest) -> Iterator["SinkGroup"]:
    """Close the sinks at the end, which a signal does not cut short."""
    try:
        yield sinks
    finally:
        with stop.writing():
            sinks.close()


def _rescue(sinks: "SinkGroup", report: "RunReport", runtime: "EmotionRuntime") -> None:
    """Close the sinks in another thread, since the main thread waits for a source or a model."""
    sinks.close()
    sys.stderr.write(f"{PROGRAM}: stopped while waiting; {report.line(runtime.timer, runtime.backend)}\n")


def _timing(config: RunConfig) -> "Timing":
    from emotion_runtime.timing import Timing  # noqa: PLC0415 - see above

    return Timing(config.window, config.every, config.smoothing, config.hysteresis, config.detect_every)


def _outputs(config: RunConfig, run: "RunLine", stop: StopRequest) -> "Outputs":
    """Return what a run writes. Files of live sources go on where an earlier run ended."""
    from emotion_runtime.sinks.base import Outputs  # noqa: PLC0415 - see above

    live = _uses_camera(config)
    return Outputs(
        jsonl=config.jsonl,
        record=config.record,
        record_segment=config.record_segment or (LIVE_SEGMENT if live else None),
        show=_wants_window(config),
        append=config.append or (live and not config.overwrite),
        wall_clock=config.wall_clock,
        sources=tuple(str(source) for source in config.sources),
        run=run,
        stopped=stop.stopped,
    )


def _wants_window(config: RunConfig) -> bool:
    """Return whether a window is requested, or a camera is used on a machine with a display."""
    if config.show is not None:
        return config.show
    if not _uses_camera(config):
        return False
    from emotion_runtime.sinks.window import display_problem  # noqa: PLC0415 - see above

    problem = display_problem()
    if problem is not None:
        logging.getLogger(__name__).info("no window is shown: %s", problem)
    return problem is None


def _uses_camera(config: RunConfig) -> bool:
    return bool(config.camera) or any(uri.startswith("v4l2://") for uri in config.source)


def _progress(config: RunConfig) -> Any:
    """Return a progress bar on standard error, which is hidden for cameras and without a terminal."""
    from tqdm import tqdm  # noqa: PLC0415 - see above

    hidden = _uses_camera(config) or config.jsonl == "-" or not sys.stderr.isatty()
    total = None if hidden else _expected_frames(config)
    return tqdm(total=total, unit="frame", disable=hidden, leave=False)


def _expected_frames(config: RunConfig) -> int | None:
    """Return the number of frames to come, as far as it is known, so that the time left can be shown."""
    from emotion_runtime.sources.length import estimate_frames  # noqa: PLC0415 - see above

    counts = [estimate_frames(str(uri), config.duration) for uri in config.sources]
    known = [count for count in counts if count is not None]
    total = sum(known) if len(known) == len(counts) else None
    limits = [limit for limit in (total, config.max_frames) if limit is not None]
    return min(limits, default=None)
