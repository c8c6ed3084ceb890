"""Fresh processes of the command `emotion-runtime`: how soon they have a result, and their memory."""

import json
import os
import subprocess
import sys
import tempfile
import time

from emotion_runtime.errors import EmotionError

_PROGRAM = [sys.executable, "-c", "import sys; from emotion_runtime.cli import main; sys.exit(main())"]


def first_events(arguments: list[str], runs: int) -> list[float]:
    """Return the seconds from the start of a fresh process to its first event, of several processes.

    Bytecode is there, as after an installation, which compiles it: one more process compiles it before.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return [_first_event(arguments, environment) for _ in range(runs + 1)][1:]


def _first_event(arguments: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    with subprocess.Popen(
        [*_PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        lines = [process.stdout.readline() for _ in range(2)] if process.stdout else [""]
        seconds = time.perf_counter() - start
        _, errors = process.communicate()
    if not lines[-1]:  # the first line is about the run
        raise EmotionError(f"emotion-runtime wrote no event: {errors.strip()}")
    json.loads(lines[-1])
    return seconds


def peak_memory(arguments: list[str]) -> float | None:
    """Return the peak resident memory of a fresh process in MB; None where the system does not report it."""
    if not hasattr(os, "wait4"):
        return None
    process = subprocess.Popen([*_PROGRAM, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise EmotionError(f"emotion-runtime {' '.join(arguments)} ended with status {process.returncode}")
    scale = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes here
    return round(usage.ru_maxrss / scale, 1)
