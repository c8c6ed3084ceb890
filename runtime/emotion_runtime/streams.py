"""Events as an iterator, for ordinary and for asynchronous loops."""

import inspect
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from emotion_runtime.errors import EmotionError
from emotion_runtime.leftovers import close_at_exit
from emotion_runtime.rounds import Rounds
from emotion_runtime.sources import Address, open_source, parse_source, parse_sources
from emotion_runtime.types import EmotionEvent, Frame, StatusLine

T = TypeVar("T")


class StreamSources:
    """Opens the sources of a stream, and lets them be paused and removed, also before they are opened.

    Args:
        rounds: Gets the sources.
        realtime: See `open_source`.
        follow: See `open_source`.
    """

    def __init__(self, rounds: Rounds, *, realtime: bool = False, follow: bool = False) -> None:
        self.rounds = rounds
        self._realtime, self._follow = realtime, follow
        self._lock = threading.Lock()  # held while the first sources are opened
        self._waiting: Sequence[str | int | Path] = ()  # the first sources, until they are opened
        self._early: dict[str, str] = {}  # calls until then: "pause" or "remove", by name

    def add(self, source: str | int | Path | Address) -> None:
        """Open one more source.

        Raises:
            EmotionError: It cannot be opened, or there is a source of its name already.
        """
        address = source if isinstance(source, Address) else parse_source(source)
        opened = open_source(address, realtime=self._realtime, follow=self._follow)
        try:
            self.rounds.add(opened)
        except BaseException:
            opened.close()
            raise

    def results(
        self,
        sources: Iterable[str | int | Path],
        follow: Callable[[Rounds], Iterable[tuple[Frame, EmotionEvent]]],
        *,
        with_frames: bool,
    ) -> Generator[Any, None, None]:
        """Return the events of sources, which are opened for the first event, and closed after the last.

        Args:
            sources: The first sources.
            follow: Turns rounds into events.
            with_frames: Yield pairs of a frame and its event.

        Raises:
            EmotionError: A source cannot be opened, two have the same name, or one failed midway.
        """
        self._waiting = tuple(sources)
        return self._results(follow, with_frames=with_frames)

    def _results(
        self, follow: Callable[[Rounds], Iterable[tuple[Frame, EmotionEvent]]], *, with_frames: bool
    ) -> Generator[Any, None, None]:
        with self.rounds:
            with self._lock:
                self._open_first()
            for frame, event in follow(self.rounds):
                yield (frame, event) if with_frames else event

    def _open_first(self) -> None:
        addresses, self._waiting = parse_sources(self._waiting), ()
        for address in addresses:
            early = self._early.get(address.name)
            if early != "remove":
                self.add(address)
            if early == "pause":
                self.rounds.pause(address.name)

    def pause(self, name: str) -> None:
        """Take no frames from a source until `resume` is called, see `Rounds.pause`."""
        if not self._note(name, "pause"):
            self.rounds.pause(name)

    def resume(self, name: str) -> None:
        """Take frames from a source again, see `Rounds.resume`."""
        if not self._note(name, None):
            self.rounds.resume(name)

    def remove(self, name: str) -> None:
        """Take no more frames from a source, and close it, see `Rounds.remove`."""
        if not self._note(name, "remove"):
            self.rounds.remove(name)

    def _note(self, name: str, wish: str | None) -> bool:
        """Take note of what is to be done with a source once it is opened; return whether it is not yet."""
        with self._lock:
            waiting = {address.name for address in parse_sources(self._waiting)} if self._waiting else ()
            if name not in waiting or self._early.get(name) == "remove":
                return False
            if wish is None:
                self._early.pop(name, None)
            else:
                self._early[name] = wish
            return True


class Stream(Iterator[T], Generic[T]):
    """The results of `EmotionRuntime.stream`: for `for`, `next` and `async for`.

    `async for` computes in a thread of its own, so that other tasks go on meanwhile. A task that is cancelled
    stops after the current frame. The sources are closed at the end, on an error, by `close`, by leaving a
    `with` block, and when the program ends.

    Sources can be added, removed, paused and resumed while the stream runs, by any thread.

    Args:
        items: Computes the results.
        sources: The sources of the results.
    """

    def __init__(self, items: Generator[T, None, None], sources: StreamSources) -> None:
        self._items = items
        self._sources = sources
        close_at_exit(self)

    def add(self, source: str | int | Path) -> None:
        """Add a source, such as "door=rtsp://..."; its events come from the next step on.

        Raises:
            EmotionError: It cannot be opened, or there is a source of its name already.
        """
        self._sources.add(source)

    def remove(self, name: str) -> None:
        """Close a source and drop the state of its people. The stream ends with its last source.

        Raises:
            EmotionError: There is no source of this name.
        """
        self._sources.remove(name)

    def pause(self, name: str) -> None:
        """Take no frames from a source until `resume` is called. A camera is released meanwhile.

        Raises:
            EmotionError: There is no source of this name.
        """
        self._sources.pause(name)

    def resume(self, name: str) -> None:
        """Take frames from a source again.

        Raises:
            EmotionError: There is no source of this name.
        """
        self._sources.resume(name)

    def statuses(self) -> dict[str, StatusLine]:
        """Return the latest change of the status of each camera and stream, by name; files have none."""
        return self._sources.rounds.statuses()

    def __iter__(self) -> "Stream[T]":
        """Return the stream itself."""
        return self

    def __next__(self) -> T:
        """Compute the next result.

        Raises:
            EmotionError: Another thread computes one now; and see `EmotionRuntime.stream`.
        """
        if inspect.getgeneratorstate(self._items) == inspect.GEN_RUNNING:
            raise EmotionError(
                "another thread reads this stream; expected one at a time: read it in one thread, which "
                "passes the events on with a queue.Queue"
            )
        return next(self._items)

    def __enter__(self) -> "Stream[T]":
        """Return the stream itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the stream, see `close`."""
        self.close()

    def close(self) -> None:
        """Close the sources within a second, and end the iteration; by any thread, also twice."""
        self._sources.rounds.stop()
        with suppress(ValueError):  # another thread iterates, and ends now
            self._items.close()
        self._sources.rounds.close()

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield the results without blocking the event loop."""
        import asyncio  # noqa: PLC0415 - slow to import, and most programs have no event loop
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        # One thread for all steps: a GPU's context belongs to the thread that uses it.
        executor = ThreadPoolExecutor(1, thread_name_prefix="emotion-stream")
        loop = asyncio.get_running_loop()
        end: Any = object()
        try:
            while (item := await loop.run_in_executor(executor, next, self, end)) is not end:
                yield item
        finally:
            self._sources.rounds.stop()  # a step that waits for a frame ends now
            # In the same thread, after a step that a cancelled task left running.
            executor.submit(self.close)
            executor.shutdown(wait=False)
