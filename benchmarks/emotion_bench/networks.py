"""Measure the time spent inside networks, as opposed to everything around them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import onnxruntime

from emotion_runtime.backends.openvino import OpenVinoBackend
from emotion_runtime.tensorrt.engine import TensorRTBackend


class Stopwatch:
    """Adds up the time spent in functions.

    Attributes:
        seconds: Elapsed time.
        cpu_seconds: Processor time of all threads of the process meanwhile.
    """

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time counted."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            start, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start
                self.cpu_seconds += time.process_time() - cpu

        return wrapped


@contextmanager
def network_time() -> Iterator[Stopwatch]:
    """Count the time of the whole process in ONNX Runtime, OpenVINO and TensorRT, detectors included.

    The stages of `StageTimer` do not separate it: the detector's stage also resizes the image and sorts
    boxes.
    """
    watch = Stopwatch()
    patched: list[tuple[Any, str]] = [
        (onnxruntime.InferenceSession, "run"),
        (onnxruntime.InferenceSession, "run_with_iobinding"),
        (OpenVinoBackend, "run"),
        (TensorRTBackend, "run"),
    ]
    before = [getattr(owner, name) for owner, name in patched]
    for (owner, name), function in zip(patched, before, strict=True):
        setattr(owner, name, watch.timed(function))
    try:
        yield watch
    finally:
        for (owner, name), function in zip(patched, before, strict=True):
            setattr(owner, name, function)
