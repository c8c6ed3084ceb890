"""Measure the time spent inside networks, as opposed to everything around them."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import onnxruntime

from emotion_runtime.backends.openvino import OpenVinoBackend
from emotion_runtime.tensorrt.engine import TensorRTBackend

# Name, type and shape of each input of a call.
Inputs = frozenset[tuple[str, str, tuple[int, ...]]]


@dataclass
class Stopwatch:
    """The time that was spent in functions.

    Attributes:
        seconds: Elapsed time.
        cpu_seconds: Processor time of all threads of the process meanwhile.
        calls: Number of calls with each set of inputs.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    calls: Counter[Inputs] = field(default_factory=Counter)


@contextmanager
def network_time() -> Iterator[Stopwatch]:
    """Count the time of the whole process in ONNX Runtime, OpenVINO and TensorRT, detectors included.

    The stages of `StageTimer` do not separate it: the detector's stage also resizes the image and sorts
    boxes.
    """
    watch, session = Stopwatch(), onnxruntime.InferenceSession

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            start, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                watch.seconds += time.perf_counter() - start
                watch.cpu_seconds += time.process_time() - cpu
                feeds = next((each for each in args if isinstance(each, dict)), {})
                described = ((name, str(array.dtype), array.shape) for name, array in feeds.items())
                watch.calls[frozenset(described)] += 1

        return wrapped

    with ExitStack() as stack:
        for owner in (session, OpenVinoBackend, TensorRTBackend):
            stack.enter_context(patch.object(owner, "run", timed(owner.run)))
        bound = timed(session.run_with_iobinding)
        stack.enter_context(patch.object(session, "run_with_iobinding", bound))
        yield watch
