"""Serve with one backend while a better one is built, and switch between two runs."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
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
    """A backend that is replaced by another one while it is in use. See `Backend`.

    The state of each person is kept outside of backends, so nothing is lost by the switch. The new backend
    must agree with the serving one on the batch at which it takes over; otherwise a wrong engine would change
    people's results in the middle of a run.

    Args:
        serving: The backend that runs until another one takes over.
        successor: The other backend for the same graph, as soon as there is one.
        comparable: Returns what of an output must agree; None: all of it.
    """

    def __init__(
        self, serving: Backend, successor: Future[Backend], comparable: Comparable | None = None
    ) -> None:
        self._serving, self._comparable = serving, comparable
        self._successor: Future[Backend] | None = successor

    @property
    def name(self) -> str:
        """The name of the backend that serves now."""
        return self._serving.name

    @property
    def description(self) -> str:
        """The description of the backend that serves now."""
        return self._serving.description

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs by name, of the backend that serves when the call begins.

        Raises:
            EmotionError: There will be no successor, or the backend fails.
        """
        outputs = self._serving.run(feeds)
        if self._successor is not None and self._successor.done():
            self._try(self._successor.result(), feeds, outputs)
            self._successor = None
        return outputs

    def close(self) -> None:
        """Close the serving backend, and its successor as soon as there is one."""
        if self._successor is not None:
            self._successor.add_done_callback(_close)
            self._successor = None
        self._serving.close()

    def _try(self, successor: Backend, feeds: Feeds, outputs: Outputs) -> None:
        """Switch to the successor if it gives the same outputs, else close it."""
        refused = ""
        try:
            agreement = lowest_cosine(outputs, successor.run(feeds), self._comparable)
            if not agreement >= MIN_COSINE:  # true for NaN as well
                wanted = f"expected {MIN_COSINE} or more"
                refused = f"gives different results (cosine {agreement:.4f}, {wanted}) and is not used"
        except (EmotionError, RuntimeError) as error:  # TensorRT's and CUDA's bindings raise RuntimeError
            refused = f"does not run ({error})"
        if refused:
            _log.warning("%s %s: keeping %s", successor.description, refused, self.description)
            successor.close()
            return
        _log.info("switching from %s to %s", self.description, successor.description)
        before, self._serving = self._serving, successor
        before.close()


def _close(ended: Future[Backend]) -> None:
    if ended.exception() is None:
        ended.result().close()


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
) -> list[Backend]:
    """Return backends that serve while `build` makes their successors, in the same order, in a thread.

    If the build fails with an `EmotionError`, the next run raises it, because the serving backends are not
    what the user requested. Any other exception is a bug: its traceback is printed, and serving continues.
    `name` is that of the thread; for `comparable` see `SwitchingBackend`.
    """
    successors: list[Future[Backend]] = [Future() for _ in serving]

    def make() -> None:
        try:
            built = build()
        except EmotionError as error:
            for successor in successors:
                successor.set_exception(error)
            return
        for successor, backend in zip(successors, built, strict=True):
            successor.set_result(backend)

    # A daemon thread, so that a program that ends does not wait minutes for an engine it will not use.
    threading.Thread(target=make, name=name, daemon=True).start()
    pairs = zip(serving, successors, strict=True)
    return [SwitchingBackend(backend, successor, comparable) for backend, successor in pairs]
