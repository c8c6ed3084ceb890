"""Build TensorRT engines from ONNX, with `tensorrt` 10.3 and newer or `tensorrt_rtx`.

Networks are strongly typed: the ONNX graph defines the precision of every layer, and no builder flag changes
it. TensorRT 11 supports only such networks, and the precision of an engine is known without inspecting it.
"""

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import onnx
from tqdm import tqdm

from emotion_export.layer_types import network_types
from emotion_export.progress import make_monitor, stop_on_interrupt
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.manifest import Parity
from emotion_runtime.names import EnginePrecision
from emotion_runtime.tensorrt.api import TensorRT
from emotion_runtime.tensorrt.gpu import Flavor, Gpu, builder_name, start

if TYPE_CHECKING:
    import tensorrt

NEWEST_OPSET = 22

_PERCENT = 100
_FEW = 4  # people at once, for whom kernels are timed

_log = logging.getLogger(__name__)

ShapeRange = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # smallest, typical, largest


@dataclass(frozen=True, slots=True)
class Builder:
    """A TensorRT builder and its options.

    Attributes:
        library: The TensorRT module.
        flavor: Which TensorRT it is.
        gpu: The GPU to build for; its name is empty if it need not be present.
        target: The GPUs that need not be present, such as "SM86" or "SM80,SM86"; None: the GPU of this
            machine.
        workspace: Maximum scratch memory, in MiB.
        timing_cache: File of measured kernel timings, read and written; None means no file.
    """

    library: TensorRT
    flavor: Flavor
    gpu: Gpu
    target: str | None = None
    workspace: int = 1024
    timing_cache: Path | None = None

    @property
    def name(self) -> str:
        """See `builder_name`."""
        return builder_name(self.flavor, self.library)


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A serialised engine, and what is known about it.

    Attributes:
        engine: Content of the engine file.
        layer_types: Number of layers of its network by the type of their output.
        loaded_types: The same as the loaded engine describes itself; empty if it was not loaded.
        precision: What was requested of it; set by whoever checks it.
        parity: Rows of the parity report; empty if the check has not been run.
        fp32_layers: Nodes that "mixed" kept in fp32.
        refused: One line for each engine that failed before.
    """

    engine: bytes
    layer_types: dict[str, int]
    loaded_types: dict[str, int] = field(default_factory=dict)
    precision: EnginePrecision = "fp32"
    parity: list[Parity] = field(default_factory=list)
    fp32_layers: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def typical_batch(limits: Limits) -> Limits:
    """Return the size to optimise for: a few people, in one image or with an image each."""
    persons = min(_FEW, limits.persons)
    return Limits(persons, min(persons, limits.images) if limits.crop_per_person else 1)


def shape_ranges(
    model: onnx.ModelProto, name: str, limits: Limits, typical: Limits | None = None
) -> dict[str, ShapeRange]:
    """Return the smallest, typical and largest shape of every input with dynamic dimensions.

    The dimension P counts people, F or batch counts images.

    Args:
        model: The graph.
        name: Name of the graph, for messages.
        limits: Largest sizes.
        typical: Sizes to optimise for; None: `typical_batch`.

    Raises:
        EmotionError: Another dimension is dynamic.
    """
    ranges = {}
    typical = typical or typical_batch(limits)
    known = dict.fromkeys(("F", "batch"), (typical.images, limits.images))
    known["P"] = typical.persons, limits.persons
    for value in model.graph.input:
        dims = [d.dim_value or d.dim_param or "?" for d in value.type.tensor_type.shape.dim]
        if any(isinstance(d, str) for d in dims):
            columns = [_dim_range(name, value.name, d, known) for d in dims]
            smallest, middle, largest = zip(*columns, strict=True)
            ranges[value.name] = smallest, middle, largest
    return ranges


def build_engine(
    builder: Builder, model: onnx.ModelProto, name: str, limits: Limits, typical: Limits | None = None
) -> BuiltEngine:
    """Build one engine; shows a progress bar on a terminal.

    Args:
        builder: The builder.
        model: The graph.
        name: Name of the graph, for messages.
        limits: Maximum number of people and images per inference call.
        typical: Number of people and images to optimise for; None: `typical_batch`.

    Raises:
        EmotionError: TensorRT refuses the graph or fails to build it.
        KeyboardInterrupt: The user pressed Ctrl-C; raised at the next step of the build.
    """
    _check_opset(model, name)
    trt = builder.library
    logger = _logger(trt)
    factory = start(trt.Builder, logger, f"{builder.flavor} {trt.__version__}", builder.gpu.driver)
    # From version 11 on, every network is strongly typed and the flag is ignored.
    network = factory.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        raise EmotionError(_refusal(builder, name, [parser.get_error(i) for i in range(parser.num_errors)]))
    config = _configure(builder, factory)
    if ranges := shape_ranges(model, name, limits, typical):
        profile = factory.create_optimization_profile()
        for tensor, shapes in ranges.items():
            profile.set_shape(tensor, *cast("tuple[tensorrt.Dims, ...]", shapes))  # tuples are converted
        config.add_optimization_profile(profile)
    layer_types = network_types(network)
    with tqdm(total=_PERCENT, desc=f"building {name}", unit="%", disable=None, leave=False) as bar:
        monitor = config.progress_monitor = make_monitor(trt, bar)
        with stop_on_interrupt(monitor):
            plan = factory.build_serialized_network(network, config)
    if monitor.stopped:
        raise KeyboardInterrupt
    if plan is None:
        # The first error is not always the reason: some kernels fail and others take their place.
        reason = "; ".join(dict.fromkeys(logger.errors)) or "no reason given"
        fix = "try a larger --workspace or another --precision"
        if "FP32 GEMM" in reason:
            fix = "GPUs of the Turing family (SM75) have no fp32 matrix products there; omit --precision"
        raise EmotionError(f"{name}: {builder.flavor} {trt.__version__} cannot build it ({reason}): {fix}")
    if builder.timing_cache is not None:
        _keep_timings(config, builder.timing_cache)
    return BuiltEngine(bytes(plan), layer_types)


def _configure(builder: Builder, factory: "tensorrt.Builder") -> "tensorrt.IBuilderConfig":
    trt = builder.library
    config = factory.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, builder.workspace << 20)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # otherwise the inspector has no types
    config.clear_flag(trt.BuilderFlag.TF32)  # it computes fp32 with 10 bits
    # TensorRT for RTX promises CUDA graphs only for engines that allocate nothing while they run.
    if (flag := getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)) is not None:
        config.set_flag(flag)
    if builder.target is not None:
        targets = dict.fromkeys(target.strip() for target in builder.target.upper().split(","))
        rtx: Any = config  # the stubs describe `tensorrt`, and only `tensorrt_rtx` has these
        rtx.num_compute_capabilities = len(targets)
        for i, target in enumerate(targets):
            rtx.set_compute_capability(getattr(trt.ComputeCapability, target), i)
    if builder.timing_cache is not None:
        known = builder.timing_cache.read_bytes() if builder.timing_cache.is_file() else b""
        timings = config.create_timing_cache(known) or config.create_timing_cache(
            b""
        )  # None: the file is not valid
        if not config.set_timing_cache(timings, ignore_mismatch=False):  # timings of another GPU or version
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return config


def _keep_timings(config: "tensorrt.IBuilderConfig", path: Path) -> None:
    """Write the measured kernel timings for the next build; a failure does not affect the engine."""
    timings = config.get_timing_cache()
    if timings is None:
        return
    try:
        write_atomically(path, bytes(timings.serialize()))
    except EmotionError as error:
        _log.warning("the timing cache was not saved, so the next build will take as long: %s", error)


def _refusal(builder: Builder, name: str, errors: "list[tensorrt.ParserError]") -> str:
    where = "; ".join(
        f"{error.node_operator()} node {error.node_name()!r}: {_one_line(error.desc())}" for error in errors
    )
    return (
        f"{name}: {builder.flavor} {builder.library.__version__} refuses the graph "
        f"({where or 'no reason given'}): export it again with emotion-export onnx of this version"
    )


def _one_line(message: str) -> str:
    """Return a message in one line, without the complaint about a missing GPU that often follows."""
    return " ".join(re.sub(r"\[\S*catchCudaError.*", "", message, flags=re.DOTALL).split())


def _check_opset(model: onnx.ModelProto, name: str) -> None:
    opset = max((opset.version for opset in model.opset_import if not opset.domain), default=0)
    if opset > NEWEST_OPSET:
        raise EmotionError(
            f"{name}: opset {opset}, expected {NEWEST_OPSET} or less: TensorRT-RTX 1.7 crashes on newer "
            "operators (Attention). Export it again with opset 17 to 20"
        )


def _logger(trt: TensorRT) -> Any:
    """Return a logger that collects errors; its base class is only known at run time."""

    class Logger(trt.ILogger):  # type: ignore[name-defined, misc]  # the module is a variable
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(_one_line(msg))

    return Logger()


def _dim_range(
    name: str, tensor: str, dim: int | str, known: dict[str, tuple[int, int]]
) -> tuple[int, int, int]:
    """Return the smallest, typical and largest length of a dimension."""
    if isinstance(dim, int):
        return dim, dim, dim
    if dim in known:
        typical, largest = known[dim]
        return 1, min(typical, largest), largest
    raise EmotionError(
        f"{name}: dimension {dim!r} of input {tensor} is dynamic, expected P, F or batch: export the graph "
        "with a fixed image size"
    )
