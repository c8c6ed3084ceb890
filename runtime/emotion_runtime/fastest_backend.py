"""The choice of a backend for cameras and streams by time: once per machine, and kept in the cache folder.

For files the choice never depends on a stop-watch: two runs over a file give the same bytes.
"""

import importlib.metadata
import importlib.util
import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, get_args

import msgspec
import numpy as np

from emotion_runtime import __version__
from emotion_runtime.backends.onnx import CUDA, available_providers, default_threads
from emotion_runtime.bundle import Bundle, sha256_of
from emotion_runtime.detectors import Detector
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.manifest import MANIFEST
from emotion_runtime.names import Precision, TimedBackend
from emotion_runtime.tensorrt import cache
from emotion_runtime.tensorrt.gpu import find_gpu, is_installed

_GAIN = 0.9  # of the time of "cpu", which starts fastest and needs no other package
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx")
_CPUINFO = Path("/proc/cpuinfo")
_CPU_LINES = ("model name", "flags", "Features", "CPU implementer", "CPU part")  # of x86 and of ARM

_log = logging.getLogger(__name__)


class TimedChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The times of the backends of a machine.

    Attributes:
        measured_on: Everything that the times depend on.
        milliseconds: Time of one frame, detector and both encoders, by each backend that passed the parity
            check.
        skipped: See `backend_times.Measured`.
    """

    measured_on: list[str]
    milliseconds: dict[TimedBackend, Annotated[float, msgspec.Meta(ge=0)]]
    skipped: list[str]

    @property
    def backend(self) -> TimedBackend:
        """The fastest backend; "cpu" unless another one saves at least a tenth of its time."""
        fastest = min(self.milliseconds, key=lambda name: self.milliseconds[name])
        return fastest if self.milliseconds[fastest] < _GAIN * self.milliseconds["cpu"] else "cpu"


def fastest_backend(bundle: Bundle, detector: Detector, precision: Precision | None) -> TimedChoice | None:
    """Return the times of the backends on this machine, measured unless they were measured before.

    Two processes that start at once may both measure. Backends take turns, so that both see the same load,
    and the file of the later one replaces the other's.

    Args:
        bundle: The model.
        detector: The detector; it runs as before when this returns.
        precision: Numeric precision; None: the backend's default.

    Returns:
        None if there is no choice: only the backend "cpu" is installed.

    Raises:
        EmotionError: The bundle does not have the precision.
    """
    candidates = [each for each in get_args(TimedBackend) if _is_installed(each)]
    if len(candidates) == 1:
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
    choice = TimedChoice(measured_on, found.milliseconds, found.skipped)
    listed = ", ".join(f"{name} {value:.1f} ms" for name, value in choice.milliseconds.items())
    kept = "measured again at the next start" if found.broken else f"kept in {path}"
    _log.info("backend auto: %s for a frame with %d people; %s", listed, PERSONS, kept)
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
    return choice if choice.measured_on == measured_on and "cpu" in choice.milliseconds else None


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
        *(f"{name} {version}" for name in _PACKAGES if (version := _version(name))),
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


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _processor() -> list[str]:
    """Return what Linux says about the first core: a home folder may be shared by several machines."""
    text = _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.is_file() else ""
    return [line for line in text.split("\n\n", maxsplit=1)[0].splitlines() if line.startswith(_CPU_LINES)]
