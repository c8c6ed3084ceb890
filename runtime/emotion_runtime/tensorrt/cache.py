"""The cache of TensorRT engines, and the rules by which an engine may be loaded.

An engine is a file of machine code for one GPU, made by one version of one builder. It is stored in the
cache folder next to a JSON sidecar, which states what the engine was built from and for, the result of its
parity check, and its hash. An engine that does not match its sidecar is never loaded, only built again.

frame_encoder-0123456789abcdef.engine   the serialised engine
frame_encoder-0123456789abcdef.json     `Sidecar`
"""

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from emotion_runtime import __version__
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.bundle import Bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.names import EnginePrecision, GraphName, Precision, RequestedPrecision
from emotion_runtime.tensorrt.gpu import Gpu
from emotion_runtime.tensorrt.sidecar import SIDECAR_SCHEMA, EngineKey, Sidecar

CACHE_VARIABLE = "EMOTION_ENGINE_CACHE"

_FASTEST_FIRST: tuple[EnginePrecision, ...] = ("int8", "fp16", "mixed", "fp32")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """An engine of the cache that may be loaded.

    Attributes:
        engine: The serialised engine.
        sidecar: Its description.
        folder: Where it was found.
    """

    engine: bytes
    sidecar: Sidecar
    folder: Path


def engine_key(
    bundle: Bundle,
    graph: GraphName,
    *,
    builder: str,
    gpu: Gpu,
    precision: RequestedPrecision,
    limits: Limits,
) -> EngineKey:
    """Return the key of a bundle's graph.

    Args:
        bundle: The model.
        graph: Which of its graphs.
        builder: See `gpu.builder_name`.
        gpu: The GPU; with an empty name for an engine built ahead of time.
        precision: The requested precision.
        limits: The largest batch.

    Raises:
        EmotionError: The bundle does not have the graph in the requested precision.
    """
    stated = bundle.manifest.graphs[graph]
    sources = {"fp32": stated.sha256}  # every engine is compared with the fp32 graph
    wanted: Precision = "fp16" if precision == "ladder" else precision
    if precision == "ladder" and wanted not in stated.variants:
        sources[wanted] = f"derived by emotion-runtime {__version__}"
    elif wanted != "fp32":
        bundle.graph_path(graph, wanted)  # raises the error that lists what the bundle has
        sources[wanted] = stated.variants[wanted].sha256
    if wanted == "int8":  # what lies between the integer products is converted by the program
        sources["fp16"] = f"derived by emotion-runtime {__version__}"
    return EngineKey(
        graph, sources, builder, gpu.name, gpu.compute_capability, precision, limits.persons, limits.images
    )


def cache_folder(requested: Path | None = None) -> Path:
    """Return the cache folder, created if necessary. If it is not writable, warn and return a temporary one.

    Args:
        requested: The folder; None: `default_folder()`.
    """
    folder = requested or default_folder()
    try:
        # Engines are code, so no other user may write here.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        return _temporary_folder(folder, error.strerror or str(error))


def default_folder() -> Path:
    """Return the default cache folder, which may not exist or may not be writable.

    It is `$EMOTION_ENGINE_CACHE`, else `$XDG_CACHE_HOME/emotion-runtime/engines`.

    Raises:
        EmotionError: Neither is set, and the user has no home folder.
    """
    variable = os.environ.get(CACHE_VARIABLE)
    if variable:
        return Path(variable)
    try:
        user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:  # no HOME, and a user id without an entry, as in some containers
        raise EmotionError(
            f"there is no folder for engines: this user has no home folder; set {CACHE_VARIABLE} to a folder "
            "that you may write to"
        ) from error
    return user_cache / "emotion-runtime" / "engines"


@cache  # one warning per process, and one folder for both engines of a bundle
def _temporary_folder(instead_of: Path, reason: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="emotion-engines-"))
    _log.warning(
        "engine cache %s is not writable (%s): using %s, so engines built now will be built again next time; "
        "set %s to a folder that you may write to",
        instead_of,
        reason,
        folder,
        CACHE_VARIABLE,
    )
    return folder


def find_engine(folder: Path, key: EngineKey) -> CachedEngine | str:
    """Return the engine of a key if it is complete and matches its sidecar, else why not in a few words."""
    engine, sidecar_file = (folder / f"{key.stem}{ending}" for ending in (".engine", ".json"))
    try:
        sidecar = msgspec.json.decode(sidecar_file.read_bytes(), type=Sidecar)
        content = engine.read_bytes()
    except FileNotFoundError:
        return "not built yet"
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    except msgspec.DecodeError as error:
        return f"{sidecar_file.name} is corrupt or of another version ({error})"
    if sidecar.schema != SIDECAR_SCHEMA or sidecar.key != key:
        return f"{sidecar_file.name} describes another engine"
    if len(content) != sidecar.size or hashlib.sha256(content).hexdigest() != sidecar.sha256:
        return f"{engine.name} is corrupt: its {len(content)} bytes do not match its sidecar"
    return CachedEngine(content, sidecar, folder)


def find_compatible_engine(folder: Path, key: EngineKey) -> CachedEngine | str:
    """Return the first of `compatible_engines`, else why the engine of the key may not be loaded."""
    return next(compatible_engines(folder, key), None) or find_engine(folder, key)


def compatible_engines(folder: Path, key: EngineKey) -> Iterator[CachedEngine]:
    """Yield the engine of a key, then others that can replace it, best first.

    The others are for the same graph, builder and GPU, but for another maximum number of people or images, or
    built ahead of time for all GPUs of the compute capability, or of several. If the key requests "ladder",
    they may have any precision.
    """
    others = [other for other in read_sidecars(folder) if other.key != key and _can_replace(other.key, key)]
    others.sort(key=_rank)
    for each in (key, *(sidecar.key for sidecar in others)):
        found = find_engine(folder, each)
        if isinstance(found, CachedEngine):
            yield found


def _rank(sidecar: Sidecar) -> tuple[bool, int, int, int, str]:
    """Sort key, best first: built on this GPU, larger batches, faster precision; file name breaks ties."""
    key = sidecar.key
    precision = _FASTEST_FIRST.index(sidecar.precision)
    return (key.gpu == "", -key.persons, -key.images, precision, key.stem)


def read_sidecars(folder: Path) -> list[Sidecar]:
    """Return all readable sidecars of a folder. Their engines may be incomplete: see `find_engine`."""
    sidecars = []
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, msgspec.DecodeError):  # corrupt or of another version: the same as missing
            sidecars.append(msgspec.json.decode(path.read_bytes(), type=Sidecar))
    return sidecars


def _can_replace(other: EngineKey, wanted: EngineKey) -> bool:
    return (
        (other.graph, other.builder) == (wanted.graph, wanted.builder)
        and wanted.compute_capability in other.compute_capability.split()
        and other.gpu in ("", wanted.gpu)
        and other.sources.items() <= wanted.sources.items()
        and wanted.precision in ("ladder", other.precision)
    )


def store_engine(folder: Path, engine: bytes, sidecar: Sidecar) -> Path:
    """Write an engine and its sidecar atomically, and return the engine's path.

    If the process stops between the two files, they do not match, and the engine counts as corrupt.

    Raises:
        EmotionError: The folder is not writable, or the disk is full.
    """
    path = folder / f"{sidecar.key.stem}.engine"
    _write(path, engine)
    store_sidecar(folder, sidecar)
    return path


def store_sidecar(folder: Path, sidecar: Sidecar) -> None:
    """Write a sidecar, for example again after the parity check at the first load."""
    content = msgspec.json.format(msgspec.json.encode(sidecar), indent=2) + b"\n"
    _write(folder / f"{sidecar.key.stem}.json", content)


def discard(found: CachedEngine) -> None:
    """Remove the sidecar of an engine, so that it counts as not built and the next build replaces it."""
    path = found.folder / f"{found.sidecar.key.stem}.json"
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # a read-only folder: engines built elsewhere are preferred
        _log.warning(
            "%s belongs to an engine that may not run, but it cannot be removed (%s)", path, error.strerror
        )


def _write(path: Path, content: bytes) -> None:
    fix = f"free {len(content) / 1e6:.0f} MB, or choose another folder with --cache or {CACHE_VARIABLE}"
    write_atomically(path, content, fix=fix)
