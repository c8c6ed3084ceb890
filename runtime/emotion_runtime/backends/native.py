"""TensorRT engines of a bundle: from the cache, or built behind a backend that serves meanwhile.

UNVERIFIED: no GPU was at hand. Verify with `emotion-runtime --source demo --backend tensorrt` (tensorrt-rtx).
What is decided here is tested with engines and a GPU that stand in for real ones.
"""

import atexit
import importlib.util
import logging
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import msgspec

from emotion_runtime import engines, nvidia, parity_check
from emotion_runtime.backends.base import Backend, Unavailable, close
from emotion_runtime.backends.buckets import Bucketed, Limits
from emotion_runtime.backends.switching import build_in_background
from emotion_runtime.backends.tensorrt import TensorRTBackend
from emotion_runtime.bundle import Bundle
from emotion_runtime.engines import (
    CachedEngine,
    CheckResult,
    EngineKey,
    EngineRejected,
    RequestedPrecision,
    UnusableEngine,
)
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import GraphName
from emotion_runtime.nvidia import Flavor, Gpu

ENCODERS: tuple[GraphName, GraphName] = ("frame_encoder", "temporal_encoder")

_log = logging.getLogger(__name__)


class MissingEngine(Unavailable):
    """TensorRT and a GPU are there, and the cache has no engine that may be loaded. command: builds it.

    broken: there was one, which did not load or was not the model.
    """

    def __init__(self, flavor: Flavor, reason: str, command: str, *, broken: bool = False) -> None:
        super().__init__(flavor, reason, fix=command, broken=broken)
        self._command = command

    @property
    def notable(self) -> bool:
        """Always mentioned: one command makes this backend available."""
        return True

    @property
    def brief(self) -> str:
        """The reason, with the command that builds the engine."""
        return f"{self.reason}: {self._command}"


def open_engines(bundle: Bundle, flavor: Flavor, asked: RequestedPrecision) -> list[Backend]:
    """Engines of both encoders from the cache.

    Raises:
        Unavailable: TensorRT or a GPU is not to be had, or has no memory left. `MissingEngine`: only the
            engine is not there, or what is there cannot be loaded or is not the model.

    """
    try:
        if importlib.util.find_spec(flavor.replace("-", "_")) is None:
            nvidia.load_tensorrt(flavor)  # says how to install it
        gpu = nvidia.find_gpu()  # before TensorRT's libraries, which take a second to load for nothing
        builder = nvidia.builder_name(flavor, nvidia.load_tensorrt(flavor))
    except EmotionError as error:
        raise Unavailable(flavor, str(error)) from error
    build = shlex.join(["python", "export/to_trt.py", *build_arguments(bundle, flavor, asked)])
    keys = {
        graph: engines.engine_key(bundle, graph, builder=builder, gpu=gpu, precision=asked, limits=Limits())
        for graph in ENCODERS
    }
    opened: list[Backend] = []
    with ExitStack() as held:
        try:
            for graph, key in keys.items():
                opened.append(_open(bundle, graph, key, flavor, gpu))
                held.callback(close, opened[-1])
        except EngineRejected as error:
            raise MissingEngine(flavor, str(error), build, broken=True) from error
        except _NoEngine as error:
            raise MissingEngine(flavor, str(error), build) from error
        except EmotionError as error:
            raise Unavailable(flavor, str(error), fix=build, broken=True) from error
        held.pop_all()
    return opened


class _NoEngine(EmotionError):  # noqa: N818 - reads as what is the case
    """The cache has none for a graph."""


def _open(bundle: Bundle, graph: GraphName, key: EngineKey, flavor: Flavor, gpu: Gpu) -> Backend:
    """The best engine for a key that loads and is the model; the better ones count as not built any more.

    Raises:
        EngineRejected: there are engines, and none of them may run.
        _NoEngine: there is none.

    """
    refused: list[EngineRejected] = []
    for found in chain.from_iterable(
        engines.compatible_engines(folder, key) for folder in engines.search_folders()
    ):
        try:
            backend = _load(bundle, graph, found, flavor, gpu)
        except EngineRejected as error:
            engines.discard(found)
            refused.append(error)
            continue
        for each in refused:
            _log.warning("%s: going on with another one", each)
        return backend
    if refused:
        raise refused[0]
    there = engines.find_engine(engines.default_folder(), key)
    raise _NoEngine(f"no engine of {graph} ({there.reason if isinstance(there, UnusableEngine) else 'gone'})")


def _load(bundle: Bundle, graph: GraphName, found: CachedEngine, flavor: Flavor, gpu: Gpu) -> Backend:
    """An engine of the cache, ready to run; one that was not examined on this very GPU is so first."""
    key = found.sidecar.key
    backend, limits = TensorRTBackend(found.engine, flavor=flavor), Limits(key.persons, key.images)
    if found.sidecar.check.is_valid_on(gpu):
        return Bucketed(backend, limits)
    with ExitStack() as held:
        held.callback(close, backend)
        rows, fault = parity_check.make_parity_check(bundle, graph, limits).run(
            backend, found.sidecar.precision
        )
        if fault:
            raise EngineRejected(f"the engine of {graph} is not the model on this GPU ({fault})")
        result = CheckResult("passed", rows, gpu.name, gpu.driver)
        if found.folder == engines.cache_folder():  # in one that is read-only, it is examined every time
            _remember(found, result)
        held.pop_all()
    return Bucketed(backend, limits)


def _remember(found: CachedEngine, result: CheckResult) -> None:
    """Write a verdict beside its engine; a disk that is full costs the next start another check."""
    try:
        engines.store_sidecar(found.folder, msgspec.structs.replace(found.sidecar, check=result))
    except EmotionError as error:
        _log.warning("the engine is the model, and is examined again next time: %s", error)


def build_engines_in_background(
    command: Sequence[str], reopen: Callable[[], list[Backend]], serving: Sequence[Backend], *, flavor: Flavor
) -> list[Backend]:
    """Serve with `serving` while a command builds the engines, then go on with what `reopen` gives.

    They were asked for by name, so a build that fails ends the run with its error.
    """
    _log.info("building %s engines, which takes minutes; meanwhile on %s", flavor, serving[0].description)

    def build() -> list[Backend]:
        try:
            run_builder(command)
            return reopen()
        except EmotionError as error:
            raise _by_name(flavor, error) from error

    switching, _ = build_in_background(serving, build, name=f"{flavor} engines")
    return list(switching)


def _by_name(flavor: Flavor, error: EmotionError) -> Unavailable:
    return error if isinstance(error, Unavailable) else Unavailable(flavor, str(error), broken=True)


def builder_command(bundle: Bundle, flavor: Flavor, asked: RequestedPrecision) -> list[str] | None:
    """The command that builds both engines into the cache; None where the builder is not installed."""
    # The runtime never imports what exports; it only knows where a checkout has it.
    spec = importlib.util.find_spec("emotion_export")
    if spec is None or not spec.submodule_search_locations:
        return None
    script = Path(spec.submodule_search_locations[0]).parent / "to_trt.py"
    if not script.is_file():
        return None
    # It has to write where this program will look, which may be a temporary folder.
    cache = ["--cache", str(engines.cache_folder())]
    return [sys.executable, str(script), *build_arguments(bundle, flavor, asked), *cache]


def build_arguments(bundle: Bundle, flavor: Flavor, asked: RequestedPrecision) -> list[str]:
    """Of export/to_trt.py."""
    arguments = ["--bundle", str(bundle.folder), "--flavor", flavor.removeprefix("tensorrt-")]
    return arguments if asked == "ladder" else [*arguments, "--precision", asked]


def run_builder(command: Sequence[str]) -> None:
    """Run a builder to its end; it is stopped when this program ends before.

    Raises:
        EmotionError: it failed; with its own last line.

    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is meant for the program, which then ends the builder
    ) as process:
        atexit.register(process.terminate)
        try:
            _, errors = process.communicate()
        finally:
            atexit.unregister(process.terminate)
    if process.returncode:
        said = errors.strip().splitlines() or ["it said nothing"]
        raise EmotionError(f"building failed with status {process.returncode}: {said[-1]}")
