"""Exported graphs in TensorRT: speed with the copies to and from the host, and parity."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from emotion_bench.device import Device
from emotion_bench.feeds import Feeds
from emotion_bench.torch_runs import Reference
from emotion_export.fp16 import half_precision
from emotion_export.graphs import graph_sources
from emotion_export.onnx import write_graph
from emotion_export.tensorrt import Builder, build_engine, typical_batch
from emotion_runtime.backends.base import Backend
from emotion_runtime.backends.buckets import Bucketed, Limits
from emotion_runtime.tensorrt.engine import TensorRTBackend
from emotion_runtime.tensorrt.gpu import Flavor, find_gpu, load_tensorrt
from emotion_train.model import EmotionCLIP

# Opens a backend for the time of a `with` block, from an ONNX file and the largest number of people of a
# call.
Opener = Callable[[Path, int], AbstractContextManager[Backend]]


def openers(device: str) -> dict[tuple[str, str], Opener]:
    """Return ways to run a graph, by (runner, precision); opening a missing one is an `EmotionError`."""
    if device == "cpu":
        return {}
    ways: dict[tuple[str, str], Opener] = {}
    flavors: tuple[Flavor, ...] = get_args(Flavor)
    for flavor, precision in product(flavors, ("fp16", "fp32")):
        ways[flavor, precision] = _engine(flavor, precision)
    return ways


def export(model: EmotionCLIP, folder: Path) -> dict[str, Path]:
    """Write the ONNX file of each graph; return the paths by graph."""
    files: dict[str, Path] = {}
    for source in graph_sources(model):
        files[source.name] = folder / f"{source.name}.onnx"
        write_graph(source, files[source.name])
    return files


def engine_rows(
    model: EmotionCLIP,
    reference: Reference,
    persons: Sequence[int],
    device: Device,
    way: tuple[str, str],
    backend: Backend,
) -> Iterator[dict[str, Any]]:
    """Yield rows of one graph on one opened backend, for some numbers of people."""
    runner, precision = way

    def run(feeds: Feeds) -> NDArray[np.float32]:
        return np.asarray(next(iter(backend.run(feeds).values())))

    cosine = reference.cosine(run, model)
    for count in persons:
        seconds = device.seconds(partial(backend.run, reference.feeds(model, count)))
        yield {
            "runner": runner,
            "precision": precision,
            **reference.about(count),
            "ms": round(1000 * seconds, 4),
            "cosine_min": cosine,
        }


def split_persons(persons: list[int]) -> list[list[int]]:
    """Split numbers of people into those that a shipped engine takes, and larger ones."""
    most = Limits().persons
    parts = [p for p in persons if p <= most], [p for p in persons if p > most]
    return [part for part in parts if part]


def _engine(flavor: Flavor, precision: str) -> Opener:
    @contextmanager
    def open_engine(graph: Path, persons: int) -> Iterator[Backend]:
        library = load_tensorrt(flavor)
        model = onnx.load(graph)
        if precision == "fp16":
            model = half_precision(model)
        limits, shipped = Limits(persons=persons), Limits()
        # Up to the shipped limit, tune as for users; an engine tuned for 4 people says little about 64.
        typical = typical_batch(limits) if persons <= shipped.persons else Limits(persons, 1)
        built = build_engine(Builder(library, flavor, find_gpu()), model, graph.stem, limits, typical)
        backend = TensorRTBackend(built.engine, flavor=flavor)
        try:
            yield Bucketed(backend, limits)
        finally:
            backend.close()  # a small GPU cannot hold all engines at once

    return open_engine
