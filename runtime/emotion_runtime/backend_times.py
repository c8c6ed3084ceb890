"""Measure how long a frame takes on each backend, for `fastest_backend`."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Backend, Feeds, Unavailable, count_persons
from emotion_runtime.backends.buckets import limits_for
from emotion_runtime.bundle import Bundle
from emotion_runtime.detector_backend import run_like_encoders
from emotion_runtime.detector_parity import demo_frames
from emotion_runtime.detectors import Detector
from emotion_runtime.detectors.network import Network, NetworkDetector
from emotion_runtime.errors import EngineRejected
from emotion_runtime.names import GRAPHS, Precision, TimedBackend
from emotion_runtime.open_backend import open_and_try
from emotion_runtime.parity import ParityCheck, make_parity_check
from emotion_runtime.tensorrt.gpu import Flavor

PERSONS = 2  # in the frame that is timed
_SIZE = (480, 640)  # of this frame: height, width
_ROUNDS = 11

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Opened:
    """The models of a frame on one backend. `network` is None for a detector that has none."""

    encoders: Sequence[Backend]
    network: Network | None


def measure(
    bundle: Bundle, detector: Detector, precision: Precision | None, candidates: Sequence[TimedBackend]
) -> dict[TimedBackend, float]:
    """Return the milliseconds of one frame on each candidate that runs and passes the parity check.

    Args:
        bundle: The model.
        detector: The detector; it runs as before when this returns.
        precision: Numeric precision; None: the backend's default.
        candidates: Names of backends; "cpu" is one of them.
    """
    limits = limits_for(bundle.manifest.preprocess.window)
    checks = [make_parity_check(bundle, graph, limits) for graph in GRAPHS]
    opened: dict[TimedBackend, _Opened] = {}
    with ExitStack() as stack:
        if isinstance(detector, NetworkDetector):
            stack.callback(setattr, detector, "network", detector.network)
        for name in candidates:
            try:
                encoders = open_and_try(name, bundle, precision)
            except Unavailable as error:
                _log.log(logging.WARNING if error.broken else logging.DEBUG, "backend auto: %s", error)
                continue
            for encoder in encoders:
                stack.callback(encoder.close)
            if not _passes(name, encoders, checks, precision):
                continue
            network = None
            if isinstance(detector, NetworkDetector):
                detector.network = detector.reference
                network = run_like_encoders(detector, name, by_name=False, precision=precision)
                stack.callback(network.close)
            opened[name] = _Opened(encoders, network)
        feeds = [
            next(group[0] for group in each.feeds if count_persons(group[0]) == PERSONS) for each in checks
        ]
        return _time(opened, detector, feeds)


def _passes(
    name: TimedBackend,
    encoders: Sequence[Backend],
    checks: Sequence[ParityCheck],
    precision: Precision | None,
) -> bool:
    """Return whether both encoders pass the parity check; engines passed it when they were opened."""
    if name == "cpu" or name in get_args(Flavor):
        return True
    for encoder, check in zip(encoders, checks, strict=True):
        try:
            _, failure = check.run(encoder, precision or "fp32")
        except EngineRejected as error:
            failure = str(error)
        if failure:
            _log.warning("backend auto: %s is not used: %s", encoder.description, failure)
            return False
    return True


def _time(
    opened: Mapping[TimedBackend, _Opened], detector: Detector, feeds: Sequence[Feeds]
) -> dict[TimedBackend, float]:
    """Return milliseconds: the least of rounds in which the backends take turns. Other programs add time."""
    (image,) = demo_frames(_SIZE, 1)
    seconds: dict[TimedBackend, list[float]] = {name: [] for name in opened}
    for turn in range(_ROUNDS + 2):
        for name, models in opened.items():
            taken = _time_frame(models, detector, image, feeds)
            if turn > 1:  # the first run opens the detector, and the second captures CUDA graphs
                seconds[name].append(taken)
    return {name: round(1e3 * min(values), 2) for name, values in seconds.items()}


def _time_frame(
    models: _Opened, detector: Detector, image: NDArray[np.uint8], feeds: Sequence[Feeds]
) -> float:
    start = time.perf_counter()
    if models.network is not None:
        network_detector = cast("NetworkDetector", detector)
        network_detector.network = models.network
        network_detector(image)
    for encoder, feed in zip(models.encoders, feeds, strict=True):
        encoder.run(feed)
    return time.perf_counter() - start
