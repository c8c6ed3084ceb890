"""The command `emotion-runtime`.

Exit status: 0 if the run is done, or was stopped by a signal with all results flushed; 2 for a user's
mistake, described in one line with its fix; 1 for a bug, with its traceback.
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any

from emotion_runtime import __version__
from emotion_runtime.config import RunConfig, as_toml, make_config, read_toml
from emotion_runtime.console import OneLineParser, print_messages, run
from emotion_runtime.defaults import HYSTERESIS, SMOOTHING
from emotion_runtime.errors import EmotionError, SourceBroken

PROGRAM = "emotion-runtime"

if TYPE_CHECKING:
    from emotion_runtime.pipeline import Timing

# Modules that run models or read video are imported when a run starts, so that `--help` and typos are fast.


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        argv: The arguments without the program's name. None: those of the process.
    """
    started = time.monotonic()
    print_messages(PROGRAM)
    # A Ctrl-C before or after the run, or a second one during it, loses no results.
    return run(PROGRAM, lambda: _command(argv, started), interrupted=0)


def _command(argv: Sequence[str] | None, started: float) -> int:
    """Run the requested action and return the exit status."""
    parser = _parser()
    flags = vars(parser.parse_args(argv))
    print_config, doctor, as_json = (flags.pop(name, False) for name in ("print_config", "doctor", "json"))
    path = flags.pop("config", None)
    config = make_config(read_toml(path) if path else {}, flags)
    if print_config:
        # argparse has no public list of options.
        comments = {action.dest: action.help or "" for action in parser._actions}  # noqa: SLF001
        sys.stdout.write(as_toml(config, comments))
        return 0
    if doctor:
        return _print_report(config, as_json=as_json)
    if as_json:
        raise EmotionError("--json needs --doctor; to write events as JSON lines, use --jsonl PATH")
    config.check_runnable()
    from emotion_runtime.sinks.outputs import check_outputs  # noqa: PLC0415 - see above

    check_outputs(config.jsonl, config.record, config.sources)
    _run(config, started)
    return 0


def _print_report(config: RunConfig, *, as_json: bool) -> int:
    """Print the doctor's report and return the exit status, which is 2 if a check failed."""
    from emotion_runtime import doctor  # noqa: PLC0415 - see above

    logging.getLogger("emotion_runtime").setLevel(logging.ERROR)  # the report contains all of it
    findings = doctor.run_checks(config.bundle, config.backend, config.precision)
    sys.stdout.write(doctor.as_json(findings) if as_json else doctor.as_text(findings))
    return 2 if doctor.worst_state(findings) == doctor.FAIL else 0


def _parser() -> argparse.ArgumentParser:
    # An option that is not given is left out of the namespace, so that it does not override the file.
    parser = OneLineParser(
        prog=PROGRAM,
        description="Estimate how each person in front of a camera appears to feel.",
        epilog="Example: emotion-runtime --source demo --record demo.mp4 --jsonl demo.jsonl",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    _add_sources(parser)
    _add_model(parser)
    _add_timing(parser)
    _add_outputs(parser)
    add = parser.add_argument_group("configuration and help").add_argument
    add(
        "--config",
        metavar="FILE.toml",
        help="read options from a TOML file; options on the command line take precedence",
    )
    add("--print-config", action="store_true", help="print the configuration as a TOML template and exit")
    add("--doctor", action="store_true", help="check this machine and print a fix for each problem")
    add("--json", action="store_true", help="print the report of --doctor as JSON")
    add("--version", action="version", version=f"%(prog)s {__version__}", help="print the version and exit")
    return parser


def _add_sources(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("sources").add_argument
    add(
        "--camera",
        type=int,
        action="append",
        metavar="N",
        help="camera number, 0 is the first; may be repeated",
    )
    add(
        "--source",
        action="append",
        metavar="URI",
        help="video file, v4l2:///dev/videoN, or `demo` for the built-in scene; may be repeated",
    )
    add("--max-frames", type=int, metavar="N", help="stop after N frames, counted over all sources")
    add("--duration", type=float, metavar="SECONDS", help="stop after this many seconds of media time")
    add("--realtime", action="store_true", help="play files at their own speed and drop frames that are late")


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("model").add_argument
    add(
        "--bundle",
        metavar="NAME|DIR",
        help="model: name of a shipped bundle, or folder of a bundle (default: nano)",
    )
    add("--head", metavar="NAME", help="head of the bundle that predicts emotions (default: the bundle's)")
    add(
        "--detector",
        metavar="face|FILE.onnx",
        help="person detector: `face`, or a YOLOX or ultralytics ONNX file (default: face)",
    )
    add(
        "--backend",
        metavar="NAME",
        help="what runs the model: auto, cpu, cuda, tensorrt, tensorrt-rtx or openvino (default: auto)",
    )
    add(
        "--precision",
        metavar="NAME",
        help="numeric precision of the encoders: fp32, fp16 or int8 "
        "(default: fp32; with TensorRT, the fastest that passes the parity check)",
    )


def _add_timing(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("timing").add_argument
    add("--window", type=float, metavar="SECONDS", help="time that a clip spans (default: the bundle's)")
    add(
        "--every",
        type=float,
        metavar="SECONDS",
        help="time between two encodings of a person (default: the window divided by the frames of a clip)",
    )
    add(
        "--smoothing",
        type=float,
        metavar="SECONDS",
        help=f"time constant for smoothing the predictions; 0 turns smoothing off (default: {SMOOTHING})",
    )
    add(
        "--hysteresis",
        type=float,
        metavar="P",
        help="probability margin by which another label must lead before the shown label changes "
        f"(default: {HYSTERESIS})",
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("outputs").add_argument
    add(
        "--jsonl", metavar="PATH", help="write one line of JSON per frame to this file; - for standard output"
    )
    add("--record", metavar="OUT.mp4", help="write the annotated video to this file")
    add(
        "--show",
        action=argparse.BooleanOptionalAction,
        help="show the annotated video in a window (default: only for a camera, if there is a display)",
    )


def _run(config: RunConfig, started: float) -> None:
    with _stop_signals() as stopped, ExitStack() as stack:
        from emotion_runtime.metrics import RunReport  # noqa: PLC0415 - see above
        from emotion_runtime.runtime import EmotionRuntime  # noqa: PLC0415
        from emotion_runtime.sinks import open_sinks  # noqa: PLC0415
        from emotion_runtime.sources import open_source  # noqa: PLC0415

        report = RunReport(started)
        runtime = EmotionRuntime(
            config.bundle,
            config.detector,
            config.backend,
            head=config.head,
            timing=_timing(config),
            precision=config.precision,
        )
        stack.callback(runtime.close)
        if runtime.experimental:
            name = f"the head {config.head}" if config.head else "the default head of the bundle"
            sys.stderr.write(f"{PROGRAM}: {name} is experimental: see the model card for its accuracy\n")
        # Sources before sinks: a mistyped source must not empty the results of an earlier run.
        sources = [stack.enter_context(open_source(uri, realtime=config.realtime)) for uri in config.sources]
        opening = open_sinks(jsonl=config.jsonl, record=config.record, show=_wants_window(config))
        sinks = [stack.enter_context(closing(sink)) for sink in opening]
        progress = stack.enter_context(_progress(config))
        try:
            for frame, event in runtime.follow(sources):
                if config.duration is not None and report.media_seconds(event) >= config.duration:
                    break
                with runtime.timer.stage("sinks"):
                    still_wanted = [sink.write(frame, event) for sink in sinks]
                report.add(event)
                progress.update()
                if not all(still_wanted) or stopped.is_set() or report.frames == config.max_frames:
                    break
        except SourceBroken as error:
            kept = f"results for the {report.frames} frames processed so far were saved"
            raise SourceBroken(f"{error}; {kept}") from error
    sys.stderr.write(f"{PROGRAM}: {report.line(runtime.timer, runtime.backend)}\n")


def _timing(config: RunConfig) -> "Timing":
    from emotion_runtime.pipeline import Timing  # noqa: PLC0415 - see above

    return Timing(config.window, config.every, config.smoothing, config.hysteresis)


def _wants_window(config: RunConfig) -> bool:
    """Return whether a window is requested, or a camera is used on a machine with a display."""
    if config.show is not None:
        return config.show
    display = sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return display and _uses_camera(config)


def _uses_camera(config: RunConfig) -> bool:
    return bool(config.camera) or any(uri.startswith("v4l2://") for uri in config.source)


def _progress(config: RunConfig) -> Any:
    """Return a progress bar on standard error, which is hidden for cameras and without a terminal."""
    from tqdm import tqdm  # noqa: PLC0415 - see above

    hidden = _uses_camera(config) or config.jsonl == "-" or not sys.stderr.isatty()
    return tqdm(total=config.max_frames, unit="frame", disable=hidden, leave=False)


@contextmanager
def _stop_signals() -> Iterator[Event]:
    """Turn the first SIGINT or SIGTERM into a request to stop after the current frame; a second one kills.

    An exception at an arbitrary point could leave an incomplete line of JSON, or a video without its index.
    """
    stop = Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in signals}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def request(_number: int, _frame: object) -> None:
        stop.set()
        restore()

    for number in signals:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
