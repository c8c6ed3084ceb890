"""A process that is forked after the models were loaded: its calls are errors, and it ends normally."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork"),
]

# A child that hangs never ends; one that makes models of its own takes over three seconds on a busy machine.
PROGRAM = """
import gc, os, sys, time
from emotion_runtime.errors import EmotionError
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.sources.demo import read_demo

def forked(work, ending):
    pid = os.fork()
    if pid == 0:
        work()
        ending()
    deadline = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            assert status == 0, status
            return
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    sys.exit(f"the child did not end: {work.__name__}")

def refused(call):
    try:
        call()
    except EmotionError as error:
        assert "make one EmotionRuntime in each process" in str(error), error
        assert len(str(error).splitlines()) == 1
    else:
        sys.exit("no error in the child")

def one_step():
    refused(lambda: runtime.step(image, 1.0))

def every_call():
    global runtime, events
    one_step()
    refused(lambda: next(runtime.stream("demo")))
    refused(lambda: next(events))
    refused(lambda: runtime.timer)
    runtime.close()
    del runtime, events
    gc.collect()

def own_runtime():
    with EmotionRuntime(backend=sys.argv[1]) as own:
        assert [len(own.step(image, t).persons) for t in (0.0, 0.1, 0.2)][-1] == 2

def nothing():
    pass

def end():
    sys.exit(0)

image = next(read_demo()).image
runtime = EmotionRuntime(backend=sys.argv[1])
runtime.step(image, 0.0)
events = runtime.stream("demo")
next(events)
for work in (one_step, every_call, own_runtime, nothing):
    forked(work, end)
runtime.step(image, 0.1)
assert len(runtime.step(image, 0.2).persons) == 2
"""


@pytest.mark.parametrize("backend", ["cpu", "openvino"])
def test_forked_process_gets_an_error_and_ends(tmp_path: Path, backend: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    seconds = "30"
    done = subprocess.run(
        [sys.executable, str(program), backend, seconds],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr


def test_session_of_a_detector_alone_is_not_destroyed_in_a_child() -> None:
    program = (
        "import os, signal, sys; from emotion_runtime.detectors import load_detector\n"
        "detect = load_detector('face')\n"
        "if os.fork() == 0:\n"
        "    signal.alarm(30)\n"
        "    del detect\n"
        "    sys.exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=90, check=False).returncode == 0
