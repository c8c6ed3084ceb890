"""A run that is killed, stopped, starved of data and whose checkpoints are corrupted takes the same steps.

Six interruptions in CI, twenty with `-m nightly`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from made_shards import write_set
from tiny_run import CLIPS, TINY

from emotion_train.checkpoint import load_checkpoint

EPOCH, EPOCHS = 5, 9
EXACT = ("loss", "grad_norm", "lr", "retrieval", "scale")
CONFIG = TINY.replace('temporal = "mean"', "").replace("workers = 0", "workers = 0\nsave_every = 0.1") + (
    CLIPS.format(batch=4).replace("epochs = 2", f"epochs = {EPOCHS}").replace("1e-2", "1e-3")
)
HERE = Path(__file__).resolve().parent


def log_of(run: Path) -> list[dict[str, Any]]:
    log = run / "log.jsonl"
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def arguments(root: Path, out: Path) -> list[str]:
    argv = ["--config", str(root / "run.toml"), "--data", str(root / "shards"), "--out", str(out)]
    return [*argv, "--resume", "auto"]


@dataclass(frozen=True)
class Started:
    """A run in a process of its own, which leads a process group."""

    pid: int
    stderr: Path

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the run, as batch systems do."""
        os.killpg(self.pid, number)

    def ended(self, wait: float = 0.0) -> int | None:
        """Return the exit status; None if the process still runs after `wait` seconds."""
        status, deadline = self.stderr.with_suffix(".status"), time.monotonic() + wait
        while not status.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return int(status.read_text()) if status.exists() else None

    def result(self) -> tuple[int, str]:
        """Return the exit status and standard error of a run that ends by itself."""
        status = self.ended(wait=120)
        assert status is not None, self.stderr.read_text()
        return status, self.stderr.read_text()


class Launcher:
    """Starts runs by forking a process that has imported what they need, which takes most of a short run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "launcher.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, root: Path, out: Path) -> Started:
        """Start a run."""
        assert self.process.stdin
        assert self.process.stdout
        self.count += 1
        stderr = self.folder / f"run-{self.count}.err"
        self.process.stdin.write(json.dumps([str(stderr), *arguments(root, out)]) + "\n")
        self.process.stdin.flush()
        return Started(int(self.process.stdout.readline()), stderr)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(60) == 0


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("launcher"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher) -> Path:
    """Shards with a clip that cannot be read, a configuration, and a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("lasting")
    write_set(folder / "shards")
    tar = folder / "shards" / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    begin = data.index(b"\xff\xd8")
    data[begin + 20 : begin + 300] = bytes(280)
    tar.write_bytes(data)
    (folder / "run.toml").write_text(CONFIG)
    status, said = launcher.start(folder, folder / "whole").result()
    assert status == 0, said
    return folder


def wait_for_step(run: Started, out: Path, step: int) -> None:
    """Wait until the log has a step, or the run ends."""
    deadline = time.monotonic() + 120
    while run.ended() is None and time.monotonic() < deadline:
        lines = log_of(out)
        if lines and lines[-1]["step"] >= step:
            return
        time.sleep(0.01)


def killed(run: Started, out: Path) -> None:
    del out
    run.signal(signal.SIGKILL)
    assert run.ended(wait=60) is not None


def stopped(number: signal.Signals) -> Callable[[Started, Path], None]:
    def stop(run: Started, out: Path) -> None:
        run.signal(number)
        status, said = run.result()
        assert status == 0, said
        assert f"stopped by {number.name} in stage clips; continue with --resume" in said
        assert load_checkpoint(out / "checkpoint.pt")["step"] == len(log_of(out))  # nothing is repeated

    return stop


def starved(run: Started, out: Path) -> None:
    """The shards are gone for a while: the run ends with the reason."""
    shards = out.parent / "shards"
    hidden = shards.with_name("hidden")
    shards.rename(hidden)
    status, said = run.result()
    hidden.rename(shards)
    assert status == 2, said
    assert "10 clips in a row cannot be read" in said


def corrupted(run: Started, out: Path) -> None:
    """The latest checkpoint is cut short after a kill: the one of the last epoch is used."""
    killed(run, out)
    path = out / "checkpoint.pt"
    if list(out.glob("epoch-*.pt")):
        content = path.read_bytes()
        path.unlink()  # the epoch's checkpoint can be the same file
        path.write_bytes(content[: len(content) // 2])


INTERRUPTIONS: tuple[Callable[[Started, Path], None], ...] = (
    killed,
    stopped(signal.SIGTERM),
    stopped(signal.SIGUSR1),
    corrupted,
    starved,
)


def interrupt(launcher: Launcher, root: Path, out: Path, count: int, epochs: int) -> None:
    """Interrupt a run `count` times, let it end, and compare it with the uninterrupted one."""
    steps = EPOCH * epochs
    for index in range(count):
        taken = [entry["step"] for entry in log_of(out)]
        run = launcher.start(root, out)
        step = (index + 1) * steps // (count + 2) + index % 3
        wait_for_step(run, out, max([step, *(last + 2 for last in taken[-1:])]))
        assert run.ended() is None, run.stderr.read_text()
        INTERRUPTIONS[index % len(INTERRUPTIONS)](run, out)
    status, said = launcher.start(root, out).result()
    assert status == 0, said
    whole, found = log_of(root / "whole"), log_of(out)
    assert [entry["step"] for entry in found] == list(range(steps))
    assert [[e.get(k) for k in EXACT] for e in found] == [[e.get(k) for k in EXACT] for e in whole]
    end = load_checkpoint(root / "whole" / "checkpoint.pt")["model"]
    model = load_checkpoint(out / "checkpoint.pt")["model"]
    assert all(torch.equal(tensor, end[name]) for name, tensor in model.items())
    skipped = [json.loads(line)["clip"] for line in (out / "skipped.jsonl").read_text().split("\n") if line]
    assert skipped == ["clip-0000"]
    report = (out / "report.html").read_text()
    assert "1, listed in skipped.jsonl: clip-0000" in report
    assert not list(out.glob(".*.tmp"))
    assert sorted(path.name for path in out.glob("epoch-*.pt")) == [
        f"epoch-{epochs - i:04d}.pt" for i in (2, 1, 0)
    ]


@pytest.mark.slow
def test_six_interruptions_change_nothing(launcher: Launcher, root: Path):
    interrupt(launcher, root, root / "six", 6, EPOCHS)


@pytest.mark.slow
def test_too_many_clips_that_cannot_be_read_end_the_run(launcher: Launcher, root: Path, tmp_path: Path):
    (tmp_path / "run.toml").write_text(CONFIG.replace("[clips]", "[clips]\nskip_limit = 0"))
    (tmp_path / "shards").symlink_to(root / "shards")
    status, said = launcher.start(tmp_path, tmp_path / "out").result()
    assert status == 2
    last = said.strip().splitlines()[-1]
    assert "1 clips cannot be read, expected at most 0 (clips.skip_limit)" in last
    assert "clip clip-0000 has a corrupt frame" in last


@pytest.mark.nightly
def test_twenty_interruptions_change_nothing(launcher: Launcher, root: Path):
    """With a process that loads the data, and more steps."""
    more = CONFIG.replace("workers = 0", "workers = 1").replace(f"epochs = {EPOCHS}", "epochs = 40")
    (root / "run.toml").write_text(more)
    shutil.rmtree(root / "whole")
    status, said = launcher.start(root, root / "whole").result()
    assert status == 0, said
    interrupt(launcher, root, root / "twenty", 20, 40)
