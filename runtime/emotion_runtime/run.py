"""One run of the command `emotion-runtime`: open the sources and the sinks, and feed the one to the other."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emotion_runtime.config import RunConfig
from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.options import PROGRAM
from emotion_runtime.stop_signals import StopRequest

if TYPE_CHECKING:
    from emotion_runtime.following import Step
    from emotion_runtime.live_report import LiveReport
    from emotion_runtime.metrics import RunReport, StageTimer
    from emotion_runtime.privacy.published import Publisher
    from emotion_runtime.rounds import Rounds
    from emotion_runtime.runtime import EmotionRuntime
    from emotion_runtime.service_manager import ServiceManager
    from emotion_runtime.sinks.group import SinkGroup
    from emotion_runtime.sources import Address
    from emotion_runtime.timing import Timing
    from emotion_runtime.types import StatusLine

_log = logging.getLogger(__name__)

# Modules that run models or read video are imported when a run starts, so that `--help` and typos are fast.


def run_config(config: RunConfig, started: float, stop: StopRequest) -> None:
    """Process all frames of the sources, and print a summary.

    Args:
        config: The options of the run.
        started: `time.monotonic()` when the program began.
        stop: Ends the run after the current frame, or while the run waits for one.

    Raises:
        EmotionError: Something cannot be opened or written; or (`SourceBroken`) a source failed midway, or a
            camera or stream was not live at the end.
    """
    stop.rescue_with(_stopped_early)
    with ExitStack() as stack:
        from emotion_runtime.live_report import LiveReport  # noqa: PLC0415 - see above
        from emotion_runtime.metrics import RunReport  # noqa: PLC0415
        from emotion_runtime.privacy.published import Publisher  # noqa: PLC0415
        from emotion_runtime.run_outputs import (  # noqa: PLC0415
            open_outputs,
            outputs_of,
            run_options,
            warn_without_effect,
        )
        from emotion_runtime.run_sources import checked_addresses, fail, open_rounds  # noqa: PLC0415
        from emotion_runtime.service_manager import ServiceManager  # noqa: PLC0415
        from emotion_runtime.sinks.group import SinkGroup  # noqa: PLC0415

        manager = stack.enter_context(ServiceManager())
        addresses, mistakes = checked_addresses(config)
        report = RunReport(started)
        runtime = _open_runtime(config, addresses, stack)
        # Sources before sinks: a mistyped source must not empty the results of an earlier run.
        run_line = runtime.run_line(run_options(config, addresses))
        finished: list[str] = []  # files that were read to their ends, and whose results are not closed yet
        opened = open_rounds(addresses, config, run_line, runtime.timer, stop, finished)
        rounds = stack.enter_context(opened)
        for mistake in mistakes:
            fail(rounds, mistake)
        outputs = outputs_of(config, addresses, runtime, stop, rounds)
        warn_without_effect(config, addresses, outputs)
        opening = open_outputs(outputs, config, addresses, runtime, rounds)
        sinks = stack.enter_context(_closing(SinkGroup(opening), stop))
        stop.rescue_with(lambda: _rescue(sinks, report, runtime, rounds))
        publisher = Publisher(ids=not config.no_ids, least=config.aggregate)
        has_live = any(address.live for address in addresses)
        live = LiveReport(runtime.rates, people=publisher.single_people) if has_live else None
        progress = _open_progress(config, addresses, stack)
        run = _Run(config, stop, runtime.timer, sinks, report, live, publisher)
        _follow(run, runtime, rounds, manager, finished, progress)
        broken = rounds.broken()
    # The sinks are closed: what is printed here is on the disk.
    _print_summary(run, runtime)
    _raise_failures(broken, sinks.failures, report.frames)


@dataclass(frozen=True, slots=True)
class _Run:
    """Gives the results of a run to its sinks and reports."""

    config: RunConfig
    stop: StopRequest
    timer: "StageTimer"
    sinks: "SinkGroup"
    report: "RunReport"
    live: "LiveReport | None"
    publisher: "Publisher"

    def take(self, step: "Step") -> bool:
        """Take the results of one step. Return whether the run should go on."""
        wanted = True
        for status in step.statuses:
            wanted &= self.take_status(status)
        with self.stop.writing():
            self.sinks.end(step.ended)
        for frame, event in step.events:
            published = self.publisher.event(event)
            with self.stop.writing(), self.timer.stage("sinks"):
                wanted &= self.sinks.write(frame, published)
                for line in self.publisher.aggregates(event, still=frame.still):
                    wanted &= self.sinks.write_aggregate(line)
            self.report.add(event, still=frame.still and self.publisher.single_people)
            if self.live is not None:
                self.live.add(published)
            if not wanted or self.report.frames == self.config.max_frames:
                return False
        if not step.events:
            wanted &= self.sinks.idle()
        news = self.live.line() if self.live is not None else None
        if news is not None:
            _log.info("%s", news)
        return wanted and not self.stop.stopped.is_set()

    def finish(self, files: list[str], *, last: bool = False) -> None:
        """Finish the results of files that were read to their ends, or of all sources; empty the list."""
        with self.stop.writing():
            for source in [None] if last else files:
                for line in self.publisher.finish(source):
                    self.sinks.write_aggregate(line)
            self.sinks.finish(files)

    def take_status(self, line: "StatusLine") -> bool:
        """Take a change of the status of a source. Return whether the run should go on."""
        if self.live is not None:
            self.live.add_status(line)
        with self.stop.writing():
            return self.sinks.write_status(line)


def _follow(
    run: _Run,
    runtime: "EmotionRuntime",
    rounds: "Rounds",
    manager: "ServiceManager",
    finished: list[str],
    progress: Callable[[int], object],
) -> None:
    """Process all frames.

    Args:
        run: Takes the results.
        runtime: Turns frames into events.
        rounds: The frames; closed at the end.
        manager: Is told that the run is ready, alive and stopping.
        finished: Gets the name of each file that was read to its end.
        progress: Is called with the number of new events.
    """
    from emotion_runtime.service_manager import status_text  # noqa: PLC0415 - see above

    manager.ready()
    for step in runtime.steps(rounds):
        manager.alive(lambda: status_text(rounds.statuses(), run.report.frames))
        run.finish(finished)
        if not run.take(step):
            break
        progress(len(step.events))
    manager.stopping()
    run.finish(finished, last=True)
    for status in rounds.close():
        run.take_status(status)


def _print_summary(run: _Run, runtime: "EmotionRuntime") -> None:
    from emotion_runtime.closing_report import closing_lines  # noqa: PLC0415 - see above

    sinks = run.sinks
    people = runtime.summary() if run.publisher.single_people else {}
    lines = closing_lines(
        run.report,
        people,
        sinks.files,
        sinks.partial_files,
        ids=not run.config.no_ids,
        zones=bool(run.config.zone),
    )
    lines += run.live.closing_lines() if run.live else []
    lines.append(f"{PROGRAM}: {run.report.line(runtime.timer, runtime.backend)}")
    for line in lines:
        sys.stderr.write(f"{line}\n")


def _raise_failures(broken: SourceBroken | None, outputs: Sequence[str], frames: int) -> None:
    """Raise one error for the sources and the outputs that failed, if some did."""
    failures = []
    if broken is not None:
        saved = (
            f"results for the {frames} frames processed so far were saved"
            if frames
            else "there are no results"
        )
        failures.append(f"{broken}; {saved}")
    if outputs:
        failures.append(f"an output failed: {'; '.join(outputs)}")
    if failures:
        raise (EmotionError if outputs else SourceBroken)("; ".join(failures))


def _open_runtime(config: RunConfig, addresses: "Sequence[Address]", stack: ExitStack) -> "EmotionRuntime":
    """Load the models of a run; the stack closes them."""
    from emotion_runtime.privacy.image_filter import Privacy  # noqa: PLC0415 - see above
    from emotion_runtime.runtime import EmotionRuntime  # noqa: PLC0415

    runtime = EmotionRuntime(
        config.bundle,
        config.detector,
        config.backend,
        head=config.head,
        timing=_timing(config),
        precision=config.precision,
        detector_size=config.detector_size,
        detector_score=config.detector_score,
        privacy=Privacy(config.blur, config.zone),
        # The results of a file beside a camera must not depend on a stop-watch either.
        live=config.realtime or all(address.live for address in addresses),
    )
    stack.callback(runtime.close)
    if runtime.experimental:
        name = f"the head {config.head}" if config.head else "the default head of the bundle"
        sys.stderr.write(f"{PROGRAM}: {name} is experimental: see the model card for its accuracy\n")
    return runtime


@contextmanager
def _closing(sinks: "SinkGroup", stop: StopRequest) -> Iterator["SinkGroup"]:
    """Close the sinks at the end, which a signal does not cut short."""
    try:
        yield sinks
    finally:
        with stop.writing():
            sinks.close()
            stop.finish()  # only the summary is left


def _stopped_early() -> int:
    _stop_builders()
    sys.stderr.write(f"{PROGRAM}: stopped before the first frame\n")
    return 0


def _stop_builders() -> None:
    """Terminate builders of engines, which would go on without this process."""
    # No import: the main thread may be stuck in one.
    client = sys.modules.get("emotion_runtime.tensorrt.build_client")
    if client is not None:
        client.stop_builders()


def _rescue(sinks: "SinkGroup", report: "RunReport", runtime: "EmotionRuntime", rounds: "Rounds") -> int:
    """Close the sinks in another thread, since the main thread waits for a source or a model."""
    sinks.close()
    _stop_builders()
    sys.stderr.write(f"{PROGRAM}: stopped while waiting; {report.line(runtime.timer, runtime.backend)}\n")
    broken = rounds.broken()
    if broken is not None:
        sys.stderr.write(f"{PROGRAM}: error: {broken}\n")
    return 0 if broken is None else 2


def _timing(config: RunConfig) -> "Timing":
    from emotion_runtime.timing import Timing  # noqa: PLC0415 - see above

    return Timing(config.window, config.every, config.smoothing, config.hysteresis, config.detect_every)


def _open_progress(
    config: RunConfig, addresses: "Sequence[Address]", stack: ExitStack
) -> Callable[[int], object]:
    """Return what adds a number of frames to a progress bar on standard error, which the stack closes.

    There is none for cameras, and without a terminal.
    """
    live = any(address.live for address in addresses)
    if live or "-" in (config.jsonl, config.csv) or not sys.stderr.isatty():
        return lambda _frames: None
    from tqdm import tqdm  # noqa: PLC0415 - see above

    from emotion_runtime.run_sources import expected_frames  # noqa: PLC0415

    bar = tqdm(total=expected_frames(addresses, config), unit="frame", leave=False)
    update: Callable[[int], object] = stack.enter_context(bar).update
    return update
