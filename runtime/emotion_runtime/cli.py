"""The command `emotion-runtime`.

Exit status: 0 if the run is done, or was stopped by a signal with all results flushed; 2 for a user's
mistake, described in one line with its fix, and for sources that failed or were not live at the end, however
the run ended; 1 for a bug, with its traceback.
"""

import contextlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Container, Iterator, Sequence

from emotion_runtime.config import RunConfig, as_toml, make_config
from emotion_runtime.config_checks import check_runnable
from emotion_runtime.config_file import read_toml
from emotion_runtime.console import open_standard_streams, results_only_on_stdout, run, write_output
from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.messages import print_messages, write_json_messages
from emotion_runtime.options import PROGRAM, parser
from emotion_runtime.run import run_config
from emotion_runtime.stop_signals import stop_at_signals

# Modules that run models or read video are imported when a run starts, so that `--help` and typos are fast.


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        argv: The arguments without the program's name. None: those of the process.
    """
    started = time.monotonic()
    open_standard_streams()
    print_messages(PROGRAM, times=True)
    # A Ctrl-C before or after the run, or a second one during it, loses no results.
    status = run(PROGRAM, lambda: _command(argv, started), interrupted=0)
    if argv is None:
        _leave_threads_behind(status)
    return status


def _leave_threads_behind(status: int) -> None:
    """End the process now if a thread still hangs in a library.

    Python would end such a thread inside the library's C++ code, which then aborts the whole process, with
    another exit status.
    """
    if any(thread.daemon and thread is not threading.current_thread() for thread in threading.enumerate()):
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
                stream.flush()
        os._exit(status)


def _command(argv: Sequence[str] | None, started: float) -> int:
    """Run the requested action and return the exit status."""
    options = parser()
    flags = vars(options.parse_args(argv))
    print_config, doctor, as_json = (flags.pop(name, False) for name in ("print_config", "doctor", "json"))
    if flags.get("log_format") == "json":
        write_json_messages(PROGRAM)
    path = flags.pop("config", None)
    file = read_toml(path, RunConfig.__struct_fields__) if path is not None else {}
    config = make_config(file, flags, path or "")
    if config.log_format == "json":
        write_json_messages(PROGRAM)
    if print_config:
        # argparse has no public list of options.
        comments = {action.dest: action.help or "" for action in options._actions}  # noqa: SLF001
        write_output(as_toml(config, comments))
        return 0
    if doctor:
        return _print_report(config, as_json=as_json)
    if as_json:
        raise EmotionError("--json needs --doctor; to write events as JSON lines, use --jsonl PATH")
    replaced = {"camera", "source"} if flags.keys() & {"camera", "source"} else set()
    with _naming_the_file(path, file.keys() - flags.keys() - replaced):
        check_runnable(config)
        with stop_at_signals() as stop, results_only_on_stdout():
            run_config(config, started, stop)
    return 0


@contextlib.contextmanager
def _naming_the_file(path: str | None, keys: Container[str]) -> Iterator[None]:
    """Name the configuration file, and the key, in an error about an option that only the file has.

    Args:
        path: The file.
        keys: The options that only the file has.
    """
    try:
        yield
    except SourceBroken:  # its address was right
        raise
    except EmotionError as error:
        named = _option_at_start(str(error))
        option = named or error.option
        if option not in keys:
            raise
        raise EmotionError(f"--config {path}: {'' if named else f'{option}: '}{error}") from error


def _option_at_start(message: str) -> str | None:
    """Return the option with which a message begins, as in `--detector-size 5` or `detector size 5`."""
    start = re.sub(r"[ -]", "_", re.sub(r"^--(no-(?=mqtt))?", "", message)).lower()
    found = [name for name in RunConfig.__struct_fields__ if re.match(rf"{name}(?![a-z])", start)]
    return max(found, key=len, default=None)


def _print_report(config: RunConfig, *, as_json: bool) -> int:
    """Print the doctor's report and return the exit status, which is 2 if a check failed."""
    from emotion_runtime import doctor  # noqa: PLC0415 - see above

    logging.getLogger("emotion_runtime").setLevel(logging.ERROR)  # the report contains all of it
    with results_only_on_stdout():
        findings = doctor.run_checks(
            config.bundle, config.backend, config.precision, lambda: config.sources, config.detector
        )
        write_output(doctor.as_json(findings) if as_json else doctor.as_text(findings))
    return 2 if doctor.worst_state(findings) == doctor.FAIL else 0
