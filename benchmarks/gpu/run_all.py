"""Measure everything about a GPU that matters to this model, in under eight minutes and without a network.

    bash benchmarks/gpu/run_all.sh                          # on a machine with CUDA
    bash benchmarks/gpu/run_all.sh --device cpu --quick     # a quick trial of one minute

Measured are the machine's limits (matrix products, copies); both encoders of both models under PyTorch in
fp32, fp16 and bf16, eager and as CUDA graphs, for 1 to 64 people in one image; and the exported graphs in
ONNX Runtime and in every flavour of TensorRT that can be imported. Each row states its smallest cosine to
float32 on the CPU, and its fractions of the measured matrix product and memory bandwidth. What is not
available, or no longer fits into the time, is listed under "skipped". Weights are formulas. Written to
--out: gpu.json, gpu.md, gpu.png.

UNVERIFIED on a GPU until benchmarks/results has one: the CPU runs everything but CUDA graphs and TensorRT.
"""

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from emotion_bench.device import PRECISIONS, Device, copy_bytes, matmul_flops
from emotion_bench.engine_runs import engine_rows, export, openers, split_persons
from emotion_bench.machine import card, folder_name
from emotion_bench.models import formula_model
from emotion_bench.report import plot_lines, write_json
from emotion_bench.torch_runs import Ceilings, references, torch_rows
from emotion_runtime.backends import Backend
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_train.tables import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "results"


class Run:
    """The results so far, and the time that is left."""

    def __init__(self, result: dict[str, Any], path: Path, minutes: float) -> None:
        self.result = result
        self._path = path
        self._end = time.monotonic() + 60 * minutes

    def late(self, what: str) -> bool:
        """Return whether the time is used up; then `what` is noted as skipped."""
        if time.monotonic() < self._end:
            return False
        self.skip(what, "no time left")
        return True

    def skip(self, what: str, reason: str) -> None:
        """Note what was left out."""
        self.result["skipped"].append({"what": what, "reason": reason})
        print(f"skipped: {what}: {reason}", file=sys.stderr)

    def measure(self, model: str, what: str, rows: Iterator[dict[str, Any]]) -> None:
        """Keep rows as they are measured; note as skipped what is not available or fails on the device."""
        if self.late(what):
            return
        try:
            for row in rows:
                self.add(model, row)
        except (EmotionError, RuntimeError) as error:  # out of memory, a missing kernel
            self.skip(what, " ".join(str(error).split())[:300])

    def add(self, model: str, row: dict[str, Any]) -> None:
        """Keep a row, on disk as well: a run that is killed leaves what it measured."""
        self.result["rows"].append({"model": model, **row})
        write_json(self._path, self.result)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    args = parse_args(argv)
    started = time.monotonic()
    if args.device == "cuda" and not torch.cuda.is_available():
        print(
            "run_all: error: PyTorch finds no CUDA device: check nvidia-smi, and that torch is a build with "
            "CUDA, or try --device cpu --quick",
            file=sys.stderr,
        )
        return 2
    machine = card()
    name = torch.cuda.get_device_name() if args.device == "cuda" else str(machine["cpu"])
    out = args.out or RESULTS / folder_name(name)
    device = Device(args.device)
    ceilings = measure_ceilings(device, quick=args.quick)
    result: dict[str, Any] = {
        "benchmark": "gpu",
        "machine": machine | {"cuda": torch.version.cuda, "device": args.device},
        "ceilings": {
            "matmul_tflops": {key: round(value / 1e12, 3) for key, value in ceilings.flops.items()},
            "copy_gb_per_s": round(ceilings.bytes / 1e9, 2),
        },
        "rows": [],
        "skipped": [],
    }
    run = Run(result, out / "gpu.json", args.minutes)
    try:
        for preset in args.models:
            measure_model(preset, args.persons, device, ceilings, run)
    except KeyboardInterrupt:  # run_all.sh sends one before eight minutes are over
        run.skip("the rest", "stopped")
    result["seconds"] = round(time.monotonic() - started, 1)
    write_json(out / "gpu.json", result)
    write_atomically(out / "gpu.md", table(result) + "\n")
    plot_lines(out / "gpu.png", panels(result), "ms per call")
    print(table(result))
    print(f"{out}: gpu.json, gpu.md, gpu.png; {result['seconds']} s", file=sys.stderr)
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; --quick changes the defaults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda", help="device to measure (default: cuda)")
    add("--models", nargs="+", choices=("nano", "vit-b-32"), help="presets to measure (default: both)")
    add("--persons", nargs="+", type=int, metavar="P", help="numbers of people (default: 1 to 64)")
    add("--minutes", type=float, default=7.0, help="start nothing new after this time (default: %(default)s)")
    add("--out", type=Path, help="folder of the results (default: results/ and the name of the device)")
    add("--quick", action="store_true", help="a quick trial: nano alone, P = 1 and 2")
    args = parser.parse_args(argv)
    args.models = args.models or (["nano"] if args.quick else ["vit-b-32", "nano"])
    args.persons = args.persons or ([1, 2] if args.quick else [1, 2, 4, 8, 16, 32, 64])
    return args


def measure_ceilings(device: Device, *, quick: bool) -> Ceilings:
    """Measure matrix products, by precision, and copies of the device."""
    side, size = (256, 1 << 24) if quick else (8192, 1 << 29)
    flops = {precision: matmul_flops(device, precision, side) for precision in PRECISIONS}
    return Ceilings(flops, copy_bytes(device, size))


def measure_model(preset: str, persons: list[int], device: Device, ceilings: Ceilings, run: Run) -> None:
    """Measure all rows of one model."""
    if run.late(preset):
        return
    model = formula_model(preset)
    held = references(model, persons)
    for precision, reference in product(PRECISIONS, held.values()):
        rows = torch_rows(copy.deepcopy(model), reference, device, ceilings, precision)
        run.measure(preset, f"{preset} {reference.graph}, torch {precision}", rows)
    with tempfile.TemporaryDirectory() as folder:
        files = export(model, Path(folder))
        ways = openers(device.torch.type).items()
        for (way, opener), whole, part in product(ways, held.values(), split_persons(persons)):
            reference = replace(whole, flops={count: whole.flops[count] for count in part})
            rows = opened(
                partial(opener, files[reference.graph], max(part)),
                partial(engine_rows, model, reference, device, ceilings, way),
            )
            what = f"{preset} {reference.graph}, {' '.join(way)}, P = {', '.join(map(str, part))}"
            run.measure(preset, what, rows)


def opened(
    opener: Callable[[], AbstractContextManager[Backend]],
    rows: Callable[[Backend], Iterator[dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a backend that is opened when the first row is requested."""
    with opener() as backend:
        yield from rows(backend)


def table(result: dict[str, Any]) -> str:
    """Return the table: milliseconds by number of people, a row per model, graph, runner and precision."""
    persons = sorted({row["persons"] for row in result["rows"]})
    groups: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
    for row in result["rows"]:
        key = tuple(row[name] for name in ("model", "graph", "runner", "precision"))
        groups.setdefault(key, {})[row["persons"]] = row
    lines = []
    for key, rows in groups.items():
        last = rows[max(rows)]
        cells = [f"{rows[count]['ms']:.3f}" if count in rows else "" for count in persons]
        fractions = [
            f"{100 * last['share_of_matmul']:.0f} %",
            f"{100 * rows[min(rows)]['share_of_bandwidth']:.0f} %",
        ]
        lines.append([*key, *cells, *fractions, f"{last['cosine_min']:.6f}"])
    header = ["model", "graph", "runner", "precision", *(f"P = {count}, ms" for count in persons)]
    header += ["of matmul, most P", "of bandwidth, least P", "smallest cosine"]
    ceilings = result["ceilings"]
    peaks = ", ".join(f"{name} {value}" for name, value in ceilings["matmul_tflops"].items())
    note = f"Measured: matrix products of {peaks} TFLOP/s; copies of {ceilings['copy_gb_per_s']} GB/s."
    skipped = [f"Skipped: {each['what']} ({each['reason']})." for each in result["skipped"]]
    return "\n\n".join([markdown_table(header, lines), note, *skipped])


def panels(result: dict[str, Any]) -> dict[str, dict[str, dict[int, float]]]:
    """Return milliseconds by number of people, by runner and precision, by model and graph."""
    lines: dict[str, dict[str, dict[int, float]]] = {}
    for row in result["rows"]:
        panel = lines.setdefault(f"{row['model']} {row['graph']}", {})
        panel.setdefault(f"{row['runner']}, {row['precision']}", {})[row["persons"]] = row["ms"]
    return lines


if __name__ == "__main__":
    sys.exit(main())
