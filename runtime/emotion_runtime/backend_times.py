"""Measure how long a frame takes on each backend, for `fastest_backend`."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import cast, get_args

from emotion_runtime.backends.base import Backend, Feeds, Unavailable, count_persons
from emotion_runtime.backends.buckets import limits_for
from emotion_runtime.backends.cuda import MOST_PERSONS
from emotion_runtime.backends.onnx import default_threads
from emotion_runtime.bundle import Bundle
from emotion_runtime.detector_backend import run_network
from emotion_runtime.detector_parity import demo_frames
from emotion_runtime.detectors import Detector
from emotion_runtime.detectors.network import Network, NetworkDetector
from emotion_runtime.errors import EmotionError, EngineRejected
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
    """The models of a frame, in one way. `network` is None for a detector that has none."""

    backend: TimedBackend
    threads: int
    encoders: Sequence[Backend]
    network: Network | None


@dataclass(slots=True)
class Measured:
    """What was measured.

    Attributes:
        encoders: Backend, number of threads (0: it runs on a GPU) and milliseconds of both encoders, in each
            way that runs and passes the parity check.
        detector: Time of the detector in each such way; empty for one that has no network.
        skipped: Why installed backends have no time: a wrong result, or engines that must be built first.
        broken: A backend failed, which may be different at the next start.
    """

    encoders: list[tuple[TimedBackend, int, float]] = field(default_factory=list)
    detector: list[tuple[TimedBackend, int, float]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    broken: bool = False


def measure(
    bundle: Bundle, detector: Detector, precision: Precision | None, candidates: Sequence[TimedBackend]
) -> Measured:
    """Measure one frame on each candidate that runs and passes the parity check, with one and all threads.

    Args:
        bundle: The model.
        detector: The detector; it runs as before when this returns.
        precision: Numeric precision; None: the backend's default.
        candidates: Names of backends; "cpu" is one of them.

    Raises:
        EmotionError: The backend "cpu" does not run.
    """
    window = bundle.manifest.preprocess.window
    limits = limits_for(window, MOST_PERSONS) if "cuda" in candidates else limits_for(window)
    checks = [make_parity_check(bundle, graph, limits) for graph in GRAPHS]
    opened: list[_Opened] = []
    found = Measured()
    with ExitStack() as stack:
        if isinstance(detector, NetworkDetector):
            stack.callback(setattr, detector, "network", detector.network)
        for name in candidates:
            with ExitStack() as held:  # closes at once what is not used
                try:
                    models = [
                        _open(name, threads, bundle, detector, precision, held) for threads in _threads(name)
                    ]
                    _check(name, models[-1].encoders, checks, precision)
                except (EmotionError, RuntimeError) as error:  # OpenVINO and TensorRT raise RuntimeError
                    if name == "cpu":
                        raise
                    _skip(name, error, found)
                    continue
                opened += models
                stack.enter_context(held.pop_all())
        feeds = [
            next(group[0] for group in each.feeds if count_persons(group[0]) == PERSONS) for each in checks
        ]
        _time(opened, detector, feeds, found)
    return found


def _threads(name: TimedBackend) -> list[int]:
    """Return the numbers of threads that are tried; 0 for a GPU."""
    return sorted({1, default_threads()}) if name in ("cpu", "openvino") else [0]


class _Differs(EmotionError):  # noqa: N818 - names a state
    """A backend whose embeddings are not those of ONNX Runtime on the CPU."""


def _skip(name: TimedBackend, error: EmotionError | RuntimeError, found: Measured) -> None:
    """Log why a candidate is not timed. A reason that holds at the next start, too, is kept."""
    if isinstance(error, Unavailable):
        level = logging.WARNING if error.broken else logging.INFO if error.build else logging.DEBUG
        reason, failed = error.brief, error.broken
    else:
        level, reason = logging.WARNING, f"{name} is not used: {' '.join(str(error).split())}"
        failed = not isinstance(error, (_Differs, EngineRejected))
    _log.log(level, "backend auto: %s", reason)
    found.broken |= failed
    if level > logging.DEBUG and not failed:
        found.skipped.append(reason)


def _open(
    name: TimedBackend,
    threads: int,
    bundle: Bundle,
    detector: Detector,
    precision: Precision | None,
    held: ExitStack,
) -> _Opened:
    """Open a candidate, and find people in one frame, which opens the detector for its size and checks it."""
    encoders = open_and_try(name, bundle, precision, threads=threads)
    for encoder in encoders:
        held.callback(encoder.close)
    if not isinstance(detector, NetworkDetector):
        return _Opened(name, threads, encoders, None)
    detector.network = detector.reference
    network = run_network(detector, name, threads=threads, by_name=False, precision=precision)
    held.callback(network.close)
    detector(demo_frames(_SIZE, 1)[0])
    return _Opened(name, threads, encoders, network)


def _check(
    name: TimedBackend,
    encoders: Sequence[Backend],
    checks: Sequence[ParityCheck],
    precision: Precision | None,
) -> None:
    """Run the parity check of both encoders; engines passed it when they were opened.

    Raises:
        EmotionError: A result is wrong (`_Differs`, `EngineRejected`), or a graph does not run.
    """
    if name == "cpu" or name in get_args(Flavor):
        return
    for encoder, check in zip(encoders, checks, strict=True):
        _, failure = check.run(encoder, precision or "fp32")
        if failure:
            raise _Differs(f"{encoder.description}: {failure}")


def _time(opened: Sequence[_Opened], detector: Detector, feeds: Sequence[Feeds], found: Measured) -> None:
    """Add times: the least of rounds in which all ways take turns. Other programs add time."""
    (image,) = demo_frames(_SIZE, 1)
    taken: list[tuple[list[float], list[float]]] = [([], []) for _ in opened]
    for turn in range(_ROUNDS + 2):
        for models, (encoding, detecting) in zip(opened, taken, strict=True):
            start = time.perf_counter()
            for encoder, feed in zip(models.encoders, feeds, strict=True):
                encoder.run(feed)
            encoded = time.perf_counter()
            if models.network is not None:
                network_detector = cast("NetworkDetector", detector)
                network_detector.network = models.network
                network_detector(image)
            if turn > 1:  # the first runs are slower: they capture CUDA graphs
                encoding.append(encoded - start)
                detecting.append(time.perf_counter() - encoded)
    for models, (encoding, detecting) in zip(opened, taken, strict=True):
        found.encoders.append((models.backend, models.threads, round(1e3 * min(encoding), 2)))
        if models.network is not None:
            found.detector.append((models.backend, models.threads, round(1e3 * min(detecting), 2)))
