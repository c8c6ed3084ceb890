"""One step of run_all.py, in a process of its own: a step that fails or hangs takes no other one with it.

    python benchmarks/gpu/steps.py parity --device cuda --into parity.json

What was measured is on disk after every row, so a step that is killed leaves what it has. Only
`TORCH_STEPS` import PyTorch.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from emotion_bench.machine import card
from emotion_bench.onnx_device import bound, device_copy_bytes, host_copy_bytes, matmul_flops, open_on
from emotion_bench.onnx_parity import PERSONS, parity_checks, parity_data, parity_rows
from emotion_bench.onnx_speed import in_precisions, time_graphs
from emotion_bench.pipeline_parity import check_of, compare_events, run
from emotion_bench.step_results import Recorder
from emotion_runtime.backends.buckets import Bucketed, limits_for
from emotion_runtime.backends.cuda import MOST_PERSONS, open_cuda
from emotion_runtime.backends.onnx import OnnxBackend, import_onnxruntime
from emotion_runtime.bundle import load_bundle
from emotion_runtime.names import GRAPHS, Precision
from emotion_runtime.parity import Comparison

TORCH_STEPS = ("torch-nano", "vit-onnx", "torch-vit", "tensorrt", "torch-compiled")


def main(argv: list[str] | None = None) -> int:
    """Run a step and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("step", choices=STEPS, help="what to measure")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="device to measure (default: cuda)")
    add("--persons", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32, 64], help="numbers of people")
    add("--videos", nargs="*", default=[], help="videos for the step `pipeline`, beside the demo")
    add("--frames", type=int, default=150, help="largest number of frames of a video")
    add("--quick", action="store_true", help="small limits of the machine, few sizes")
    add("--into", type=Path, required=True, help="file of the results")
    args = parser.parse_args(argv)
    recorder = Recorder(args.into)
    STEPS[args.step](args, recorder)
    recorder.save()
    return 0


def start(args: argparse.Namespace, recorder: Recorder) -> None:
    """Open the smallest graph on the device: without this, nothing else makes sense."""
    with recorder.attempt(args.device):
        graph = load_bundle("nano").graph_path("temporal_encoder")
        backend = open_cuda(graph) if args.device == "cuda" else OnnxBackend(graph)
        runtime = import_onnxruntime()
        recorder.result["machine"] = card() | {
            "device": args.device,
            "backend": backend.description,
            "cuda of onnxruntime": runtime.cuda_version if args.device == "cuda" else None,
        }


def ceilings(args: argparse.Namespace, recorder: Recorder) -> None:
    """Measure matrix products, and copies on the device and between it and the host."""
    side, count = (256, 1 << 20) if args.quick or args.device == "cpu" else (8192, 1 << 27)
    found = recorder.result["ceilings"]
    for precision in ("fp32", "fp16"):
        with recorder.attempt(f"matrix products in {precision}"):
            found[f"matmul {precision}, TFLOP/s"] = round(
                matmul_flops(args.device, precision, side) / 1e12, 3
            )
    with recorder.attempt("copies on the device"):
        found["copy on the device, GB/s"] = round(device_copy_bytes(args.device, count) / 1e9, 2)
    with recorder.attempt("copies to and from the host"):
        for name, rate in host_copy_bytes(args.device, min(count, 1 << 24)).items():
            found[f"copy {name}, GB/s"] = round(rate / 1e9, 2)


def parity(args: argparse.Namespace, recorder: Recorder) -> None:
    """Compare nano's graphs on the device with the CPU: every bucket, three runs, subjects in one crop."""
    bundle = load_bundle("nano")
    data = parity_data(bundle, PERSONS[:4] if args.quick else PERSONS)
    with tempfile.TemporaryDirectory() as folder:
        for graph in GRAPHS:
            files = in_precisions(bundle.graph_path(graph), Path(folder))
            for precision, capture in ((p, c) for p in files for c in (False, True)):
                if capture and args.device == "cpu":
                    continue
                graphs = "CUDA graphs on" if capture else "CUDA graphs off"
                what = f"parity of {graph} in {precision}, {graphs}"
                rows = parity_on(args.device, files[precision], data[graph], precision, capture=capture)
                recorder.measure(what, rows, "parity", graphs=graphs, precision=precision)
    recorder.result["checks"] = parity_checks(recorder.result["parity"])


def parity_on(
    device: str, path: Path, compared: Sequence[Comparison], precision: Precision, *, capture: bool
) -> Iterator[dict[str, Any]]:
    """Yield rows of a graph of nano on a device, in the batches that the runtime would run."""
    limits = limits_for(load_bundle("nano").manifest.preprocess.window, MOST_PERSONS)
    backend = Bucketed(bound(open_on(path, device, capture=capture), device, capture=capture), limits)
    yield from parity_rows(backend, compared, precision)


def speed(args: argparse.Namespace, recorder: Recorder) -> None:
    """Time nano's graphs in ONNX Runtime."""
    bundle = load_bundle("nano")
    manifest = bundle.manifest
    clip = manifest.clip_frames, manifest.embedding_dim
    paths = {graph: bundle.graph_path(graph) for graph in GRAPHS}
    time_graphs("nano", paths, manifest.preprocess, clip, args, recorder)


def pipeline(args: argparse.Namespace, recorder: Recorder) -> None:
    """Run the whole runtime on the demo and on videos, on the CPU and on the device."""
    frames = 12 if args.quick else args.frames
    for source in ("demo", *args.videos):
        with recorder.attempt(f"the runtime on {source}"):
            expected, row = run(source, "cpu", frames)
            recorder.add("pipeline", row)
            found, row = run(source, args.device, frames)
            recorder.add("pipeline", row)
            recorder.add("checks", check_of(source, args.device, compare_events(expected, found)))


def in_torch(name: str) -> Callable[[argparse.Namespace, Recorder], None]:
    """Return a step of `emotion_bench.torch_steps`, which imports PyTorch."""

    def step(args: argparse.Namespace, recorder: Recorder) -> None:
        from emotion_bench import torch_steps  # noqa: PLC0415 - PyTorch is optional

        getattr(torch_steps, name)(args, recorder)

    return step


STEPS: dict[str, Callable[[argparse.Namespace, Recorder], None]] = {
    "start": start,
    "ceilings": ceilings,
    "parity": parity,
    "speed": speed,
    "pipeline": pipeline,
    **{name: in_torch(name.replace("-", "_")) for name in TORCH_STEPS},
}


if __name__ == "__main__":
    sys.exit(main())
