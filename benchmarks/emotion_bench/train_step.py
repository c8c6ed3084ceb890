"""Measure where the time and the memory of a training step go.

The trainer's own loop runs with the stage of `[clips]`. Its objective and its optimizer step have a stopwatch
around their parts and are otherwise those of every run.
"""

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from emotion_bench.device import Device, matmul_flops
from emotion_train.batch import ClipTextBatch
from emotion_train.clips.reader import ShardSet
from emotion_train.model import EmotionCLIP, ModelConfig
from emotion_train.training.loop import Objective, Progress, Runner
from emotion_train.training.objective import Execution
from emotion_train.training.outputs import Outputs
from emotion_train.training.parallel import World
from emotion_train.training.precision import Precision, PrecisionName
from emotion_train.training.stage_config import Clips
from emotion_train.training.stages import clip_stage

PARTS = ("data", "forward", "loss", "backward", "optimizer", "other")
WARM_UP = 2  # steps before those that are measured


@dataclass(frozen=True, slots=True)
class StepTimer:
    """Adds up the seconds of the named parts of each step."""

    device: Device
    steps: list[dict[str, float]] = field(default_factory=lambda: [{}])

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the block's time to a part of the step. The optimizer's part ends the step."""
        self.device.synchronize()
        start = time.perf_counter()
        yield
        self.device.synchronize()
        self.steps[-1][name] = self.steps[-1].get(name, 0.0) + time.perf_counter() - start
        if name == "optimizer":
            self.steps.append({})


class TimedPrecision(Precision):
    """Times gradient clipping and the optimizer step."""

    def __init__(self, name: PrecisionName, watch: StepTimer) -> None:
        super().__init__(name, watch.device.torch)
        self._watch = watch

    def step(self, optimizer: torch.optim.Optimizer, clip_norm: float) -> float:
        """As in `Precision`."""
        with self._watch.part("optimizer"):
            return super().step(optimizer, clip_norm)


def measure(
    config: ModelConfig, shards: str, *, batch: int, steps: int, workers: int, precision: PrecisionName
) -> dict[str, Any]:
    """Measure some steps of training with `batch` clips each, loaded by so many worker processes.

    Call it in a new process, since peak memory is a high-water mark.
    """
    device = Device("cuda" if torch.cuda.is_available() else "cpu")
    world = World(device=device.torch)
    torch.manual_seed(0)
    model, everything = EmotionCLIP(config).to(world.device), WARM_UP + steps
    clips = Clips(epochs=everything, batch=batch, warmup=0)
    stage = clip_stage(model, ShardSet.open(shards), clips, seed=0, execution=Execution(world))
    side = 7680 if device.captures else 1536  # small matrices do not fill a GPU
    peak = matmul_flops(device, precision, side)
    watch, first = StepTimer(device), stage.batches[0]
    objective: Any = stage.objective  # a `ContrastiveObjective`, which has spans
    timed = replace(stage, objective=replace(objective, span=watch.part))
    with TemporaryDirectory() as folder:
        outputs = Outputs(Path(folder) / "log.jsonl", save=lambda: None, save_every=float("inf"))
        runner = Runner(
            seed=0, precision=TimedPrecision(precision, watch), world=world, workers=workers, outputs=outputs
        )
        runner.run(timed, Progress(stage.name, budget=everything))
        lines = (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines[WARM_UP:]]
    memory = peak_memory(world.device)  # before operations are counted, which uses another kind of attention
    peak = max(peak, matmul_flops(device, precision, side))
    flops = step_flops(stage.objective, first, Precision(precision, world.device)) / batch
    parts = split(entries, watch.steps[WARM_UP:everything], batch)
    rate = 1000 * batch / parts["whole"]
    return {
        "batch": batch,
        "frames": config.clip_frames,
        "clips_per_s": rate,
        "ms_per_step": parts,
        "gflop_per_clip": flops / 1e9,
        "matmul_gflop_per_s": peak / 1e9,
        "model_flops_share": flops * rate / peak,
        "peak_memory_mib": memory / 2**20,
        "threads": torch.get_num_threads(),
        "bytes_per_clip_from_worker": wire_bytes(first),
    }


def split(entries: list[dict[str, Any]], parts: list[dict[str, float]], clips: int) -> dict[str, float]:
    """Return mean milliseconds per step of every part; they sum to "whole", "other" was not timed."""
    rows = []
    for entry, part in zip(entries, parts, strict=True):
        whole = clips / entry["rows_per_s"]
        row = {"data": entry["waited"] * whole, **part}
        rows.append(row | {"other": whole - sum(row.values()), "whole": whole})
    return {name: 1000 * statistics.mean(row[name] for row in rows) for name in (*PARTS, "whole")}


def step_flops(objective: Objective, batch: ClipTextBatch, precision: Precision) -> int:
    """Count the operations of matrix products and convolutions in one step, forward and backward."""
    # The counter sees the matrix products of attention only in this implementation.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective(batch, precision, 0)
    return int(counter.get_total_flops())


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: of torch on a GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    lines = Path("/proc/self/status").read_text().splitlines()  # getrusage starts from the parent's peak
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def wire_bytes(batch: ClipTextBatch) -> float:
    """Return the bytes per clip that a worker sends to the process that trains."""
    tensors = (batch.images, batch.clip_index, batch.patch_weights, batch.text, batch.sentiment)
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors) / len(batch)
