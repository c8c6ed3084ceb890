"""ONNX Runtime: sessions for every model of a run, and the backend on the CPU.

Threads: one operator is spread over the cores that this process may use, at most four. A batch of the small
model takes 2 ms, and more pieces would cost more than they save. Cores that the scheduler or the container's
control group forbids are not counted. Operators run one after the other, because the graphs are chains.

Spinning: between two operators, idle threads spin for 20 microseconds, because waking them would take a third
of the small model's time. After a model they stop, because three models, the video decoder and the drawing
take turns, and a spinning thread would take a core from the next one. Measured on two cores, a detector and
the small model in turn: 32.7 ms with these settings, 34.0 ms without spinning; with one core busy, 44.9 ms
and 43.5 ms. ONNX Runtime's default took 56 ms where these settings took 28 ms (a separate measurement).
"""

import importlib.util
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.errors import EmotionError
from emotion_runtime.forks import keep_in_children

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

Provider = str | tuple[str, dict[str, str]]

_MOST_THREADS = 4
_LIMITS_SPINNING = (1, 32)  # the version that was measured; older ones may not know the setting
_CUDA_FAILURE = re.compile(r"CU[A-Z]+ failure \d+: [^;]+")  # the rest names C++ functions and files
_FATAL = 4  # log level: what ONNX Runtime logs as an error, it also raises as an exception


class OnnxBackend:
    """A graph in ONNX Runtime on the CPU. See `emotion_runtime.backends.base.Backend`.

    Args:
        graph: The ONNX file, or the content of one.
        threads: Number of threads per operator; 0: `default_threads()`.

    Raises:
        EmotionError: ONNX Runtime is not installed or cannot load the graph.
    """

    name = "cpu"

    def __init__(self, graph: Path | bytes, *, threads: int = 0) -> None:
        threads = threads or default_threads()
        self._session = open_graph(graph, threads=threads)
        self._names = [output.name for output in self._session.get_outputs()]
        provider = self._session.get_providers()[0]
        self.description = f"ONNX Runtime {onnx_version()}, {provider}, {count_threads(threads)}"

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs by name."""
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))

    def close(self) -> None:
        """Do nothing: the session is freed together with this object, and can still run."""


def open_graph(
    graph: Path | bytes, provider: str = CPU, *, threads: int = 0, options: Mapping[str, str] | None = None
) -> Any:
    """Open an `onnxruntime.InferenceSession` of a graph, in a file or in memory; see `open_session`."""
    # From memory, so that a graph with weights in a second file is refused: its hash would not cover them.
    return open_session(
        graph if isinstance(graph, bytes) else graph.read_bytes(),
        name="the graph" if isinstance(graph, bytes) else str(graph),
        fix="upgrade ONNX Runtime, or export the graph again as one file"
        if provider == CPU
        else "check driver and memory with nvidia-smi",
        providers=providers_for(provider, options or {}),
        threads=threads,
    )


def open_session(
    model: Path | bytes,
    *,
    name: str,
    fix: str,
    providers: Sequence[Provider] = (CPU,),
    threads: int = 0,
) -> Any:
    """Open an `onnxruntime.InferenceSession` with the settings that all models of a run share.

    Args:
        model: An ONNX file, or the content of one.
        name: What the model is, for the error message.
        fix: What the user can do if it cannot be loaded, for the error message.
        providers: Execution providers in order of preference. ONNX Runtime silently skips one that does not
            start: compare `session.get_providers()`.
        threads: Number of threads per operator; 0: `default_threads()`.

    Raises:
        EmotionError: ONNX Runtime is not installed or cannot load the model.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads or default_threads()
    for setting, value in _spinning(runtime.__version__).items():
        options.add_session_config_entry(f"session.{setting}", value)
    options.use_deterministic_compute = True  # so that two runs over a file give the same bytes
    source = str(model) if isinstance(model, Path) else model
    try:
        # Its fallback would print to standard output, which may carry JSON lines, and go on with the CPU.
        session = runtime.InferenceSession(source, options, providers=list(providers), enable_fallback=0)
    except device_errors() as error:
        raise EmotionError(
            f"{name}: ONNX Runtime {runtime.__version__} cannot load it ({onnx_reason(error)}); {fix}"
        ) from error
    keep_in_children(session)
    return session


def _spinning(version: str) -> dict[str, str]:
    """Return session settings. Older versions cannot limit spinning, so there it is switched off."""
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < _LIMITS_SPINNING:
        return {"intra_op.allow_spinning": "0"}
    return {"force_spinning_stop": "1", "intra_op.spin_duration_us": "20"}


def default_threads() -> int:
    """Return the number of cores that this process may use, at most 4: more do not help a small model."""
    return min(usable_cores(), _MOST_THREADS)


def count_threads(threads: int) -> str:
    """Return "1 thread" or "2 threads"."""
    return "1 thread" if threads == 1 else f"{threads} threads"


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the number of cores that this process may use, at least 1.

    Args:
        quota: File with the control group's limit, "MICROSECONDS|max PERIOD". With `docker run --cpus=1` the
            scheduler still reports all cores of the host, but threads beyond the quota only wait.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if quota.is_file():
        limit, _, period = quota.read_text(encoding="ascii").partition(" ")
        if limit != "max":
            cores = min(cores, -(-int(limit) // int(period)))
    return max(cores, 1)


def onnx_version() -> str:
    """Return the version of the installed ONNX Runtime."""
    return str(import_onnxruntime().__version__)


def available_providers() -> list[str]:
    """List the providers that the installed ONNX Runtime was built with; some of them may not start."""
    return list(import_onnxruntime().get_available_providers())


def providers_for(provider: str, options: Mapping[str, str] = MappingProxyType({})) -> list[Provider]:
    """Return the `providers` argument of a session that is to run on one provider.

    Args:
        provider: "CPUExecutionProvider", "CUDAExecutionProvider" or another name.
        options: Options for CUDA, in addition to those that are always set.
    """
    if provider != CUDA:
        return [provider, CPU] if provider != CPU else [CPU]
    _preload_cuda(import_onnxruntime())
    # The parity report of the bundle was measured without TF32 rounding. An exhaustive search for convolution
    # algorithms could choose another one in each run; without any search a frame of the detector took 53 ms
    # on an H200, where it takes 1 ms.
    return [(CUDA, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", **options}), CPU]


def _preload_cuda(runtime: ModuleType) -> None:
    """Load CUDA and cuDNN from where pip puts them.

    ONNX Runtime looks beside its own folder; NVIDIA's packages may be installed elsewhere on the path. What
    it does not find is printed to standard output, which may carry JSON lines.
    """
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(each) for each in spec.submodule_search_locations or ()] if spec is not None else []
    for folder in folders:
        if folder.parent != Path(runtime.__file__ or "").parents[1]:
            for libraries in sorted(folder.glob("*/lib")):
                with redirect_stdout(io.StringIO()):  # each folder has only some of the libraries
                    runtime.preload_dlls(directory=str(libraries))
    with redirect_stdout(sys.stderr):
        runtime.preload_dlls()


def import_onnxruntime() -> ModuleType:
    """Return the module `onnxruntime`, which comes with the extra `cpu` or `gpu`.

    Raises:
        EmotionError: It is not installed, or not completely.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - an extra: everything else must import without it
    except ModuleNotFoundError as error:
        raise EmotionError(
            "ONNX Runtime is not installed: pip install onnxruntime (for an NVIDIA GPU: onnxruntime-gpu)"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):  # removing one of two packages left the rest of it
        from emotion_runtime.installed import installed  # noqa: PLC0415 - slow to import, and only here

        (package, *_) = [*installed("onnxruntime"), "onnxruntime"]
        raise EmotionError(
            "ONNX Runtime is incomplete, probably since another package with the same module was removed: "
            f"pip install --force-reinstall {package}"
        )
    module: ModuleType = onnxruntime
    return module


def onnx_reason(error: Exception) -> str:
    """Return what an exception of ONNX Runtime says, in one line; of CUDA's, without its C++ functions."""
    text = " ".join(str(error).split())
    found = _CUDA_FAILURE.search(text)
    return found[0].rstrip() if found else text


def device_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of `onnx_errors`, and the one of a provider that does not start."""
    return RuntimeError, *onnx_errors()


def onnx_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that ONNX Runtime raises; their only common base class is Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - see import_onnxruntime

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )
