"""Check and measure this model on a GPU, in under eight minutes, without a network; PyTorch is optional.

    bash benchmarks/gpu/run_all.sh                          # everything, on a machine with CUDA
    bash benchmarks/gpu/run_all.sh --check                  # two minutes: does nano give right results here?
    bash benchmarks/gpu/run_all.sh --device cpu --quick     # a trial of this program on any machine

Every step is a process of its own with a time limit. A step that fails is listed with its message, and the
next one begins. Written to --out after every step: gpu.json, gpu.md. Exit status: 0 every check has
passed; 1 a check or a step has failed; 2 there is no CUDA.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emotion_bench.gpu_report import add_fractions, summary, tables
from emotion_bench.machine import folder_name
from emotion_bench.report import write_json
from emotion_runtime.files import write_atomically

RESULTS = Path(__file__).resolve().parents[1] / "results"
STEPS_FILE = Path(__file__).resolve().with_name("steps.py")
# Seconds that a step may take: several times what it takes on a fast machine.
LIMITS = {
    "start": 60,
    "ceilings": 60,
    "parity": 100,
    "pipeline": 100,
    "speed": 150,
    "torch-nano": 100,
    "vit-onnx": 150,
    "torch-vit": 100,
    "tensorrt": 200,
    "torch-compiled": 180,
}
_PATIENCE_ON_CPU = 3  # fp16 in PyTorch takes ten times as long as fp32 there
TORCH_STEPS = ("torch-nano", "vit-onnx", "torch-vit", "tensorrt", "torch-compiled")
CHECK = ("start", "parity", "pipeline")
KEPT = ("rows", "parity", "pipeline", "checks", "skipped", "failed")


def main(argv: list[str] | None = None) -> int:
    """Run all steps and return the exit status."""
    args = parse_args(argv)
    started = time.monotonic()
    end = started + 60 * args.minutes
    result: dict[str, Any] = {"benchmark": "gpu", "machine": {}, "ceilings": {}} | {name: [] for name in KEPT}
    result["steps"] = {}
    out: Path | None = args.out
    for step in args.steps:
        print(f"{time.monotonic() - started:5.0f} s  {step}", file=sys.stderr, flush=True)
        merge(result, step, run_step(step, args, end - time.monotonic()))
        if step == "start":
            if result["failed"]:
                print(f"run_all: error: {result['failed'][0]['reason']}", file=sys.stderr)
                return 2
            out = out or RESULTS / folder_name(str(result["machine"]["gpu"] or result["machine"]["cpu"]))
        result["seconds"] = round(time.monotonic() - started, 1)
        write_results(out or RESULTS, result)
    print(tables(result))
    text, passed = summary(result)
    print(f"\n{text}")
    print(f"{out}: gpu.json, gpu.md; {result['seconds']} s", file=sys.stderr)
    return 0 if passed else 1


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; --quick and --check change the defaults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda", help="device to measure (default: cuda)")
    add("--check", action="store_true", help="parity and a run of nano alone, with a summary")
    add("--steps", nargs="+", choices=LIMITS, help="steps to run (default: all)")
    add("--persons", nargs="+", type=int, metavar="P", help="numbers of people (default: 1 to 64)")
    add("--videos", nargs="*", default=[], metavar="FILE", help="videos to run beside the demo")
    add("--minutes", type=float, default=7.5, help="time for all steps (default: %(default)s)")
    add("--out", type=Path, help="folder of the results (default: results/ and the name of the device)")
    add("--quick", action="store_true", help="a quick trial: P = 1 and 2, nano without torch.compile")
    args = parser.parse_args(argv)
    args.persons = args.persons or ([1, 2] if args.quick else [1, 2, 4, 8, 16, 32, 64])
    quick = ("start", "ceilings", "parity", "pipeline", "speed", "torch-nano")
    args.steps = args.steps or (CHECK if args.check else quick if args.quick else list(LIMITS))
    args.steps = ["start", *(step for step in args.steps if step != "start")]
    return args


def run_step(step: str, args: argparse.Namespace, left: float) -> dict[str, Any]:
    """Run a step in a process of its own, in the seconds left; return what it measured, however it ended."""
    if step in TORCH_STEPS and find_spec("torch") is None:
        return {"skipped": [{"what": step, "reason": "PyTorch is not installed"}]}
    limit = min(LIMITS[step] * (_PATIENCE_ON_CPU if args.device == "cpu" else 1), left)
    if limit < 1:
        return {"skipped": [{"what": step, "reason": "no time left"}]}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder, "step.json"), Path(folder, "log")
        command = [sys.executable, str(STEPS_FILE), step, "--device", args.device, "--into", str(path)]
        command += ["--persons", *map(str, args.persons), "--videos", *args.videos]
        command += ["--quick"] if args.quick else []
        with log.open("wb") as output:
            # A session of its own: a compiler that the step has started must end with it.
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
            status: int | None = None
            try:
                with suppress(subprocess.TimeoutExpired):
                    status = process.wait(limit)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
        text = log.read_text(encoding="utf-8", errors="replace")
    if status != 0:
        lines = text.strip().splitlines() or ["no output"]
        reason = f"stopped after {limit:.0f} s" if status is None else f"ended with status {status}"
        found.setdefault("failed", []).append({"what": step, "reason": f"{reason}: {lines[-1][:400]}"})
        print(text[-3000:], file=sys.stderr)
    found["seconds"] = round(time.monotonic() - begun, 1)
    return found


def merge(result: dict[str, Any], step: str, found: dict[str, Any]) -> None:
    """Add what a step has measured to the result."""
    for name in KEPT:
        result[name] += found.get(name, [])
    result["machine"] |= found.get("machine", {})
    result["ceilings"] |= found.get("ceilings", {})
    result["steps"][step] = found.get("seconds", 0)
    for kind in ("skipped", "failed"):
        for each in found.get(kind, []):
            print(f"         {kind}: {each['what']}: {each['reason']}", file=sys.stderr, flush=True)


def write_results(out: Path, result: dict[str, Any]) -> None:
    """Write the results so far: a program that is killed leaves what it has."""
    add_fractions(result)
    write_json(out / "gpu.json", result)
    write_atomically(out / "gpu.md", f"{tables(result)}\n\n{summary(result)[0]}\n")


if __name__ == "__main__":
    sys.exit(main())
