"""One backend serves while a better one is being made, and hands over between two runs."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from emotion_runtime.backends.agreement import lowest_cosine
from emotion_runtime.backends.base import Backend, Feeds, Outputs, close
from emotion_runtime.errors import EmotionError

# The tolerance of `parity_check` for int8. Rows of an fp16 engine that is right agree to 0.999 and more; the
# broken ones that were reported for vision transformers had 0.65 (NVIDIA/TensorRT#4373).
MIN_COSINE = 0.98

_log = logging.getLogger(__name__)


class SwitchingBackend:
    """A backend that another one can take over from. See `Backend`.

    What is remembered of a person lives outside of backends, so nothing is lost by the change. The new
    backend has to agree with the serving one on the very batch at which it takes over: a wrong engine would
    otherwise change what is said of people in the middle of a run.
    """

    def __init__(self, serving: Backend) -> None:
        self._serving = serving
        self._offered: deque[Backend] = deque(maxlen=1)  # its methods are atomic; two threads use it
        self._closed = False
        self._failure: EmotionError | None = None

    @property
    def description(self) -> str:
        """What serves now."""
        return self._serving.description

    def offer(self, backend: Backend) -> None:
        """Another backend for the same graph, which the next run tries; safe to call from another thread."""
        self._offered.append(backend)
        if self._closed:  # built for nobody
            self._close_offered()

    def fail(self, error: EmotionError) -> None:
        """End the next run with an error: there will be no other backend; safe to call from any thread."""
        self._failure = error

    def run(self, feeds: Feeds) -> Outputs:
        """Outputs by name, of the backend that serves when the call begins.

        Raises:
            EmotionError: of `fail`, or of the backend.

        """
        if self._failure is not None:
            raise self._failure
        outputs = self._serving.run(feeds)
        if self._offered:
            self._try(self._offered.pop(), feeds, outputs)
        return outputs

    def close(self) -> None:
        """See `Closeable`; a successor that comes later is closed as well."""
        self._closed = True
        self._close_offered()
        close(self._serving)

    def _close_offered(self) -> None:
        while self._offered:
            close(self._offered.pop())

    def _try(self, offered: Backend, feeds: Feeds, outputs: Outputs) -> None:
        try:
            agreement = lowest_cosine(outputs, offered.run(feeds))
        except (EmotionError, RuntimeError) as error:  # RuntimeError: of TensorRT's bindings and CUDA's
            _log.warning(
                "%s does not run (%s): going on with %s", offered.description, error, self.description
            )
            close(offered)
            return
        if agreement >= MIN_COSINE:  # False, too, for what is not a number
            _log.info("going on with %s, instead of %s", offered.description, self.description)
            before, self._serving = self._serving, offered
            close(before)
        else:
            _log.warning(
                "%s gives other results (cosine %.4f, expected %s or more) and is not used: going on with %s",
                offered.description,
                agreement,
                MIN_COSINE,
                self.description,
            )
            close(offered)


def build_in_background(
    serving: Sequence[Backend], build: Callable[[], Sequence[Backend]], *, name: str
) -> tuple[list[SwitchingBackend], threading.Thread]:
    """Serve with some backends while `build` makes their successors, in the same order, in a thread.

    name: of the thread. A build that fails with an `EmotionError` ends the next run with it: what serves
    meanwhile is not what was asked for. A bug leaves its traceback on standard error, and serving goes on.
    """
    switching = [SwitchingBackend(backend) for backend in serving]

    def make() -> None:
        try:
            built = build()
        except EmotionError as error:
            for backend in switching:
                backend.fail(error)
            return
        for backend, successor in zip(switching, built, strict=True):
            backend.offer(successor)

    # A daemon: a program that ends does not wait minutes for an engine that nobody will use.
    thread = threading.Thread(target=make, name=name, daemon=True)
    thread.start()
    return switching, thread
