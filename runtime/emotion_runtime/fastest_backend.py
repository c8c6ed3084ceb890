"""The choice of a backend for cameras and streams by time: once per machine, and kept in the cache folder.

For files the choice never depends on a stop-watch: two runs over a file give the same bytes.
"""

import importlib.util
import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import numpy as np

from emotion_runtime import __version__
from emotion_runtime.backends.base import Backend
from emotion_runtime.backends.onnx import CUDA, available_providers, count_threads, default_threads
from emotion_runtime.bundle import Bundle, sha256_of
from emotion_runtime.detectors import Detector
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.installed import installed
from emotion_runtime.manifest import MANIFEST
from emotion_runtime.names import Precision, TimedBackend
from emotion_runtime.open_backend import open_first
from emotion_runtime.tensorrt import cache
from emotion_runtime.tensorrt.gpu import find_gpu, is_installed

_GAIN = 0.9  # of the time of "cpu", which starts fastest and needs no other package
_WORTH = 1.8  # how much faster more threads must be
_FAMILIES = ("onnxruntime", "openvino", "tensorrt")
_CPUINFO = Path("/proc/cpuinfo")
_CPU_LINES = ("model name", "flags", "Features", "CPU implementer", "CPU part")  # of x86 and of ARM

_log = logging.getLogger(__name__)


class TimedWay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way to run models, and its time.

    Attributes:
        backend: The backend.
        threads: Number of threads on the CPU. 0: it runs on a GPU.
        milliseconds: Time of the models for one frame.
    """

    backend: TimedBackend
    threads: Annotated[int, msgspec.Meta(ge=0)]
    milliseconds: Annotated[float, msgspec.Meta(ge=0)]

    def __str__(self) -> str:
        """Return the way as people read it, without its time."""
        return f"{self.backend}, {count_threads(self.threads)}" if self.threads else self.backend


class TimedChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The times of the backends of a machine.

    Attributes:
        measured_on: Everything that the times depend on.
        encoders: Both encoders in each way that passed the parity check.
        detector: The detector in each such way; empty for one that has no network.
        skipped: See `backend_times.Measured`.
    """

    measured_on: list[str]
    encoders: list[TimedWay]
    detector: list[TimedWay]
    skipped: list[str]

    @property
    def for_detector(self) -> TimedWay:
        """The best way to run the detector; one without a network runs as it does."""
        return best(self.detector or self.encoders)

    def open_encoders(self, bundle: Bundle, precision: Precision | None) -> list[Backend]:
        """Open both encoders in the best way, or else on the CPU; see `open_backend.open_first`."""
        way = best(self.encoders)
        order = [*dict.fromkeys((way.backend, "cpu"))]
        return open_first(order, bundle, precision, requested="auto", threads=way.threads)

    def options(self, opened: str) -> dict[str, Any]:
        """Return what the run line says.

        Args:
            opened: Name of the backend that runs the encoders.
        """
        options = {"backend": opened, "threads": best(self.encoders).threads}
        times = {"encoders": self.encoders}
        if self.detector:
            way = best(self.detector)
            options |= {"detector_backend": way.backend, "detector_threads": way.threads}
            times["detector"] = self.detector
        milliseconds = {part: {str(way): way.milliseconds for way in ways} for part, ways in times.items()}
        return {**options, "backend_milliseconds": milliseconds}


def best(ways: Sequence[TimedWay]) -> TimedWay:
    """Return the way to run models: the fastest backend, with no more threads than are worth it.

    A live run has time between two frames, and other threads that decode and draw: one thread unless more
    threads make the models almost twice as fast. "cpu" unless another backend saves a tenth of its time.

    Args:
        ways: The ways, with "cpu" among them.
    """
    chosen: dict[TimedBackend, TimedWay] = {}
    for way in sorted(ways, key=lambda way: way.threads):
        fewer = chosen.get(way.backend)
        if fewer is None or _WORTH * way.milliseconds <= fewer.milliseconds:
            chosen[way.backend] = way
    fastest = min(chosen.values(), key=lambda way: way.milliseconds)
    return fastest if fastest.milliseconds < _GAIN * chosen["cpu"].milliseconds else chosen["cpu"]


def fastest_backend(bundle: Bundle, detector: Detector, precision: Precision | None) -> TimedChoice | None:
    """Return the times of the backends on this machine, measured unless they were measured before.

    Two processes that start at once may both measure. Backends take turns, so that both see the same load,
    and the file of the later one replaces the other's.

    Args:
        bundle: The model.
        detector: The detector; it runs as before when this returns.
        precision: Numeric precision; None: the backend's default.

    Returns:
        None if there is no choice: one core, and only the backend "cpu" is installed.

    Raises:
        EmotionError: The bundle does not have the precision.
    """
    candidates = [each for each in get_args(TimedBackend) if _is_installed(each)]
    if len(candidates) == 1 and default_threads() == 1:
        return None
    measured_on = _conditions(bundle, detector, precision, candidates)
    path = cache.default_folder() / f"backend-{sha256(repr(measured_on).encode()).hexdigest()[:16]}.json"
    known = _read(path, measured_on)
    if known is not None:
        for reason in known.skipped:
            _log.info("backend auto: %s", reason)
        return known
    _log.info("backend auto: measuring %s, once on this machine", ", ".join(candidates))
    from emotion_runtime.backend_times import PERSONS, measure  # noqa: PLC0415 - slow, and only here

    found = measure(bundle, detector, precision, candidates)
    encoders, detecting = ([TimedWay(*way) for way in ways] for ways in (found.encoders, found.detector))
    choice = TimedChoice(measured_on, encoders, detecting, found.skipped)
    for part, ways in {"encoders": choice.encoders, "detector": choice.detector}.items():
        if ways:
            listed = "; ".join(f"{way}: {way.milliseconds:.1f} ms" for way in ways)
            _log.info("backend auto: %s of a frame with %d people: %s", part, PERSONS, listed)
    _log.info("backend auto: %s", "measured again at the next start" if found.broken else f"kept in {path}")
    if not found.broken:
        _keep(choice, path)
    return choice


def _keep(choice: TimedChoice, path: Path) -> None:
    try:
        # As for engines, no other user may write here.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.format(msgspec.json.encode(choice), indent=2) + b"\n")
    except (EmotionError, OSError) as error:
        _log.warning("the times of the backends cannot be kept, so the next start measures again: %s", error)


def _read(path: Path, measured_on: Sequence[str]) -> TimedChoice | None:
    """Return the content of a file; None if there is none, or if it is not one of this machine."""
    try:
        choice = msgspec.json.decode(path.read_bytes(), type=TimedChoice)
    except (OSError, msgspec.DecodeError):  # missing, corrupt or of another version
        return None
    parts = [choice.encoders, *([choice.detector] if choice.detector else [])]
    whole = all(any(way.backend == "cpu" for way in ways) for ways in parts)
    return choice if choice.measured_on == measured_on and whole else None


def _is_installed(name: TimedBackend) -> bool:
    if name == "openvino":
        return importlib.util.find_spec("openvino") is not None
    if name == "cuda":
        return CUDA in available_providers()
    return name == "cpu" or is_installed(name)


def _conditions(
    bundle: Bundle, detector: Detector, precision: Precision | None, candidates: Sequence[TimedBackend]
) -> list[str]:
    """Return everything that the times depend on, one item a line."""
    conditions = [
        f"emotion-runtime {__version__}",
        *(f"{name} {version}" for family in _FAMILIES for name, version in installed(family).items()),
        f"bundle {sha256_of(bundle.folder / MANIFEST)} {precision}",
        _name_detector(detector),
        f"{default_threads()} threads",
        *_processor(),
    ]
    if {*candidates} - {"openvino", "cpu"}:
        try:
            conditions.append(str(find_gpu()))
        except EmotionError:
            conditions.append("no GPU")
        # An engine that is built later is a new candidate.
        conditions += [
            f"{each.key.stem} {each.sha256}" for each in cache.read_sidecars(cache.default_folder())
        ]
    return conditions


def _name_detector(detector: Detector) -> str:
    """Return the detector and the size of its input, which the user chooses, for frames of one size."""
    if not isinstance(detector, NetworkDetector):
        return "own detector"
    height, width = detector.prepare(np.zeros((480, 640, 3), np.uint8))[1].size
    return f"detector {detector.graph.sha256} {width}x{height}"


def _processor() -> list[str]:
    """Return what Linux says about the first core: a home folder may be shared by several machines."""
    text = _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.is_file() else ""
    return [line for line in text.split("\n\n", maxsplit=1)[0].splitlines() if line.startswith(_CPU_LINES)]
