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
from functools import cache, partial
from pathlib import Path

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import with_home, write_atomically
from emotion_runtime.manifest import Parity
from emotion_runtime.names import EnginePrecision, RequestedPrecision

SIDECAR_SCHEMA = 2
CACHE_VARIABLE = "EMOTION_ENGINE_CACHE"

_FASTEST_FIRST: tuple[EnginePrecision, ...] = ("int8", "fp16", "mixed", "fp32")

_log = logging.getLogger(__name__)


class EngineKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine is for. A different value in any field means a different engine.

    Attributes:
        graph: Name of the graph.
        sources: SHA-256 of the ONNX files that the engine is built from, by precision. If there is no fp16
            file, the version of the program that derives the graph.
        builder: See `gpu.builder_name`.
        gpu: Name of the GPU; empty if built ahead of time for every GPU of the compute capability.
        compute_capability: For example "8.6"; of an engine for several, "8.0 8.6".
        precision: The precision that was requested.
        persons: Maximum number of people of one run.
        images: Maximum number of images of one run.
    """

    graph: str
    sources: dict[str, str]
    builder: str
    gpu: str
    compute_capability: str
    precision: RequestedPrecision
    persons: int
    images: int

    @property
    def stem(self) -> str:
        """Name of the engine's files, without the suffix."""
        text = msgspec.json.encode(self, order="sorted")
        return f"{self.graph}-{hashlib.sha256(text).hexdigest()[:16]}"


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The description of an engine, a JSON file beside it.

    Attributes:
        schema: Version of this format.
        key: What the engine is for.
        sha256: Hash of the engine.
        size: Size of the engine in bytes.
        precision: What the engine computes in.
        checked_on: `Gpu.with_driver` of the GPU on which the engine passed the parity check; empty if not
            checked. It may fail on another GPU of the same compute capability, or with another driver.
        parity: Rows of the parity report, one per batch size; empty if not checked.
        fp32_layers: Nodes of the graph that "mixed" keeps in fp32.
        layer_types: Number of layers of the network by the type of their output.
        loaded_types: The same as the loaded engine describes itself; empty if there was no GPU to load it.
        refused: One line for each engine that precision fallback built and rejected.
        build_seconds: Time of the build, in seconds.
    """

    schema: int
    key: EngineKey
    sha256: str
    size: int
    precision: EnginePrecision
    checked_on: str
    parity: list[Parity]
    fp32_layers: list[str]
    layer_types: dict[str, int]
    loaded_types: dict[str, int]
    refused: list[str]
    build_seconds: float


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
        EmotionError: The user has no home folder, and it is needed.
    """
    variable = os.environ.get(CACHE_VARIABLE)
    if variable:
        return Path(with_home(variable))
    try:
        user_cache = Path(with_home(os.environ.get("XDG_CACHE_HOME", "")) or Path.home() / ".cache")
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


def find_engine(folder: Path, key: EngineKey) -> tuple[Sidecar, bytes] | str:
    """Return an engine and its sidecar if they match each other and the key, else why not in a few words."""
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
    return sidecar, content


def compatible_engines(folder: Path, key: EngineKey) -> Iterator[tuple[Sidecar, bytes]]:
    """Yield the engine of a key, then others that can replace it, best first.

    Those are for the same graph, builder and GPU, but for another maximum number of people or images, or
    built ahead of time for all GPUs of one or several compute capabilities. If the key requests "ladder",
    they may have any precision.
    """
    usable = [sidecar for sidecar in read_sidecars(folder) if _can_replace(sidecar.key, key)]
    for sidecar in sorted(usable, key=partial(_rank, key)):
        found = find_engine(folder, sidecar.key)
        if not isinstance(found, str):
            yield found


def _rank(wanted: EngineKey, sidecar: Sidecar) -> tuple[bool, bool, int, int, int, str]:
    """Sort key: the wanted one, built on this GPU, larger batches, faster precision; the name breaks ties."""
    key, precision = sidecar.key, _FASTEST_FIRST.index(sidecar.precision)
    return (key != wanted, key.gpu == "", -key.persons, -key.images, precision, key.stem)


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


def discard(folder: Path, key: EngineKey) -> None:
    """Remove the sidecar of an engine, so that it counts as not built and the next build replaces it."""
    path = folder / f"{key.stem}.json"
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # a read-only folder: engines built elsewhere are preferred
        _log.warning(
            "%s belongs to an engine that may not run, but it cannot be removed (%s)", path, error.strerror
        )


def _write(path: Path, content: bytes) -> None:
    fix = f"free {len(content) / 1e6:.0f} MB, or choose another folder with --cache or {CACHE_VARIABLE}"
    write_atomically(path, content, fix=fix)
