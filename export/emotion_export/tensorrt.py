"""Build TensorRT engines from ONNX, with `tensorrt` 10.3 and newer or `tensorrt_rtx`.

Networks are strongly typed: the ONNX graph defines the precision of every layer, and no builder flag changes
it. TensorRT 11 supports only such networks, and the precision of an engine is known without inspecting it.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import onnx

from emotion_export.layer_types import network_types
from emotion_export.progress import show_progress
from emotion_export.targets import targets_of
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.tensorrt.api import TensorRT, make_logger, one_line
from emotion_runtime.tensorrt.gpu import Flavor, Gpu, builder_name, start

if TYPE_CHECKING:
    import tensorrt

NEWEST_OPSET = 22

_FEW = 4  # people at once, for whom kernels are timed

_log = logging.getLogger(__name__)

ShapeRange = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # smallest, typical, largest


@dataclass(frozen=True, slots=True)
class Builder:
    """A TensorRT builder and its options.

    Attributes:
        library: The TensorRT module.
        flavor: Which TensorRT it is.
        gpu: The GPU to build for; without a name, all GPUs of its compute capabilities, ahead of time.
        workspace: Maximum scratch memory, in MiB.
        timing_cache: File of measured kernel timings, read and written; None means no file.
    """

    library: TensorRT
    flavor: Flavor
    gpu: Gpu
    workspace: int = 1024
    timing_cache: Path | None = None

    @property
    def ahead_of_time(self) -> bool:
        """Whether the engine is built for GPUs that need not be present."""
        return not self.gpu.name

    @property
    def name(self) -> str:
        """See `builder_name`."""
        return builder_name(self.flavor, self.library)


def typical_batch(limits: Limits) -> Limits:
    """Return the size to optimise for: a few people, in one image or with an image each."""
    persons = min(_FEW, limits.persons)
    return Limits(persons, min(persons, limits.images) if limits.crop_per_person else 1)


def shape_ranges(
    model: onnx.ModelProto, name: str, limits: Limits, typical: Limits | None = None
) -> dict[str, ShapeRange]:
    """Return the smallest, typical and largest shape of every input with dynamic dimensions.

    The dimension P counts people, F or batch counts images. For the arguments see `build_engine`.

    Raises:
        EmotionError: Another dimension is dynamic.
    """
    typical = typical or typical_batch(limits)
    images = 1, min(typical.images, limits.images), limits.images
    known = {"P": (1, min(typical.persons, limits.persons), limits.persons), "F": images, "batch": images}
    ranges = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if unknown := [d.dim_param or "?" for d in dims if not d.dim_value and d.dim_param not in known]:
            raise EmotionError(
                f"{name}: dimension {unknown[0]!r} of input {value.name} is dynamic, expected P, F or batch: "
                "export the graph with a fixed image size"
            )
        if any(d.dim_param for d in dims):
            columns = [known.get(d.dim_param, (d.dim_value,) * 3) for d in dims]
            smallest, middle, largest = zip(*columns, strict=True)
            ranges[value.name] = smallest, middle, largest
    return ranges


def build_engine(
    builder: Builder, model: onnx.ModelProto, name: str, limits: Limits, typical: Limits | None = None
) -> tuple[bytes, dict[str, int]]:
    """Build one engine; shows a progress bar on a terminal.

    Args:
        builder: The builder.
        model: The graph.
        name: Name of the graph, for messages.
        limits: Maximum number of people and images per inference call.
        typical: Number of people and images to optimise for; None: `typical_batch`.

    Returns:
        The serialised engine, and the number of layers of its network by the type of their output.

    Raises:
        EmotionError: TensorRT refuses the graph or fails to build it.
        KeyboardInterrupt: The user pressed Ctrl-C; raised at the next step of the build.
    """
    _check_opset(model, name)
    trt = builder.library
    logger = make_logger(trt)
    version = f"{builder.flavor} {trt.__version__}"
    factory = start(trt.Builder, logger, version, builder.gpu.driver)
    # From version 11 on, every network is strongly typed and the flag is ignored.
    network = factory.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        errors = (parser.get_error(i) for i in range(parser.num_errors))
        where = "; ".join(f"{e.node_operator()} node {e.node_name()!r}: {one_line(e.desc())}" for e in errors)
        raise EmotionError(
            f"{name}: {version} refuses the graph ({where or 'no reason given'}): export it again with "
            "emotion-export onnx of this version"
        )
    config = _configure(builder, factory)
    if ranges := shape_ranges(model, name, limits, typical):
        profile = factory.create_optimization_profile()
        for tensor, shapes in ranges.items():
            profile.set_shape(tensor, *cast("tuple[tensorrt.Dims, ...]", shapes))  # tuples are converted
        config.add_optimization_profile(profile)
    layer_types = network_types(network)
    with show_progress(trt, name) as config.progress_monitor:
        plan = factory.build_serialized_network(network, config)
    if plan is None:
        reason = logger.reason()
        fix = "try a larger --workspace or another --precision"
        if "FP32 GEMM" in reason:
            fix = "GPUs of the Turing family (SM75) have no fp32 matrix products there; omit --precision"
        raise EmotionError(f"{name}: {version} cannot build it ({reason}): {fix}")
    if builder.timing_cache is not None:
        _keep_timings(config, builder.timing_cache)
    return bytes(plan), layer_types


def _configure(builder: Builder, factory: "tensorrt.Builder") -> "tensorrt.IBuilderConfig":
    trt = builder.library
    config = factory.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, builder.workspace << 20)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # otherwise the inspector has no types
    config.clear_flag(trt.BuilderFlag.TF32)  # it computes fp32 with 10 bits
    # TensorRT for RTX promises CUDA graphs only for engines that allocate nothing while they run.
    if (flag := getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)) is not None:
        config.set_flag(flag)
    if builder.ahead_of_time:
        targets = targets_of(builder.gpu.compute_capability)
        rtx: Any = config  # the stubs describe `tensorrt`, and only `tensorrt_rtx` has these
        rtx.num_compute_capabilities = len(targets)
        for i, target in enumerate(targets):
            rtx.set_compute_capability(getattr(trt.ComputeCapability, target), i)
    if builder.timing_cache is not None:
        known = builder.timing_cache.read_bytes() if builder.timing_cache.is_file() else b""
        timings = config.create_timing_cache(known)  # None: the file is not valid
        # False: timings of another GPU or version.
        if timings is None or not config.set_timing_cache(timings, ignore_mismatch=False):
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


def _check_opset(model: onnx.ModelProto, name: str) -> None:
    opset = max((opset.version for opset in model.opset_import if not opset.domain), default=0)
    if opset > NEWEST_OPSET:
        raise EmotionError(
            f"{name}: opset {opset}, expected {NEWEST_OPSET} or less: TensorRT-RTX 1.7 crashes on newer "
            "operators (Attention). Export it again with opset 17 to 20"
        )
