"""The steps of the GPU benchmark that need PyTorch."""

import argparse
import copy
import tempfile
from itertools import product
from pathlib import Path

import torch

from emotion_bench.device import PRECISIONS, Device, copy_bytes, matmul_flops
from emotion_bench.engine_runs import WAYS, engine_rows, export, split_persons
from emotion_bench.feeds import OWN, SHARED
from emotion_bench.models import formula_model
from emotion_bench.onnx_speed import time_graphs
from emotion_bench.step_results import Recorder
from emotion_bench.torch_runs import references, torch_rows
from emotion_runtime.tensorrt.gpu import is_installed


def torch_nano(args: argparse.Namespace, recorder: Recorder) -> None:
    """Time nano in PyTorch, eager and as CUDA graphs."""
    _time("nano", args, recorder, compiled=False)


def torch_vit(args: argparse.Namespace, recorder: Recorder) -> None:
    """Time ViT-B/32 in PyTorch, eager and as CUDA graphs."""
    _time("vit-b-32", args, recorder, compiled=False)


def torch_compiled(args: argparse.Namespace, recorder: Recorder) -> None:
    """Time both models in PyTorch, compiled and as CUDA graphs, for few sizes: each compiles anew."""
    chosen = [count for count in args.persons if count in (1, 8, 64)] or args.persons[:1]
    args = argparse.Namespace(**{**vars(args), "persons": chosen})
    for preset in ("nano", "vit-b-32"):
        _time(preset, args, recorder, compiled=True)


def vit_onnx(args: argparse.Namespace, recorder: Recorder) -> None:
    """Export ViT-B/32 with formula weights, and time it in ONNX Runtime."""
    model = formula_model("vit-b-32")
    with tempfile.TemporaryDirectory() as folder:
        paths = export(model, Path(folder))
        clip = model.config.clip_frames, model.config.embed_dim
        time_graphs("vit-b-32", paths, model.config.preprocess, clip, args, recorder)


def tensorrt(args: argparse.Namespace, recorder: Recorder) -> None:
    """Build engines of both models in each TensorRT that is installed, and time them."""
    if not (is_installed("tensorrt") or is_installed("tensorrt-rtx")):
        recorder.add("skipped", {"what": "tensorrt", "reason": "TensorRT is not installed"})
        return
    device = Device(args.device)
    for preset in ("nano", "vit-b-32"):
        model = formula_model(preset)
        held = references(model).values()
        with tempfile.TemporaryDirectory() as folder:
            paths = export(model, Path(folder))
            for way, reference, part in product(WAYS, held, split_persons(args.persons)):
                rows = engine_rows(reference, paths[reference.graph], part, device, way)
                what = f"{preset} {reference.graph}, {' '.join(way)}, P = {', '.join(map(str, part))}"
                recorder.measure(what, rows, model=preset)


def _time(preset: str, args: argparse.Namespace, recorder: Recorder, *, compiled: bool) -> None:
    """Time one model in PyTorch, in every precision; without `compiled`, measure the limits as well."""
    device = Device(args.device)
    if not compiled:
        side, size = (256, 1 << 24) if args.quick or args.device == "cpu" else (8192, 1 << 29)
        found = recorder.result["ceilings"]
        for precision in PRECISIONS:
            rate = matmul_flops(device, precision, side)
            found[f"matmul {precision} in PyTorch, TFLOP/s"] = round(rate / 1e12, 3)
        found["copy on the device in PyTorch, GB/s"] = round(copy_bytes(device, size) / 1e9, 2)
    recorder.result["machine"] = {"torch": torch.__version__, "cuda of torch": torch.version.cuda}
    model = formula_model(preset)
    held = references(model, crops=(OWN, SHARED) if preset == "nano" else (SHARED,))
    if compiled:  # takes seconds for each size: only the larger graph, as the runtime uses it
        held = dict(list(held.items())[:1])
    precisions = ("fp32", "fp16") if compiled else tuple(PRECISIONS)
    for precision in precisions:
        for (graph, crops), reference in held.items():
            rows = torch_rows(
                copy.deepcopy(model), reference, args.persons, device, precision, compiled=compiled
            )
            what = f"{preset} {graph} {crops}, PyTorch {precision}{', compiled' if compiled else ''}"
            recorder.measure(what, rows, model=preset)
