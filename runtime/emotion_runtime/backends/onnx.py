"""ONNX Runtime: sessions for every model of a run, and the backend on the CPU.

Threads. One operator is spread over the cores this process may use, at most four: a batch of the small model
is done in 2 ms, and cutting it into more pieces costs more than they save. Cores that the scheduler or the
container's control group forbids are not counted. Operators run one after the other: the graphs are chains.

Between two operators idle threads spin for 20 microseconds, or waking them would take a third of the small
model's time, and after a model they stop: three models, the video decoder and the drawing take turns, and the
spinning of one would take the cores from the next. Measured on two cores, a detector and the small model in
turn: 32.7 ms so, 34.0 ms without any spinning; with one core busy otherwise, 44.9 ms and 43.5 ms. With ONNX
Runtime's default, in another run, 56 ms and not 28.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.errors import EmotionError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

Provider = str | tuple[str, dict[str, str]]

_MOST_THREADS = 4
_LIMITS_SPINNING = (1, 32)  # the version that was measured; the setting came in the year before
_FATAL = 4  # ONNX Runtime's severity; its errors come as exceptions that say the same


class OnnxBackend:
    """A graph in ONNX Runtime on the CPU. See `emotion_runtime.backends.Backend`.

    threads: of one operator; 0: `default_threads()`.

    Raises:
        EmotionError: ONNX Runtime is not installed or cannot load the graph.

    """

    def __init__(self, graph: Path, *, threads: int = 0) -> None:
        threads = threads or default_threads()
        self._session = open_graph(graph, threads=threads)
        self._names = [output.name for output in self._session.get_outputs()]
        provider = self._session.get_providers()[0]
        self.description = f"ONNX Runtime {onnx_version()}, {provider}, {threads} threads"

    def run(self, feeds: Feeds) -> Outputs:
        """Outputs by name."""
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))


def open_graph(
    graph: Path, provider: str = CPU, *, threads: int = 0, options: Mapping[str, str] | None = None
) -> Any:
    """An `onnxruntime.InferenceSession` of a bundle's graph; see `open_session`."""
    # From memory: weights that lie in a second file are outside the graph's hash, and are refused so.
    return open_session(
        graph.read_bytes(),
        name=str(graph),
        fix="upgrade ONNX Runtime, or export the graph again as one file",
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
    """An `onnxruntime.InferenceSession`, set up alike for all models of a run.

    model: an ONNX file, or the bytes of one. name, fix: what it is and how to mend it, for the error.
    providers: in order of preference. ONNX Runtime passes over one that does not start without a word:
    compare `session.get_providers()`.
    threads: of one operator; 0: `default_threads()`.

    Raises:
        EmotionError: ONNX Runtime is not installed or cannot load the model.

    """
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads or default_threads()
    for setting, value in _spinning(runtime.__version__).items():
        options.add_session_config_entry(f"session.{setting}", value)
    options.use_deterministic_compute = True  # two runs of a file give the same bytes
    source = str(model) if isinstance(model, Path) else model
    try:
        return runtime.InferenceSession(source, options, providers=list(providers))
    except onnx_errors() as error:
        reason = " ".join(str(error).split())
        raise EmotionError(
            f"{name}: ONNX Runtime {runtime.__version__} cannot load it ({reason}); {fix}"
        ) from error


def _spinning(version: str) -> dict[str, str]:
    """Settings of a session. A version that does not know the limit would spin for as long as it likes."""
    major, minor = (int(number) for number in version.split(".")[:2])
    if (major, minor) < _LIMITS_SPINNING:
        return {"intra_op.allow_spinning": "0"}
    return {"force_spinning_stop": "1", "intra_op.spin_duration_us": "20"}


def default_threads() -> int:
    """Cores this process may use, at most 4: a small model gains nothing from more, and others need them."""
    return min(usable_cores(), _MOST_THREADS)


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores this process may use, at least 1.

    quota: the control group's limit, "MICROSECONDS|max PERIOD". `docker run --cpus=1` shows all cores of the
    host to the scheduler, and threads beyond the quota only wait for each other.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if quota.is_file():
        limit, _, period = quota.read_text(encoding="ascii").partition(" ")
        if limit != "max":
            cores = min(cores, -(-int(limit) // int(period)))
    return max(cores, 1)


def onnx_version() -> str:
    """Of the installed ONNX Runtime."""
    return str(_onnxruntime().__version__)


def available_providers() -> list[str]:
    """Providers the installed ONNX Runtime was built with; whether one starts is only known afterwards."""
    return list(_onnxruntime().get_available_providers())


def providers_for(provider: str, options: Mapping[str, str] = MappingProxyType({})) -> list[Provider]:
    """What a session is asked for to get a provider. options: of CUDA, beside those that are always set."""
    if provider != CUDA:
        return [provider, CPU] if provider != CPU else [CPU]
    runtime = _onnxruntime()
    runtime.preload_dlls()  # finds CUDA and cuDNN where pip puts them
    # TF32 would round what the parity report of the bundle was measured without; an exhaustive search for
    # convolutions takes another algorithm from run to run.
    return [(CUDA, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", **options}), CPU]


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime  # noqa: PLC0415 - an extra: everything else must import without it
    except ModuleNotFoundError as error:
        raise EmotionError(
            "ONNX Runtime is not installed: pip install onnxruntime (for an NVIDIA GPU: onnxruntime-gpu)"
        ) from error
    module: ModuleType = onnxruntime
    return module


def onnx_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a model it cannot take or run; these share no base class but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - see _onnxruntime

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )
