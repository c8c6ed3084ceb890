"""Make the graphs of a bundle in other precisions from the fp32 graphs, and check their parity."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import onnx

from emotion_export.fp16 import half_precision
from emotion_export.graph_index import GraphIndex
from emotion_export.layer_search import find_stages, keep_worst_in_fp32, stage_errors, with_probes
from emotion_export.onnx import save_graph
from emotion_export.parity import measure, passes, require_parity
from emotion_export.quantize import calibrate, int8_nodes, quantise
from emotion_export.samples import SIZES, batches, random_crops, real_crops
from emotion_runtime.backends.base import Feeds
from emotion_runtime.backends.onnx import OnnxBackend, import_onnxruntime
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Graph, Parity, Variant
from emotion_runtime.names import GRAPHS, GraphName, ReducedPrecision
from emotion_runtime.parity import Comparison, Reference, RunGraph, only_output
from emotion_runtime.parity_inputs import clip_feeds
from emotion_runtime.preprocess import PreprocessSpec

_log = logging.getLogger(__name__)


Compared = Mapping[GraphName, Sequence[Comparison]]
Calibration = Mapping[GraphName, Sequence[Feeds]]


def take_samples(
    reference: Reference, spec: PreprocessSpec, videos: Sequence[str]
) -> tuple[Compared, Calibration]:
    """Collect inputs from the demo, the videos and random images, and run the reference on them.

    Returns:
        Inputs of both graphs with the outputs of the reference, for the parity check; and inputs from crops
        of real people, for the calibration of int8. No frame is used for both.

    Raises:
        EmotionError: A video cannot be read, or no face is found in it.
    """
    crops = real_crops(videos, spec)
    real = reference.compare(batches(crops[1::2]), "real")
    drawn = reference.compare(batches(random_crops(spec)), "random")
    frames = [feed for group in batches(crops[::2]) for feed in group]
    embeddings = np.concatenate([reference.frame_encoder(feed) for feed in frames])
    clips = clip_feeds(embeddings, reference.clip_frames, max(persons for _, persons in SIZES), len(frames))
    compared = {name: [*real[name], *drawn[name]] for name in GRAPHS}
    return compared, {"frame_encoder": frames, "temporal_encoder": clips}


def add_variants(
    graphs: Mapping[GraphName, Graph],
    folder: Path,
    precisions: Collection[ReducedPrecision],
    compared: Compared,
    calibration: Calibration,
) -> tuple[dict[GraphName, Graph], list[Parity]]:
    """Write the graphs of a folder in other precisions beside them; for the samples see `take_samples`.

    Returns:
        The graphs as described in the manifest, and the rows of the parity report.

    Raises:
        EmotionError: A graph fails the parity check even with all stages but one in fp32, or is invalid.
    """
    described, rows = dict(graphs), list[Parity]()
    for name, graph in graphs.items():
        variants: dict[ReducedPrecision, Variant] = dict(graph.variants)
        for precision in sorted(precisions):
            _log.info("%s: converting to %s", name, precision)
            path = folder / graph.file
            model, kept, own = _convert(path, precision, compared[name], calibration[name])
            require_parity(own)  # also if no set of stages was enough
            _log.info("%s in %s: %d matrix products in fp32", name, precision, len(kept))
            variants[precision] = save_graph(model, folder / f"{name}.{precision}.onnx", precision)
            rows += own
        described[name] = msgspec.structs.replace(graph, variants=variants)
    return described, rows


def _convert(
    path: Path, precision: ReducedPrecision, compared: Sequence[Comparison], calibration: Sequence[Feeds]
) -> tuple[onnx.ModelProto, frozenset[str], list[Parity]]:
    """Return a graph in a precision, the products that stay in fp32, and the parity report.

    If no set of products is enough, none stays in fp32, and the report fails.
    """
    model = onnx.load(path)
    names = [node.name for node in model.graph.node]
    if "" in names or len(set(names)) != len(names):
        raise EmotionError(
            f"{path} has nodes without a unique name, by which they could be kept in fp32: export the bundle "
            "again with emotion-export onnx"
        )
    stages = find_stages(model)
    if precision == "int8":
        nodes = int8_nodes(GraphIndex(model))
        stages = [replace(stage, nodes=tuple(set(stage.nodes) & set(nodes))) for stage in stages]
        ranges = calibrate(path, calibration)

    def build(kept: Collection[str] = ()) -> onnx.ModelProto:
        if precision == "fp16":
            return half_precision(model, keep=kept)
        return quantise(model, ranges, [node for node in nodes if node not in kept])

    @cache  # a check is slow
    def check(kept: frozenset[str]) -> list[Parity]:
        return _measure(build(kept).SerializeToString(), precision, compared)

    def errors() -> list[float]:
        """Return the error of each stage with all products reduced, on the largest real batch."""
        feed = [each for each in compared if each.images == "real"][-1].feeds[0]  # sizes are sorted
        probed = (with_probes(each, stages) for each in (model, build()))
        return stage_errors(stages, *(OnnxBackend(each.SerializeToString()).run(feed) for each in probed))

    kept = keep_worst_in_fp32(stages, errors, lambda kept: passes(check(kept))) or frozenset()
    return build(kept), kept, check(kept)


def _measure(content: bytes, precision: ReducedPrecision, compared: Sequence[Comparison]) -> list[Parity]:
    """Return the rows of the parity report for a graph in memory, run by ONNX Runtime on the CPU.

    int8 is run twice: with the integer kernels of this processor and, as in TensorRT, in float between
    Quantize and Dequantize. The worse value of each metric counts.
    """
    ways = [only_output(OnnxBackend(content))]
    if precision == "int8":
        ways.append(_as_written(content))
    return measure(compared, ways, precision)


def _as_written(content: bytes) -> RunGraph:
    """Return a function that runs a graph on the CPU, operator by operator."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda feed: np.asarray(session.run(None, dict(feed))[0], np.float32)
