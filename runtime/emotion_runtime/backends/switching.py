"""Serve with one backend while a better one is built, and switch between two runs."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Backend, Feeds, Outputs
from emotion_runtime.errors import EmotionError
from emotion_runtime.vectors import cosine_similarity

# The tolerance of `parity` for int8. Rows of a correct fp16 engine agree to 0.9999 or more; the broken
# ones that were reported for vision transformers had 0.65 (NVIDIA/TensorRT#4373).
MIN_COSINE = 0.995

Comparable = Callable[[NDArray[Any]], NDArray[Any]]

_log = logging.getLogger(__name__)


class SwitchingBackend:
    """A backend that can be replaced by another one while it is in use. See `Backend`.

    The state of each person is kept outside of backends, so nothing is lost by the switch. The new backend
    must agree with the serving one on the batch at which it takes over; otherwise a wrong engine would change
    people's results in the middle of a run.

    Args:
        serving: The backend that runs until another one takes over.
        comparable: Returns what of an output must agree; None: all of it.
    """

    def __init__(self, serving: Backend, comparable: Comparable | None = None) -> None:
        self._serving, self._comparable = serving, comparable
        self._offered: deque[Backend] = deque(maxlen=1)  # used by two threads; its methods are atomic
        self._closed = False
        self._failure: EmotionError | None = None

    @property
    def name(self) -> str:
        """The name of the backend that serves now."""
        return self._serving.name

    @property
    def description(self) -> str:
        """The description of the backend that serves now."""
        return self._serving.description

    def offer(self, backend: Backend) -> None:
        """Offer another backend for the same graph, which the next run tries. Any thread may call this."""
        self._offered.append(backend)
        if self._closed:  # the run ended before the build did
            self._close_offered()

    def fail(self, error: EmotionError) -> None:
        """Make the next run raise an error, because no other backend will come. Any thread may call this."""
        self._failure = error

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs by name, of the backend that serves when the call begins.

        Raises:
            EmotionError: The build failed (see `fail`), or the backend fails.
        """
        if self._failure is not None:
            raise self._failure
        outputs = self._serving.run(feeds)
        if self._offered:
            self._try(self._offered.pop(), feeds, outputs)
        return outputs

    def close(self) -> None:
        """Close the serving backend, and a successor as soon as it is offered."""
        self._closed = True
        self._close_offered()
        self._serving.close()

    def _close_offered(self) -> None:
        while self._offered:
            self._offered.pop().close()

    def _try(self, offered: Backend, feeds: Feeds, outputs: Outputs) -> None:
        """Switch to the offered backend if it gives the same outputs, else close it."""
        try:
            agreement = lowest_cosine(outputs, offered.run(feeds), self._comparable)
        except (EmotionError, RuntimeError) as error:  # TensorRT's and CUDA's bindings raise RuntimeError
            _log.warning("%s does not run (%s): keeping %s", offered.description, error, self.description)
            offered.close()
            return
        if agreement >= MIN_COSINE:  # False for NaN as well
            _log.info("switching from %s to %s", self.description, offered.description)
            before, self._serving = self._serving, offered
            before.close()
        else:
            _log.warning(
                "%s gives different results (cosine %.4f, expected %s or more) and is not used: keeping %s",
                offered.description,
                agreement,
                MIN_COSINE,
                self.description,
            )
            offered.close()


def lowest_cosine(expected: Outputs, found: Outputs, comparable: Comparable | None = None) -> float:
    """Return the lowest cosine between rows in the same place of two sets of outputs, (P, ...) each.

    Two rows of zeros count as equal. The result is NaN if a value is not finite.
    """
    rows = []
    for name in expected:
        pair = (each[name] if comparable is None else comparable(each[name]) for each in (expected, found))
        rows.append(cosine_similarity(*(values.reshape(len(values), -1) for values in pair)))
    return float(np.min(np.concatenate(rows)))


def build_in_background(
    serving: Sequence[Backend],
    build: Callable[[], Sequence[Backend]],
    *,
    name: str,
    comparable: Comparable | None = None,
) -> tuple[list[SwitchingBackend], threading.Thread]:
    """Serve with some backends while `build` makes their successors in a thread.

    If the build fails with an `EmotionError`, the next run raises it, because the serving backends are not
    what the user requested. Any other exception is a bug: its traceback is printed, and serving continues.

    Args:
        serving: The backends that run meanwhile.
        build: Returns the successors, in the same order.
        name: Name of the thread.
        comparable: See `SwitchingBackend`.

    Returns:
        The backends to run, and the thread of the build.
    """
    switching = [SwitchingBackend(backend, comparable) for backend in serving]

    def make() -> None:
        try:
            built = build()
        except EmotionError as error:
            for backend in switching:
                backend.fail(error)
            return
        for backend, successor in zip(switching, built, strict=True):
            backend.offer(successor)

    # A daemon thread, so that a program that ends does not wait minutes for an engine it will not use.
    thread = threading.Thread(target=make, name=name, daemon=True)
    thread.start()
    return switching, thread
