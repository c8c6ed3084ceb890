"""Events as an iterator, for ordinary and for asynchronous loops."""

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Stream(Iterator[T], Generic[T]):
    """The results of `EmotionRuntime.stream`: for `for`, `next` and `async for`.

    `async for` computes in a thread of its own, so that other tasks go on meanwhile. A task that is cancelled
    stops after the current frame. The sources are closed at the end, on an error, by `close`, and by leaving
    a `with` block.

    Args:
        items: Computes the results.
    """

    def __init__(self, items: Generator[T, None, None]) -> None:
        self._items = items

    def __iter__(self) -> "Stream[T]":
        """Return the stream itself."""
        return self

    def __next__(self) -> T:
        """Compute the next result."""
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
        """Close the sources and end the iteration; safe to call twice."""
        self._items.close()

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield the results without blocking the event loop."""
        # One thread for all steps: a GPU's context belongs to the thread that uses it.
        executor = ThreadPoolExecutor(1, thread_name_prefix="emotion-stream")
        loop = asyncio.get_running_loop()
        end: Any = object()
        try:
            while (item := await loop.run_in_executor(executor, next, self._items, end)) is not end:
                yield item
        finally:
            # In the same thread, after a step that a cancelled task left running.
            executor.submit(self.close)
            executor.shutdown(wait=False)
