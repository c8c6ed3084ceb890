"""The graphs of a bundle in fewer bits: made from the fp32 graphs, and held against the gate."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from emotion_export.fp16 import half_precision
from emotion_export.layer_search import keep_worst_in_fp32
from emotion_export.layers import GraphIndex, weighted_layers
from emotion_export.onnx import save_graph
from emotion_export.parity import (
    Comparison,
    Feed,
    Reference,
    RunGraph,
    clip_feeds,
    comparisons,
    frame_feed,
    measure,
    parity_table,
    passes,
    require_parity,
    worse,
)
from emotion_export.quantize import calibrate, int8_layers, quantise
from emotion_export.samples import SIZES, batches, random_crops, real_crops
from emotion_runtime.backends.onnx import default_threads
from emotion_runtime.manifest import Graph, GraphName, Parity, ReducedPrecision, Variant
from emotion_runtime.preprocess import PreprocessSpec

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Samples:
    """What a bundle's graphs are compared on, and what int8 is calibrated on: never the same frames.

    compared: of both graphs. calibration: inputs of each graph, from real crops.
    """

    compared: Sequence[Comparison]
    calibration: Mapping[GraphName, Sequence[Feed]]


def take_samples(reference: Reference, spec: PreprocessSpec, videos: Sequence[str]) -> Samples:
    """Look at the demo, at the videos and at random pictures, and let the reference answer.

    Raises:
        EmotionError: a video cannot be read, or nobody is found in it.

    """
    views = real_crops(videos, spec)
    compared = [
        *comparisons(reference, "real", batches(views[1::2])),
        *comparisons(reference, "random", batches(random_crops(spec))),
    ]
    frames = [frame_feed(batch) for group in batches(views[::2]).values() for batch in group]
    embeddings = np.concatenate([reference.frame_encoder(feed) for feed in frames])
    clips = clip_feeds(embeddings, reference.clip_frames, max(persons for _, persons in SIZES), len(frames))
    return Samples(compared, {"frame_encoder": frames, "temporal_encoder": clips})


@dataclass(frozen=True)
class _Candidate:
    """A graph on its way to a precision. layers: node names of each layer that may be spared."""

    graph: GraphName
    precision: ReducedPrecision
    layers: Mapping[str, Sequence[str]]
    build: Callable[[Collection[str]], onnx.ModelProto]  # of the names of the layers that are spared
    compared: Sequence[Comparison]
    _reports: dict[frozenset[str], list[Parity]] = field(default_factory=dict)  # each takes long

    def rows(self, spared: Collection[str]) -> list[Parity]:
        """The report, with layers spared."""
        key = frozenset(spared)
        if key not in self._reports:
            self._reports[key] = self._measure(key, self.compared)
        return self._reports[key]

    def passes(self, spared: Collection[str]) -> bool:
        """Whether the graph is tolerated, with layers spared."""
        return passes(self.rows(spared))

    def error(self, spared: Collection[str]) -> float:
        """What the cosine of the worst person lacks, on the largest batch of real pictures."""
        own = [c for c in self.compared if (c.graph, c.images) == (self.graph, "real")]
        (row,) = self._measure(spared, [max(own, key=lambda c: (c.persons, c.frames))])
        return 1 - row.cosine_min

    def _measure(self, spared: Collection[str], compared: Sequence[Comparison]) -> list[Parity]:
        content = self.build(spared).SerializeToString()
        return measure_content(content, self.graph, self.precision, compared)


def add_variants(
    graphs: Mapping[GraphName, Graph],
    folder: Path,
    precisions: Collection[ReducedPrecision],
    samples: Samples,
    report: Report,
) -> tuple[dict[GraphName, Graph], list[Parity]]:
    """Write the graphs of a folder in other precisions beside them. Returns what the manifest says.

    Raises:
        EmotionError: a graph is beyond tolerance even with all layers spared but one, or is invalid.

    """
    described, rows = dict(graphs), list[Parity]()
    for name, graph in graphs.items():
        variants: dict[ReducedPrecision, Variant] = dict(graph.variants)
        for precision in sorted(precisions):
            report(f"{name}: making {precision}")
            candidate = _candidate(name, precision, folder / graph.file, samples)
            spared = keep_worst_in_fp32(list(candidate.layers), candidate.error, candidate.passes, report)
            own = candidate.rows(spared or ())
            report(parity_table(own))
            require_parity(own)  # as it will where there was nothing to spare
            report(
                f"{name} in {precision}: {len(spared or ())} of {len(candidate.layers)} layers left in fp32"
            )
            path = folder / f"{name}.{precision}.onnx"
            variants[precision] = save_graph(candidate.build(spared or ()), path, precision)
            rows += own
        described[name] = msgspec.structs.replace(graph, variants=variants)
    return described, rows


def measure_content(
    content: bytes, graph: GraphName, precision: ReducedPrecision, compared: Sequence[Comparison]
) -> list[Parity]:
    """Rows of the report for a graph in memory, by ONNX Runtime on the CPU.

    int8 is run twice, with the integer kernels of this processor and, as TensorRT computes, in float between
    Quantize and Dequantize; the worse of each figure counts.
    """
    rows = measure(compared, graph, _session(content, optimised=True), precision)
    if precision != "int8":
        return rows
    plain = measure(compared, graph, _session(content, optimised=False), precision)
    return [worse(one, other) for one, other in zip(rows, plain, strict=True)]


def _candidate(name: GraphName, precision: ReducedPrecision, path: Path, samples: Samples) -> _Candidate:
    model = onnx.load(path)
    index = GraphIndex(model)
    if precision == "fp16":
        layers = weighted_layers(index)

        def build(spared: Collection[str]) -> onnx.ModelProto:
            return half_precision(model, keep=_nodes(layers, spared))

    else:
        layers = int8_layers(index)
        ranges = calibrate(path, samples.calibration[name])

        def build(spared: Collection[str]) -> onnx.ModelProto:
            return quantise(model, ranges, _nodes(layers, layers.keys() - set(spared)))

    return _Candidate(name, precision, layers, build, samples.compared)


def _nodes(layers: Mapping[str, Sequence[str]], names: Collection[str]) -> list[str]:
    return [node for layer, nodes in layers.items() if layer in names for node in nodes]


def _session(content: bytes, *, optimised: bool) -> RunGraph:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = default_threads()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(feed: Feed) -> NDArray[np.float32]:
        (output,) = session.run(None, dict(feed))
        return np.asarray(output, np.float32)

    return run
