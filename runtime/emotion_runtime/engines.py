"""Where TensorRT engines are kept, and which of them may be loaded.

An engine is a file of machine code for one GPU, made by one version of one builder. Each lies in the cache
folder beside a sidecar in JSON that states what it was made from, for what, with which result, and its hash.
What the sidecar does not vouch for is never loaded, only built again.

frame_encoder-0123456789abcdef.engine   the serialised engine
frame_encoder-0123456789abcdef.json     `Sidecar`
"""

import hashlib
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from emotion_runtime import __version__
from emotion_runtime.bundle import Bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import GraphName, Parity, Precision
from emotion_runtime.nvidia import Gpu

if TYPE_CHECKING:  # backends import this module
    from emotion_runtime.backends.buckets import Limits

CACHE_VARIABLE = "EMOTION_ENGINE_CACHE"
SIDECAR_SCHEMA = 1

# "ladder": fp16, then fp16 with the worst layers in fp32, then fp32, whichever first equals the model.
RequestedPrecision = Literal["ladder", "fp16", "fp32", "int8"]
EnginePrecision = Literal["fp16", "mixed", "fp32", "int8"]

_FASTEST: tuple[EnginePrecision, ...] = ("int8", "fp16", "mixed", "fp32")

_log = logging.getLogger(__name__)


class EngineRejected(EmotionError):  # noqa: N818 - reads as what is the case
    """An engine that its sidecar vouches for, and that cannot be loaded here or is not the model."""


class EngineKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"images": "pictures"}):
    """What an engine is for; any other value of any field is another engine.

    sources: SHA-256 of the ONNX files it is made from, by precision; for an fp16 graph that the bundle has
    not got, the version that derives it. builder: `nvidia.builder_name`. gpu: its name; empty when built
    ahead of time for every GPU of that compute capability. persons, images: most of one run.
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
        """Name of the engine's files, without the ending."""
        text = msgspec.json.encode(self, order="sorted")
        return f"{self.graph}-{hashlib.sha256(text).hexdigest()[:16]}"


class CheckResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"status": "parity_gate"}):
    """Is the engine the model? parity: one row a size of batch, none when "not run".

    gpu, driver: of the `nvidia.Gpu` that the exam was sat on. An engine that is the model there need not be
    on another GPU of the same compute capability, or with another driver.
    """

    status: Literal["passed", "not run"]
    parity: list[Parity] = []
    gpu: str = ""
    driver: str = ""

    def is_valid_on(self, gpu: Gpu) -> bool:
        """Whether an engine may run on a GPU without sitting the exam (again)."""
        return self.status == "passed" and (self.gpu, self.driver) == (gpu.name, gpu.driver)


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"check": "verdict"}):
    """What is known of an engine.

    precision: what it computes in. fp32_layers: nodes of the graph that "mixed" kept in fp32. layer_types:
    number of layers by the type of what they give, as `layer_types_of` has them ("network": read from the
    typed network, where no GPU was there to load the engine). refused: what the ladder built and did not
    take, as one line each.
    """

    schema: int
    key: EngineKey
    sha256: str
    size: int
    precision: EnginePrecision
    check: CheckResult
    fp32_layers: list[str]
    layer_types: dict[str, int]
    layer_types_of: Literal["engine", "network"]
    refused: list[str]
    build_seconds: float


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """An engine of the cache that may be loaded. folder: the one it lies in."""

    engine: bytes
    sidecar: Sidecar
    folder: Path


@dataclass(frozen=True, slots=True)
class UnusableEngine:
    """No engine; reason: in a few words, for people."""

    reason: str


def engine_key(
    bundle: Bundle,
    graph: GraphName,
    *,
    builder: str,
    gpu: Gpu,
    precision: RequestedPrecision,
    limits: "Limits",
) -> EngineKey:
    """The key of a bundle's graph. gpu: with an empty name for an engine built ahead of time.

    Raises:
        EmotionError: the bundle has not got the graph in the precision that was asked for.

    """
    stated = bundle.manifest.graphs[graph]
    sources = {"fp32": stated.sha256}  # what every engine is held against
    wanted: Precision = "fp16" if precision == "ladder" else precision
    if precision == "ladder" and wanted not in stated.variants:
        sources[wanted] = f"derived by emotion-runtime {__version__}"
    elif wanted != "fp32":
        bundle.graph_path(graph, wanted)  # says what the bundle has instead
        sources[wanted] = stated.variants[wanted].sha256
    return EngineKey(
        graph, sources, builder, gpu.name, gpu.compute_capability, precision, limits.persons, limits.images
    )


def cache_folder(asked: Path | None = None) -> Path:
    """The folder of engines, made if it is not there; a temporary one, with a warning, if it cannot be.

    asked: default `$EMOTION_ENGINE_CACHE`, then `$XDG_CACHE_HOME/emotion-runtime/engines`.
    """
    folder = asked or default_folder()
    try:
        # Engines are code: nobody else may put one here.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        return _temporary_folder(folder, error.strerror or str(error))


def default_folder() -> Path:
    """Where engines are kept unless told otherwise; it need not be there, or be writable."""
    variable = os.environ.get(CACHE_VARIABLE)
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(variable) if variable else user_cache / "emotion-runtime" / "engines"


def search_folders() -> list[Path]:
    """Where engines are looked for: the folder they are written to, then one that may be read-only."""
    return list(dict.fromkeys([cache_folder(), default_folder()]))


@cache  # one warning a process, and both engines of a bundle side by side
def _temporary_folder(instead_of: Path, reason: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="emotion-engines-"))
    _log.warning(
        "engine cache %s is not writable (%s): using %s, so what is built now is built again next time; set "
        "%s to a folder you may write to",
        instead_of,
        reason,
        folder,
        CACHE_VARIABLE,
    )
    return folder


def find_engine(folder: Path, key: EngineKey) -> CachedEngine | UnusableEngine:
    """The engine of a key, if it is whole and the sidecar vouches for it."""
    engine, sidecar_file = (folder / f"{key.stem}{ending}" for ending in (".engine", ".json"))
    try:
        sidecar = msgspec.json.decode(sidecar_file.read_bytes(), type=Sidecar)
        content = engine.read_bytes()
    except FileNotFoundError:
        return UnusableEngine("there is none yet")
    except OSError as error:
        return UnusableEngine(f"{error.filename} cannot be read ({error.strerror})")
    except msgspec.DecodeError as error:
        return UnusableEngine(f"{sidecar_file.name} is torn or of another version ({error})")
    if sidecar.schema != SIDECAR_SCHEMA or sidecar.key != key:
        return UnusableEngine(f"{sidecar_file.name} is of another engine")
    if len(content) != sidecar.size or hashlib.sha256(content).hexdigest() != sidecar.sha256:
        return UnusableEngine(f"{engine.name} is torn: {len(content)} bytes, or not those of its sidecar")
    return CachedEngine(content, sidecar, folder)


def find_compatible_engine(folder: Path, key: EngineKey) -> CachedEngine | UnusableEngine:
    """The first of `compatible_engines`."""
    return next(compatible_engines(folder, key), None) or find_engine(folder, key)


def compatible_engines(folder: Path, key: EngineKey) -> Iterator[CachedEngine]:
    """The engine of a key, then those that serve for it, the best first.

    These are of the same graph, builder and GPU, made for other numbers of persons and pictures, or ahead of
    time for all GPUs of the compute capability; for a key that asks for "ladder", in any precision.
    """
    others = [
        sidecar for sidecar in read_sidecars(folder) if sidecar.key != key and _serves(sidecar.key, key)
    ]
    others.sort(key=_rank)
    for each in (key, *(sidecar.key for sidecar in others)):
        found = find_engine(folder, each)
        if isinstance(found, CachedEngine):
            yield found


def _rank(sidecar: Sidecar) -> tuple[bool, int, int, int, str]:
    """Less is better: built here, for many, fast; names only so that it is always the same."""
    key = sidecar.key
    return (key.gpu == "", -key.persons, -key.images, _FASTEST.index(sidecar.precision), key.stem)


def read_sidecars(folder: Path) -> list[Sidecar]:
    """All sidecars of a folder that can be read; whether their engines are whole `find_engine` tells."""
    read = (_sidecar_or_none(path) for path in sorted(folder.glob("*.json")))
    return [sidecar for sidecar in read if sidecar is not None]


def _sidecar_or_none(path: Path) -> Sidecar | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Sidecar)
    except (OSError, msgspec.DecodeError):  # torn, or of another version: as if it were not there
        return None


def _serves(there: EngineKey, wanted: EngineKey) -> bool:
    return (
        (there.graph, there.builder, there.compute_capability)
        == (wanted.graph, wanted.builder, wanted.compute_capability)
        and there.gpu in ("", wanted.gpu)
        and there.sources.items() <= wanted.sources.items()
        and wanted.precision in ("ladder", there.precision)
    )


def store_engine(folder: Path, engine: bytes, sidecar: Sidecar) -> Path:
    """Write an engine and its sidecar, each whole or not at all; returns the engine's path.

    Stopped between the two, the pair does not fit and counts as torn.

    Raises:
        EmotionError: the folder cannot be written to, or the disk is full.

    """
    path = folder / f"{sidecar.key.stem}.engine"
    write_whole(path, engine)
    store_sidecar(folder, sidecar)
    return path


def discard(found: CachedEngine) -> None:
    """Take the sidecar of an engine away, so that it counts as not built and the next build makes it anew."""
    path = found.folder / f"{found.sidecar.key.stem}.json"
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # read-only: it is passed over in favour of what is built elsewhere
        _log.warning("%s is of an engine that may not run, and cannot be removed (%s)", path, error.strerror)


def store_sidecar(folder: Path, sidecar: Sidecar) -> Path:
    """Write a sidecar anew, for example with the verdict of a first load; returns its path."""
    path = folder / f"{sidecar.key.stem}.json"
    write_whole(path, msgspec.json.format(msgspec.json.encode(sidecar), indent=2) + b"\n")
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, which nothing here ever reads, and rename it.

    Killed meanwhile, it leaves that file; see `remove_leftovers`.

    Raises:
        EmotionError: it cannot be written; nothing of it is left.

    """
    # By chance, not by process: in two containers that share a folder, both may have the same number.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before what was written
        temporary.replace(path)
    except OSError as error:
        raise EmotionError(
            f"{path} cannot be written ({error.strerror}, {len(content) / 1e6:.0f} MB): make room, or choose "
            f"another folder with --cache or {CACHE_VARIABLE}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what `write_whole` left of engines when it was killed; nobody may write one meanwhile."""
    for path in folder.glob(".*.engine.*.tmp"):
        with suppress(OSError):  # somebody else's; it only takes room
            path.unlink()
