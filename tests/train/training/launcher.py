"""Starts runs of `emotion-train pretrain` by forking, for test_lasting_run.py.

Each line of standard input is a JSON list: the file for standard error, and the arguments. The id of the new
process goes to standard output; when it has ended, its exit status goes into FILE.status.
"""

import json
import os
import sys
import threading
from pathlib import Path

import matplotlib.backends.backend_svg  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import torchvision  # noqa: F401

from emotion_train.cli import main
from emotion_train.commands import pretrain  # noqa: F401
from emotion_train.training import outputs

outputs.FIRST_REPORT = 3600.0  # drawn at the end only: each takes as long as dozens of these small steps


def run(stderr: str, arguments: list[str]) -> None:
    os.setsid()
    file = os.open(stderr, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 2)
    os.dup2(file, 1)
    status = main(["pretrain", *arguments])
    sys.stderr.flush()
    os._exit(status)


def note_end(process: int, stderr: Path) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    temporary = stderr.with_suffix(".tmp")
    temporary.write_text(str(status))
    temporary.rename(stderr.with_suffix(".status"))


for line in sys.stdin:
    stderr, *arguments = json.loads(line)
    child = os.fork()
    if not child:
        run(stderr, arguments)
    sys.stdout.write(f"{child}\n")
    sys.stdout.flush()
    threading.Thread(target=note_end, args=(child, Path(stderr))).start()
