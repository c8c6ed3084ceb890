"""Fresh processes of the command `emotion-runtime`: how soon they have a result, and their memory."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from emotion_runtime.errors import EmotionError

_STATUS = Path("/proc/self/status")
_TELLING_MEMORY = f"""
import sys
from emotion_runtime.cli import main
status = main()
print(open({str(_STATUS)!r}).read())
sys.exit(status)
"""
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
    """Return the peak resident memory of a fresh process in MB; None where Linux's /proc does not tell it.

    What `wait4` reports begins with the memory of this process, which was forked, however large that is.
    """
    if not _STATUS.is_file():
        return None
    process = subprocess.run(
        [sys.executable, "-c", _TELLING_MEMORY, *arguments], capture_output=True, text=True, check=False
    )
    found = re.search(r"^VmHWM:\s*(\d+) kB$", process.stdout, re.MULTILINE)
    if process.returncode or found is None:
        raise EmotionError(f"emotion-runtime {' '.join(arguments)} failed: {process.stderr.strip()}")
    return round(int(found[1]) * 1024 / 1e6, 1)
