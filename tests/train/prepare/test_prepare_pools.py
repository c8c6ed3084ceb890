import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emotion_runtime.errors import EmotionError
from emotion_train.prepare.pools import run_local


def note(path: Path) -> None:
    path.write_text(str(os.getpid()))


def die(_: Path) -> None:
    os._exit(9)


def refuse(path: Path) -> None:
    raise EmotionError(f"{path.name} cannot be")


def note_and_wait(path: Path) -> None:
    note(path)
    time.sleep(60)


def alive(process: int) -> bool:
    """Whether it runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_once(workers: int, tmp_path: Path):
    paths = [tmp_path / str(number) for number in range(5)]
    assert list(run_local(paths, note, workers=workers)) == [None] * 5
    ran = {int(path.read_text()) for path in paths}
    assert (ran == {os.getpid()}) == (workers == 1)
    assert len(ran) <= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_what_no_job_is_to_blame_for_stops_the_run(workers: int, tmp_path: Path):
    with pytest.raises(EmotionError, match=r"^film cannot be$"):
        list(run_local([tmp_path / "film"] * 3, refuse, workers=workers))


def test_a_worker_that_is_killed(tmp_path: Path):
    with pytest.raises(EmotionError, match="a worker was killed, most often because memory ran out") as error:
        list(run_local([tmp_path], die, workers=2))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_workers_leave_with_a_run_that_is_killed(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from emotion_train.prepare.pools import run_local\n"
        "from test_prepare_pools import note_and_wait\n"
        f"if __name__ == '__main__': list(run_local([Path(r'{tmp_path}/a'), Path(r'{tmp_path}/b')], "
        "note_and_wait, workers=2))"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    run = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("[ab]"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    workers = [int((tmp_path / name).read_text()) for name in "ab"]
    assert all(alive(worker) for worker in workers)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    deadline = time.monotonic() + 20
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(worker) for worker in workers)
