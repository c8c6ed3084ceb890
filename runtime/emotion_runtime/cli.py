"""The command `emotion-runtime`.

Exit status: 0 done, or stopped by a signal with everything flushed; 2 a user's mistake, in one line that says
the fix; 1 a bug, with its traceback.
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
    from emotion_runtime.sinks import Sink

# What runs models and reads video is imported when a run starts: `--help` and a typing error need not wait.


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    argv: the arguments without the program's name; None: those of the process.
    """
    started = time.monotonic()
    print_messages(PROGRAM)
    # Interrupted before or after the run, or by a second Ctrl-C within it: nothing is lost.
    return run(PROGRAM, lambda: _command(argv, started), interrupted=0)


def _command(argv: Sequence[str] | None, started: float) -> int:
    """Do what the command line asks for; returns the exit status."""
    flags = vars(_parser().parse_args(argv))
    printing, examining, as_json = (flags.pop(name, False) for name in ("print_config", "doctor", "json"))
    path = flags.pop("config", None)
    config = make_config(read_toml(path) if path else {}, flags)
    if printing:
        sys.stdout.write(as_toml(config))
        return 0
    if examining:
        return _examine(config, as_json=as_json)
    if as_json:
        raise EmotionError("--json: is for --doctor; events are written with --jsonl PATH")
    config.check_runnable()
    from emotion_runtime.sinks.outputs import check_outputs  # noqa: PLC0415 - see above

    check_outputs(config.jsonl, config.record, config.sources)
    _run(config, started)
    return 0


def _examine(config: RunConfig, *, as_json: bool) -> int:
    """Print the doctor's report; 2 with a FAIL in it."""
    from emotion_runtime import doctor  # noqa: PLC0415 - see above

    logging.getLogger("emotion_runtime").setLevel(logging.ERROR)  # the report says it all
    findings = doctor.run_checks(config.bundle, config.backend, config.precision)
    sys.stdout.write(doctor.as_json(findings) if as_json else doctor.as_text(findings))
    return 2 if doctor.worst_state(findings) == doctor.FAIL else 0


def _parser() -> argparse.ArgumentParser:
    # A flag that is not given leaves no trace, so that it does not override the file.
    parser = OneLineParser(
        prog=PROGRAM,
        description="How each person in front of a camera feels.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--camera", type=int, action="append", metavar="N", help="camera by number; repeatable")
    add("--source", action="append", metavar="URI", help="video file, v4l2:///dev/videoN or demo; repeatable")
    add("--bundle", metavar="NAME|DIR", help="model (default nano)")
    add("--detector", metavar="face|FILE.onnx", help="what finds people (default face)")
    add("--backend", metavar="NAME", help="auto, cpu, cuda, tensorrt, tensorrt-rtx or openvino")
    add(
        "--precision",
        metavar="NAME",
        help="of the encoders: fp32, fp16 or int8 (default: fp32, or by TensorRT)",
    )
    add("--head", metavar="NAME", help="head of the bundle (default: the bundle's)")
    add("--window", type=float, metavar="SECONDS", help="time a clip spans (default: the bundle's)")
    add(
        "--every",
        type=float,
        metavar="SECONDS",
        help="how often a person is encoded (default: from --window)",
    )
    add(
        "--smoothing",
        type=float,
        metavar="SECONDS",
        help=f"time constant of the smoothing, 0 for none (default {SMOOTHING})",
    )
    add(
        "--hysteresis",
        type=float,
        metavar="P",
        help="probability margin by which another label must lead before the shown label changes "
        f"(default {HYSTERESIS})",
    )
    add("--jsonl", metavar="PATH", help="write one line of JSON a frame; - for standard output")
    add("--record", metavar="OUT.mp4", help="write the video with what was found drawn in")
    add("--show", action=argparse.BooleanOptionalAction, help="a window (default: for a camera on a display)")
    add("--max-frames", type=int, metavar="N", help="stop after N frames")
    add("--duration", type=float, metavar="SECONDS", help="stop after so much media time")
    add("--realtime", action="store_true", help="play files at their own pace and drop late frames")
    add("--config", metavar="FILE.toml", help="read flags from a file; those given here win")
    add("--print-config", action="store_true", help="print the configuration as TOML and exit")
    add("--doctor", action="store_true", help="say what works on this machine, and what mends the rest")
    add("--json", action="store_true", help="the doctor's report as JSON")
    add("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _run(config: RunConfig, started: float) -> None:
    with _stop_signals() as stopped, ExitStack() as stack:
        from emotion_runtime.metrics import RunReport  # noqa: PLC0415 - see above
        from emotion_runtime.runtime import EmotionRuntime  # noqa: PLC0415
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
            name = config.head or "of the bundle"
            sys.stderr.write(
                f"emotion-runtime: head {name} is experimental: the model card says what it is worth\n"
            )
        # Sources before sinks: a mistyped source must not empty yesterday's results.
        sources = [stack.enter_context(open_source(uri, realtime=config.realtime)) for uri in config.sources]
        sinks = [stack.enter_context(closing(sink)) for sink in _open_sinks(config)]
        progress = stack.enter_context(_progress(config))
        try:
            for frame, event in runtime.follow(sources):
                if config.duration is not None and report.media_seconds(event) >= config.duration:
                    break
                with runtime.timer.stage("sinks"):
                    watched = [sink.write(frame, event) for sink in sinks]
                report.add(event)
                progress.update()
                if not all(watched) or stopped.is_set() or report.frames == config.max_frames:
                    break
        except SourceBroken as error:
            kept = f"what was made of {report.frames} frames is kept"
            raise SourceBroken(f"{error}; {kept}") from error
    sys.stderr.write(f"emotion-runtime: {report.line(runtime.timer, runtime.backend)}\n")


def _timing(config: RunConfig) -> "Timing":
    from emotion_runtime.pipeline import Timing  # noqa: PLC0415 - see above

    return Timing(config.window, config.every, config.smoothing, config.hysteresis)


def _open_sinks(config: RunConfig) -> Iterator["Sink"]:
    if config.jsonl is not None:
        from emotion_runtime.sinks.jsonl import JsonlSink  # noqa: PLC0415 - see above

        yield JsonlSink(config.jsonl)
    if config.record is not None:
        from emotion_runtime.sinks.video import VideoSink  # noqa: PLC0415

        yield VideoSink(config.record)
    if _wants_window(config):
        from emotion_runtime.sinks.window import WindowSink  # noqa: PLC0415

        yield WindowSink()


def _wants_window(config: RunConfig) -> bool:
    """Asked for, or a camera is watched on a machine that has a display."""
    if config.show is not None:
        return config.show
    display = sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return display and _watches_camera(config)


def _watches_camera(config: RunConfig) -> bool:
    return bool(config.camera) or any(uri.startswith("v4l2://") for uri in config.source)


def _progress(config: RunConfig) -> Any:
    """A progress bar on stderr for files on a terminal, else one that shows nothing."""
    from tqdm import tqdm  # noqa: PLC0415 - see above

    hidden = _watches_camera(config) or config.jsonl == "-" or not sys.stderr.isatty()
    return tqdm(total=config.max_frames, unit="frame", disable=hidden, leave=False)


@contextmanager
def _stop_signals() -> Iterator[Event]:
    """Turn the first SIGINT or SIGTERM into a request to end after the frame at hand; a second one kills.

    An exception thrown wherever the program stands would tear a line of JSON or leave a video without its
    index.
    """
    stop = Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(_number: int, _frame: object) -> None:
        stop.set()
        restore()

    for number in numbers:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
