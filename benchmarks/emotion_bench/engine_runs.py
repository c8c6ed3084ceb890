"""Exported graphs in TensorRT: speed with the copies to and from the host, and parity."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

import onnx

from emotion_bench.device import Device
from emotion_bench.torch_runs import Reference
from emotion_export.fp16 import half_precision
from emotion_export.graphs import graph_sources
from emotion_export.onnx import write_graph
from emotion_export.tensorrt import Builder, build_engine, typical_batch
from emotion_runtime.backends.buckets import Bucketed, Limits
from emotion_runtime.tensorrt.engine import TensorRTBackend
from emotion_runtime.tensorrt.gpu import Flavor, find_gpu, load_tensorrt
from emotion_train.model import EmotionCLIP

WAYS: tuple[tuple[Flavor, str], ...] = tuple(product(get_args(Flavor), ("fp16", "fp32")))


def export(model: EmotionCLIP, folder: Path) -> dict[str, Path]:
    """Write the ONNX file of each graph; return the paths by graph."""
    files: dict[str, Path] = {}
    for source in graph_sources(model):
        files[source.name] = folder / f"{source.name}.onnx"
        write_graph(source, files[source.name])
    return files


def engine_rows(
    reference: Reference,
    graph: Path,
    persons: Sequence[int],
    device: Device,
    way: tuple[Flavor, str],
) -> Iterator[dict[str, Any]]:
    """Build an engine of a graph for some numbers of people in one of `WAYS`; yield a row for each number.

    Raises:
        EmotionError: This TensorRT is not installed, or the engine cannot be built.
    """
    runner, precision = way
    library = load_tensorrt(runner)
    onnx_model = onnx.load(graph)
    if precision == "fp16":
        onnx_model = half_precision(onnx_model)
    limits, shipped = Limits(persons=max(persons)), Limits()
    # Up to the shipped limit, tune as for users; an engine tuned for 4 people says little about 64.
    typical = typical_batch(limits) if limits.persons <= shipped.persons else Limits(limits.persons, 1)
    engine, _ = build_engine(Builder(library, runner, find_gpu()), onnx_model, graph.stem, limits, typical)
    # Closed at the end: a small GPU cannot hold all engines at once.
    with closing(TensorRTBackend(engine, flavor=runner)) as opened:
        backend = Bucketed(opened, limits)
        cosine = reference.cosine(lambda feeds: next(iter(backend.run(feeds).values())))
        for count in persons:
            seconds = device.seconds(partial(backend.run, reference.feeds(count)))
            work = {"graph": reference.graph, "crops": reference.crops, "persons": count}
            row = {"runner": runner, "precision": precision, **work, "ms": round(1000 * seconds, 4)}
            yield {**row, "cosine_min": cosine}


def split_persons(persons: list[int]) -> list[list[int]]:
    """Split numbers of people into those that a shipped engine takes, and larger ones."""
    most = Limits().persons
    parts = [p for p in persons if p <= most], [p for p in persons if p > most]
    return [part for part in parts if part]
