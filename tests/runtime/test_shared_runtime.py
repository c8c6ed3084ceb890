"""One `EmotionRuntime` for several threads, but for one process only."""

import copy
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from emotion_runtime import EmotionError, EmotionRuntime
from emotion_runtime.types import Detections, Frame

IMAGE = np.zeros((96, 128, 3), np.uint8)


def one_person(_image_bgr: np.ndarray) -> Detections:
    return Detections(np.array([(16, 24, 48, 64)], np.float32), np.array([0.9], np.float32))


def test_threads_take_turns(tiny_bundle: Path):
    """Else OpenVINO raises "Infer Request is busy", and a captured CUDA graph mixes up their people."""
    alone = threading.Lock()

    def detector(image_bgr: np.ndarray) -> Detections:
        assert alone.acquire(blocking=False), "two threads use the models at once"
        time.sleep(0.02)
        alone.release()
        return one_person(image_bgr)

    runtime = EmotionRuntime(tiny_bundle, detector, "cpu")
    calls = [
        partial(runtime.look, IMAGE),
        partial(runtime.step, IMAGE, 0.0),
        lambda: list(runtime.follow([[Frame(IMAGE, 0, 0.0, "a"), Frame(IMAGE, 1, 0.1, "a")]])),
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        for future in [pool.submit(call) for call in calls]:
            assert future.result()


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy, copy.copy])
def test_copies_are_refused(tiny_bundle: Path, copied: Callable[[object], object]):
    runtime = EmotionRuntime(tiny_bundle, one_person, "cpu")
    with pytest.raises(EmotionError, match="cannot be copied or sent to another process; make one in each"):
        copied(runtime)


def test_events_can_be_copied(tiny_bundle: Path):
    event = EmotionRuntime(tiny_bundle, one_person, "cpu").step(IMAGE, 0.0)
    assert pickle.loads(pickle.dumps(event)) == copy.deepcopy(event) == event  # noqa: S301 - made here
