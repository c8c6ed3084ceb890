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
from pathlib import Path

import msgspec

from emotion_runtime import engines, gate, nvidia
from emotion_runtime.backends.base import Backend, Unavailable
from emotion_runtime.backends.buckets import Bucketed, Limits
from emotion_runtime.backends.switching import build_behind
from emotion_runtime.backends.tensorrt import TensorRTBackend
from emotion_runtime.bundle import Bundle
from emotion_runtime.engines import Asked, Found, Unusable, Verdict
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import GraphName
from emotion_runtime.nvidia import Flavor, Gpu

ENCODERS: tuple[GraphName, GraphName] = ("frame_encoder", "temporal_encoder")

_log = logging.getLogger(__name__)


class MissingEngine(Unavailable):
    """TensorRT and a GPU are there, and the cache has no engine that may be loaded. command: builds it."""

    def __init__(self, flavor: Flavor, reason: str, command: str) -> None:
        super().__init__(flavor, reason, fix=command)
        self._command = command

    @property
    def brief(self) -> str:
        """With the command: the fast way is one line away."""
        return f"{self.reason}: {self._command}"


def open_engines(bundle: Bundle, flavor: Flavor, asked: Asked) -> list[Backend]:
    """Engines of both encoders from the cache.

    Raises:
        Unavailable: TensorRT or a GPU is not to be had, or an engine cannot be loaded or is not the model.
            `MissingEngine`: only the engine is not there.

    """
    try:
        if importlib.util.find_spec(flavor.replace("-", "_")) is None:
            nvidia.load_tensorrt(flavor)  # says how to install it
        gpu = nvidia.find_gpu()  # before TensorRT's libraries, which take a second to load for nothing
        builder = nvidia.builder_name(flavor, nvidia.load_tensorrt(flavor))
    except EmotionError as error:
        raise Unavailable(flavor, str(error)) from error
    folder = engines.cache_folder()
    build = shlex.join(["python", "export/to_trt.py", *build_arguments(bundle, flavor, asked)])
    found: dict[GraphName, Found] = {}
    for graph in ENCODERS:
        key = engines.engine_key(bundle, graph, builder=builder, gpu=gpu, precision=asked, limits=Limits())
        engine = engines.find_engine_for(folder, key)
        if isinstance(engine, Unusable):
            raise MissingEngine(flavor, f"no engine of {graph} ({engine.reason})", build)
        found[graph] = engine
    try:
        return [_load(bundle, engine, flavor, gpu, folder) for engine in found.values()]
    except EmotionError as error:
        raise Unavailable(flavor, str(error), fix=build, broken=True) from error


def _load(bundle: Bundle, found: Found, flavor: Flavor, gpu: Gpu, folder: Path) -> Backend:
    """An engine of the cache, ready to run; one that was not examined on this very GPU is so first."""
    key = found.sidecar.key
    backend, limits = TensorRTBackend(found.engine, flavor=flavor), Limits(key.persons, key.pictures)
    if not found.sidecar.verdict.holds_on(gpu):
        graph = next(graph for graph in ENCODERS if graph == key.graph)
        rows, fault = gate.make_exam(bundle, graph, limits).sit(backend, found.sidecar.precision)
        if fault:
            raise EmotionError(
                f"the engine of {key.graph} is not the model on this GPU ({fault}); delete "
                f"{folder / key.stem}.engine and build it here"
            )
        passed = msgspec.structs.replace(found.sidecar, verdict=Verdict("passed", rows, gpu.name, gpu.driver))
        engines.store_sidecar(folder, passed)  # once is enough
    return Bucketed(backend, limits)


def engines_behind(
    command: Sequence[str], reopen: Callable[[], list[Backend]], serving: Sequence[Backend], *, flavor: Flavor
) -> list[Backend]:
    """Serve with `serving` while a command builds the engines, then go on with what `reopen` gives."""
    _log.info("building %s engines, which takes minutes; meanwhile on %s", flavor, serving[0].description)

    def build() -> list[Backend]:
        run_builder(command)
        return reopen()

    switching, _ = build_behind(serving, build, name=f"{flavor} engines")
    return list(switching)


def builder_command(bundle: Bundle, flavor: Flavor, asked: Asked) -> list[str] | None:
    """The command that builds both engines into the cache; None where the builder is not installed."""
    # The runtime never imports what exports; it only knows where a checkout has it.
    spec = importlib.util.find_spec("emotion_export")
    if spec is None or not spec.submodule_search_locations:
        return None
    script = Path(spec.submodule_search_locations[0]).parent / "to_trt.py"
    if not script.is_file():
        return None
    return [sys.executable, str(script), *build_arguments(bundle, flavor, asked)]


def build_arguments(bundle: Bundle, flavor: Flavor, asked: Asked) -> list[str]:
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
