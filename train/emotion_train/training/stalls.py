"""End a run of several processes when one of them stalls, and name it.

`torchrun` ends a run at once when a process dies. One that hangs, for example in a read from a network file
system, would let the others wait at the next exchange of gradients for as long as an evaluation may take.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

import msgspec
from torch import distributed

from emotion_train.training.parallel import PATIENCE, World

USER_ERROR = 2  # exit status
BEATS = 20  # messages of a process within the limit
RESUME = "the run ends; continue it with --resume"


class EnterPhase(Protocol):
    """Notes that this process enters its next phase."""

    def __call__(self, phase: str, *, evaluating: bool = False) -> None:
        """As `StallWatch.enter`."""
        ...


class Store(Protocol):
    """What is used of a store of `torch.distributed`."""

    def set(self, key: str, value: str) -> None:
        """Set a value."""
        ...

    def get(self, key: str) -> bytes:
        """Return a value that exists."""
        ...

    def check(self, keys: list[str]) -> bool:
        """Return whether all values exist."""
        ...


class Message(msgspec.Struct, frozen=True):
    """What a process publishes about itself.

    Attributes:
        process: Host and number of the process, for people.
        beat: Counts the messages.
        phases: Number of phases that the process has entered. All processes enter the same phases in the
            same order, and wait for one another in some.
        phase: The current one, in words.
        seconds: Time since it was entered.
        patience: Seconds that this phase may take.
        done: Whether the process has left the loop and publishes no more.
    """

    process: str
    beat: int
    phases: int
    phase: str
    seconds: float
    patience: float
    done: bool = False


class StallWatch:
    """Publishes where this process is, and looks where the others are, in a thread.

    Args:
        world: The processes that train together.
        store: Reaches the messages of all of them.
        prefix: Of the keys in the store.
        limit: Seconds without progress after which a process has stalled.
        end: Ends this process with an error message; with None, another process reports the error.
    """

    def __init__(
        self,
        world: World,
        store: Store,
        prefix: str,
        limit: float,
        end: Callable[[str | None], None] | None = None,
    ) -> None:
        self.world, self.store, self.prefix, self.limit = world, store, prefix, limit
        self._end = end or _end_process
        self._process = f"{socket.gethostname()}, process {os.getpid()}"
        self._place: tuple[int, str, float, float] = (0, "starting", time.monotonic(), limit)
        self._beat = 0
        self._heard = {rank: (-1, time.monotonic()) for rank in range(world.size)}
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End watching: this process waits for no other any more."""
        self._left.set()
        self._thread.join()
        self._publish(done=True)

    def enter(self, phase: str, *, evaluating: bool = False) -> None:
        """Note that this process enters its next phase, such as "step 7, reading".

        Args:
            phase: In words.
            evaluating: Whether the phase may take as long as an evaluation.
        """
        patience = PATIENCE.total_seconds() if evaluating else self.limit
        self._place = (self._place[0] + 1, phase, time.monotonic(), patience)

    def _watch(self) -> None:
        while not self._left.wait(self.limit / BEATS):
            try:
                self._publish()
                messages = self._messages()
            except RuntimeError as error:  # of torch.distributed
                if not self._left.is_set():
                    reason = str(error).splitlines()[0]
                    self._end(f"the processes' store does not respond ({reason}); {RESUME}")
                return
            found = stalled(messages, self._silences(messages), self.limit)
            if found:
                reporter = min([rank for rank in messages if rank not in found] or messages)
                self._end(describe(found, self.world.size) if self.world.rank == reporter else None)
                return

    def _publish(self, *, done: bool = False) -> None:
        phases, phase, since, patience = self._place
        self._beat += 1
        message = Message(
            self._process, self._beat, phases, phase, time.monotonic() - since, patience, done=done
        )
        self.store.set(f"{self.prefix}/{self.world.rank}", msgspec.json.encode(message).decode())

    def _messages(self) -> dict[int, Message | None]:
        """Return the latest message of each process; None before its first."""
        messages: dict[int, Message | None] = {}
        for rank in range(self.world.size):
            key = f"{self.prefix}/{rank}"
            known = self.store.check([key])
            messages[rank] = msgspec.json.decode(self.store.get(key), type=Message) if known else None
        return messages

    def _silences(self, messages: Mapping[int, Message | None]) -> dict[int, float]:
        """Return for how many seconds each process has published nothing."""
        now = time.monotonic()
        for rank, message in messages.items():
            beat = message.beat if message else 0
            if beat != self._heard[rank][0]:
                self._heard[rank] = (beat, now)
        return {rank: now - since for rank, (_, since) in self._heard.items()}


def stalled(
    messages: Mapping[int, Message | None], silences: Mapping[int, float], limit: float
) -> dict[int, str]:
    """Return the processes that have stalled, by rank, each with its state in words.

    Those that wait for others are in the furthest phase. If all are in the same phase for too long, all have
    stalled.

    Args:
        messages: The latest message of each process; None before its first.
        silences: Seconds since it was published.
        limit: Seconds of silence after which a process has stalled.
    """
    found = {}
    present = {rank: message for rank, message in messages.items() if message and not message.done}
    for rank, message in messages.items():
        if silences[rank] > limit and (message is None or not message.done):
            where = f"{message.process}; {message.phase}" if message else "not started"
            found[rank] = f"({where}) has not responded for {silences[rank]:.0f} s"
    if found:
        return found
    furthest = max((message.phases for message in messages.values() if message), default=0)
    finished = any(message and message.done for message in messages.values())
    late = {rank: message for rank, message in present.items() if message.seconds > message.patience}
    behind = {rank: message for rank, message in late.items() if finished or message.phases < furthest}
    if not behind and len(late) == len(messages):
        behind = late
    return {
        rank: f"({message.process}) has been in {message.phase} for {message.seconds:.0f} s"
        for rank, message in behind.items()
    }


def describe(found: Mapping[int, str], size: int) -> str:
    """Return the error message for processes that have stalled."""
    which = "; ".join(f"rank {rank} of {size} {state}" for rank, state in found.items())
    return f"{which}; expected progress within the stall_limit of the configuration; {RESUME}"


@contextmanager
def watching(world: World, stage: str, limit: float) -> Iterator[EnterPhase]:
    """Watch the processes during a block; yields what notes a phase, as `StallWatch.enter`.

    Args:
        world: The processes that train together. One alone is not watched.
        stage: Name of the stage.
        limit: Seconds without progress after which a process has stalled.
    """
    if world.size == 1:
        yield _not_watched
        return
    # A connection of its own, since the default one may wait in another thread.
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=timedelta(seconds=limit)
    )
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    watch = StallWatch(world, store, f"emotion-train/{attempt}/{stage}", limit)
    watch.start()
    yield watch.enter
    watch.stop()  # not after an error, which ends the process: it is not done


def _not_watched(phase: str, *, evaluating: bool = False) -> None:
    del phase, evaluating


def _end_process(message: str | None) -> None:
    """End this process, whose main thread waits for another one and could not be interrupted."""
    if message:
        print(f"emotion-train pretrain: error: {message}", file=sys.stderr, flush=True)
    else:
        time.sleep(10)  # torchrun ends this process once the other has given the reason
    os._exit(USER_ERROR)
