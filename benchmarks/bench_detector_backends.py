"""Measure what runs the face detector best on this CPU, and whether it finds the same boxes.

    python benchmarks/bench_detector_backends.py --videos VIDEO ...    # two minutes on a quiet machine

All candidates get the same frames, with normalisation in the graph, and are timed in turn within each round,
each with one thread, by the processor time that they take: a busy machine has little influence on it. int8 is
static quantisation of every convolution but the first, calibrated on every fourth frame; boxes are compared
on the other frames. `A/A` is the first candidate loaded twice: what differs there is noise.
Written to --out: backends.json, backends.md.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from emotion_bench.machine import cpu_name, folder_name, usable_cores
from emotion_bench.report import report, results_parser
from emotion_bench.rounds import interleave, ratios, spread
from emotion_export.graph_index import GraphIndex
from emotion_export.quantize import calibrate, int8_nodes, quantise
from emotion_runtime.backends.onnx import open_session
from emotion_runtime.backends.openvino import _core
from emotion_runtime.detectors.agreement import compare_detections
from emotion_runtime.detectors.centerface import SCORE, CenterFace
from emotion_runtime.detectors.graph import INPUT, Size
from emotion_runtime.sources import open_source
from emotion_runtime.types import Detections
from emotion_train.tables import markdown_table

EVERY = 5  # frames: so many apart, images are different
FRAMES = 12  # of each source
ROUNDS = 15
THREADS = 1

Image = NDArray[np.uint8]
Run = Callable[[NDArray[np.uint8]], Sequence[NDArray[np.float32]]]
OpenRun = Callable[[Size], Run]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    machine = folder_name(cpu_name(), usable_cores())
    parser = results_parser(__doc__, f"detector/{machine}")
    parser.add_argument("--videos", nargs="*", default=[], help="videos of which boxes are compared, too")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of timing (default: %(default)s)")
    parser.add_argument(
        "--frames", type=int, default=FRAMES, help="frames of each source (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    return report("bench_detector_backends", args.out / "backends.json", partial(measure, args), page)


def frames_of(source: str, count: int) -> list[Image]:
    """Return frames of a source, some time apart."""
    with open_source(source) as frames:
        return [frame.image for frame in islice(frames, 0, count * EVERY, EVERY)]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return speed and boxes of every candidate."""
    clips = {source: frames_of(source, args.frames) for source in ("demo", *args.videos)}
    face = CenterFace(threads=THREADS)
    images = [image for clip in clips.values() for image in clip]
    calibration = [face.prepare(image)[0] for image in images[::4]]
    others = [image for index, image in enumerate(images) if index % 4]
    opened = candidates(face, quantise_network(face.graph.content, calibration))
    found = {name: detections_of(face, candidate, others) for name, candidate in opened.items()}
    first = next(iter(opened))
    agreements = {name: compare_detections(found[first], each, score=SCORE) for name, each in found.items()}
    speeds: dict[str, dict[str, Any]] = {name: {} for name in opened}
    for source, clip in clips.items():
        pixels, placement = face.prepare(clip[0])
        contenders = {
            name: partial(candidate(placement.size), pixels[None]) for name, candidate in opened.items()
        }
        seconds = interleave(contenders, rounds=args.rounds, clock=time.process_time)
        for name, speed in speeds.items():
            speed[source] = {
                "size": list(placement.size),
                "ms": spread([1000 * each for each in seconds[name]], 2),
                "times as fast": spread(ratios(seconds[first], seconds[name]), 3),
            }
    return {
        "threads": THREADS,
        "images": len(others),
        "rows": [{"name": name, **asdict(agreements[name]), "speed": speeds[name]} for name in opened],
    }


def detections_of(face: CenterFace, candidate: OpenRun, images: Sequence[Image]) -> list[Detections]:
    """Return what a candidate finds in each image."""
    runs: dict[Size, Run] = {}
    found = []
    for image in images:
        pixels, placement = face.prepare(image)
        if placement.size not in runs:
            runs[placement.size] = candidate(placement.size)
        outputs = [output[0] for output in runs[placement.size](pixels[None])]
        found.append(face.decode(outputs, placement, image.shape[:2]))
    return found


def candidates(face: CenterFace, quantised: bytes) -> dict[str, OpenRun]:
    """Return a function for each candidate that opens it for a size of frames."""
    content = face.graph.content

    def in_onnx_runtime(model: bytes, _size: Size) -> Run:
        session = open_session(model, name="face", fix="", threads=THREADS)
        return lambda frames: session.run(None, {INPUT: frames})

    def in_openvino(model: bytes, precision: str, size: Size) -> Run:
        core = _core(os.getpid())
        read = core.read_model(model)
        read.reshape([1, *size, 3])
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": THREADS,
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,
        }
        compiled = core.compile_model(read, "CPU", settings)
        request = compiled.create_infer_request()

        def run(frames: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
            results = request.infer({INPUT: frames}, share_inputs=True)
            return [np.array(results[output]) for output in compiled.outputs]

        return run

    return {
        "ONNX Runtime fp32": partial(in_onnx_runtime, content),
        "ONNX Runtime fp32, A/A": partial(in_onnx_runtime, content),
        "ONNX Runtime int8": partial(in_onnx_runtime, quantised),
        "OpenVINO fp32": partial(in_openvino, content, "f32"),
        "OpenVINO bf16": partial(in_openvino, content, "bf16"),
        "OpenVINO int8": partial(in_openvino, quantised, "f32"),
        "OpenVINO int8 and bf16": partial(in_openvino, quantised, "bf16"),
    }


def quantise_network(content: bytes, frames: list[NDArray[np.uint8]]) -> bytes:
    """Return the network with its convolutions in int8, calibrated on frames (height, width, 3)."""
    model = onnx.version_converter.convert_version(onnx.load_from_string(content), 13)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{index}"
    read = {name for node in model.graph.node for name in node.input}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)  # ONNX Runtime warns about each one that nothing reads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "face.onnx"
        onnx.save(model, path)
        ranges = calibrate(path, [{INPUT: frame[None]} for frame in frames])
    nodes = int8_nodes(GraphIndex(model), ["Conv"])
    quantised: bytes = quantise(model, ranges, nodes).SerializeToString()
    return quantised


def page(result: dict[str, Any]) -> str:
    """Return the tables of the results as Markdown."""
    first = result["rows"][0]
    sources = list(first["speed"])
    rows = []
    for row in result["rows"]:
        speeds = [
            f"{row['speed'][s]['ms']['median']:.1f} ms, {row['speed'][s]['times as fast']['median']:.2f}"
            for s in sources
        ]
        rows.append(
            [
                row["name"],
                *speeds,
                f"{row['missing']} / {row['extra']} of {row['boxes']}",
                f"{row['iou_min']:.3f} / {row['iou_mean']:.4f}",
                f"{row['score_max']:.4f}",
            ]
        )
    sizes = ["{1} x {0}".format(*first["speed"][s]["size"]) for s in sources]
    header = ["", *sizes, "boxes missing / more", "IoU lowest / mean", "score, largest difference"]
    return (
        f"The network of `--detector face` on {result['machine']['cpu']}, one thread: "
        "milliseconds of processor time of one frame, and how many times as fast as ONNX Runtime in the same "
        "round (medians). "
        f"Boxes in {result['images']} frames are compared with those of ONNX Runtime.\n\n"
        + markdown_table(header, rows)
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
