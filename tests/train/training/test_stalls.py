"""A process that hangs while others wait for it ends the run, and is named."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from made_shards import write_set
from tiny_run import CLIPS, PRETRAIN, TINY
from torch import distributed

from emotion_train.checkpoint import load_checkpoint
from emotion_train.training.parallel import World
from emotion_train.training.stalls import Message, StallWatch, stalled

LIMIT = 10.0


def message(phases: int, seconds: float, *, patience: float = LIMIT, done: bool = False) -> Message:
    return Message("host", 1, phases, f"phase {phases}", seconds, patience, done)


def ranks_of(*messages: Message | None, silent: int | None = None) -> list[int]:
    silences = {rank: 99.0 if rank == silent else 0.0 for rank in range(len(messages))}
    return list(stalled(dict(enumerate(messages)), silences, LIMIT))


def test_those_in_the_furthest_phase_wait_and_are_not_named():
    waiting = message(7, 60)
    assert ranks_of(waiting, message(6, 60), waiting) == [1]
    assert ranks_of(waiting, message(6, 5), waiting) == []  # late, and not yet too late
    assert ranks_of(message(6, 60), message(6, 61)) == [0, 1]  # nobody moves, as when a link is down
    assert ranks_of(message(6, 60), message(6, 5)) == []


def test_an_evaluation_may_take_longer():
    evaluating = message(6, 60, patience=3600)
    assert ranks_of(evaluating, message(7, 60), message(7, 60)) == []
    assert ranks_of(message(6, 3601, patience=3600), message(7, 3600)) == [0]


def test_a_silent_process_has_stalled_wherever_it_is():
    assert ranks_of(message(7, 0), message(7, 0), silent=1) == [1]
    assert ranks_of(message(7, 0), None, silent=1) == [1]  # it never came
    assert ranks_of(message(7, 0), None) == []
    assert ranks_of(message(7, 0), message(7, 0, done=True), silent=1) == []  # it has left
    assert ranks_of(message(7, 60), message(7, 0, done=True)) == [0]


@pytest.fixture
def watches() -> Iterator[list[StallWatch]]:
    """Return the watches of two processes, both in this one."""
    host = distributed.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=5))
    stores = [distributed.TCPStore("127.0.0.1", host.port, timeout=timedelta(seconds=5)) for _ in range(2)]
    yield [StallWatch(World(rank, 2), stores[rank], "test", 0.4) for rank in range(2)]
    del host


def test_the_process_that_others_wait_for_is_reported_once(watches: list[StallWatch]):
    reports: dict[int, str | None] = {}
    ended = threading.Barrier(3)
    for watch in watches:

        def end(text: str | None, rank: int = watch.world.rank) -> None:
            reports[rank] = text
            ended.wait(10)

        watch._end = end
        watch.start()
    for watch in watches:
        watch.enter("step 3, reading its batch")
    watches[0].enter("step 3, training")
    ended.wait(10)
    assert reports[1] is None
    assert re.fullmatch(
        rf"rank 1 of 2 \(.*process {os.getpid()}\) has been in step 3, reading its batch for \d s; expected "
        r"progress within the stall_limit of the configuration; the run ends; continue it with --resume",
        reports[0] or "",
    )


def test_processes_that_go_on_or_are_done_are_left_alone(watches: list[StallWatch]):
    def end(text: str | None) -> None:
        pytest.fail(str(text))

    for watch in watches:
        watch._end = end
        watch.start()
    for step in range(6):
        for watch in watches:
            watch.enter(f"step {step}")
        time.sleep(0.1)
    watches[1].stop()
    for _ in range(6):
        watches[0].enter("saving")
        time.sleep(0.1)
    watches[0].stop()


@pytest.mark.nightly
@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_process_ends_a_run_of_torchrun(rank: int, tmp_path: Path):
    run = start_two(tmp_path)
    stopped = process_of(run.pid, rank)
    os.kill(stopped, signal.SIGSTOP)
    before = time.monotonic()
    said = run.communicate(timeout=240)[1]
    assert run.returncode
    assert time.monotonic() - before < 120
    found = re.search(r"emotion-train pretrain: error: (rank \d of 2 .*)", said)
    assert found, said
    assert found[1].startswith(f"rank {rank} of 2 (")
    assert f"process {stopped}; step" in found[1]


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("ranks", "number", "cause"),
    [
        ((0,), signal.SIGTERM, "SIGTERM"),
        ((1,), signal.SIGUSR1, "a signal to another process"),
        ((0, 1), signal.SIGUSR1, "SIGUSR1"),
    ],
)
def test_a_signal_ends_all_processes_after_the_same_step(
    ranks: tuple[int, ...], number: signal.Signals, cause: str, tmp_path: Path
):
    """Whichever gets it: it waits for the others most of the time."""
    run = start_two(tmp_path)
    for rank in ranks:
        os.kill(process_of(run.pid, rank), number)
    said = run.communicate(timeout=240)[1]
    assert run.returncode == 0, said
    assert f"stopped by {cause} in stage clips; continue with --resume" in said
    steps = (tmp_path / "run" / "log.jsonl").read_bytes().count(b"\n")
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"] == steps


def start_two(folder: Path) -> subprocess.Popen[str]:
    """Start a long run of two processes, and wait for its first steps."""
    config = folder / "run.toml"
    config.write_text(
        "stall_limit = 30.0\n" + TINY + CLIPS.format(batch=4).replace("epochs = 2", "epochs = 999")
    )
    shards = str(write_set(folder / "shards"))
    argv = ["--config", str(config), "--data", shards, "--out", str(folder / "run")]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    run = subprocess.Popen(
        [*command, str(PRETRAIN), *argv], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    log, deadline = folder / "run" / "log.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and (not log.exists() or log.read_bytes().count(b"\n") < 4):
        time.sleep(0.05)
    return run


def process_of(torchrun: int, rank: int) -> int:
    """Return the id of the process of a rank that torchrun has started."""
    for child in Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split():
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in environment:
            return int(child)
    raise AssertionError(f"no process of rank {rank}")
