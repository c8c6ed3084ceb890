"""Speed of graphs on a device, without PyTorch: with and without the copies from and to the host."""

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from emotion_bench.feeds import OWN, SHARED, feeds_of
from emotion_bench.onnx_device import DeviceCall, bound, open_on
from emotion_bench.rounds import median_seconds
from emotion_bench.step_results import Recorder
from emotion_bench.work import work_of
from emotion_export.fp16 import half_precision
from emotion_runtime.backends.base import Feeds
from emotion_runtime.backends.buckets import Bucketed, limits_for
from emotion_runtime.backends.cuda import MOST_PERSONS
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.names import GraphName
from emotion_runtime.vectors import cosine_similarity

_COMPARED = 8  # largest number of people whose outputs are compared with those of the CPU


class Input(NamedTuple):
    """What is measured: a graph's inputs for a number of people, and the operations that they take."""

    crops: str
    persons: int
    feeds: Feeds
    flops: int

    def about(self) -> dict[str, Any]:
        """Return what a row says of it."""
        return {"crops": self.crops, "persons": self.persons, "flops": self.flops}


def speed_rows(
    graph: GraphName,
    path: Path,
    device: str,
    precision: str,
    inputs: Sequence[Input],
    fp32: Path,
) -> Iterator[dict[str, Any]]:
    """Yield rows of one graph on one device: plain, captured, and as the runtime runs it.

    Args:
        graph: Name of the graph.
        path: Its ONNX file.
        device: "cuda" or "cpu".
        precision: Precision of the file.
        inputs: What is measured.
        fp32: The file in fp32, which runs on the CPU for comparison.
    """
    about: dict[str, Any] = {"graph": graph, "precision": precision}
    small = [each.feeds for each in inputs if each.persons <= _COMPARED]
    # The runtime pads batches of models that have a crop for each person in another way.
    limits = limits_for("subject" if any(each.crops == OWN for each in inputs) else "center", MOST_PERSONS)
    reference = OnnxBackend(fp32)
    expected = [next(iter(reference.run(feeds).values())) for feeds in small]
    for capture in (False, True) if device == "cuda" else (False,):
        session = open_on(path, device, capture=capture)
        backend = bound(session, device, capture=capture)
        runtime = Bucketed(backend, limits)
        found = [next(iter(backend.run(feeds).values())) for feeds in small]
        cosines = [float(cosine_similarity(a, b).min()) for a, b in zip(expected, found, strict=True)]
        about["cosine_min"] = round(min(cosines, default=1.0), 7)
        name = f"ONNX Runtime, {device}{', CUDA graph' if capture else ''}"
        for number, each in enumerate(inputs):
            feeds, graph_id = each.feeds, 1000 + number if capture else None  # the backend counts from 1
            call = DeviceCall(session, feeds, device=device, graph_id=graph_id)
            row = about | each.about()
            yield row | {
                "runner": name,
                "ms": _ms(partial(backend.run, feeds)),
                "ms_on_device": _ms(call),
            }
            if capture or device == "cpu":
                yield row | {"runner": f"{name}, as in the runtime", "ms": _ms(partial(runtime.run, feeds))}


def cpu_rows(graph: GraphName, path: Path, inputs: Sequence[Input]) -> Iterator[dict[str, Any]]:
    """Yield rows of the fp32 graph on the CPU, which every device has to beat."""
    backend = OnnxBackend(path)
    for each in inputs:
        ms = _ms(partial(backend.run, each.feeds))
        about = {"graph": graph, "precision": "fp32", "runner": "ONNX Runtime, CPU provider"}
        yield {**about, **each.about(), "ms": ms}


def time_graphs(
    model: str,
    paths: dict[Any, Path],
    spec: Any,
    clip: tuple[int, int],
    args: argparse.Namespace,
    recorder: Recorder,
) -> None:
    """Time both graphs of a model on the CPU and the device, in both precisions."""
    by_graph: dict[Any, list[Input]] = {graph: [] for graph in paths}
    kinds = [("frame_encoder", SHARED), ("frame_encoder", OWN), ("temporal_encoder", "")]
    for graph, crops in kinds:
        if crops != OWN or spec.window == "subject":
            make = partial(feeds_of, graph, crops, spec, clip)
            # Every further person costs what the second one does: counting 64 would take long.
            one, two = (work_of(paths[graph], make(count)).flops for count in (1, 2))
            by_graph[graph] += [Input(crops, n, make(n), one + (n - 1) * (two - one)) for n in args.persons]
    with tempfile.TemporaryDirectory() as folder:
        for graph, inputs in by_graph.items():
            weights = onnx.load(paths[graph]).graph.initializer
            about = {"model": model, "parameters": sum(math.prod(each.dims) for each in weights)}
            for precision, path in in_precisions(paths[graph], Path(folder)).items():
                rows = speed_rows(graph, path, args.device, precision, inputs, paths[graph])
                what = f"{model} {graph} in {precision}, ONNX Runtime on {args.device}"
                recorder.measure(what, rows, **about)
                print(f"{model} {graph} {precision}: done", flush=True)
            small = [each for each in inputs if each.persons <= (64 if model == "nano" else 8)]
            recorder.measure(f"{model} {graph} on the CPU", cpu_rows(graph, paths[graph], small), **about)


def in_precisions(path: Path, folder: Path) -> dict[str, Path]:
    """Return the file of a graph in fp32, and in fp16 as this project converts it."""
    half = folder / f"{path.stem}.fp16.onnx"
    onnx.save(half_precision(onnx.load(path)), half)
    return {"fp32": path, "fp16": half}


def _ms(call: Any) -> float:
    return round(1000 * median_seconds(call), 4)
