"""Measure where the time and the memory of a training step go.

The trainer's own loop runs with the stage of `[clips]`. Its objective and its optimizer step have a stopwatch
around their parts and are otherwise those of every run.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from emotion_train.batch import ClipTextBatch
from emotion_train.clips.reader import ShardSet
from emotion_train.model import EmotionCLIP, ModelConfig
from emotion_train.model.normalise import normalise
from emotion_train.training.config import Clips
from emotion_train.training.loop import Objective, Progress, Runner, Stage
from emotion_train.training.objective import ContrastiveObjective, Execution
from emotion_train.training.outputs import Outputs
from emotion_train.training.parallel import World
from emotion_train.training.precision import Precision, PrecisionName
from emotion_train.training.stages import clip_stage

PARTS = ("data", "forward", "loss", "backward", "optimizer", "other")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured.

    Attributes:
        shards: Folder of the shards.
        batch: Number of clips per step.
        steps: Number of measured steps, after `warmup` others.
        warmup: Number of steps before.
        loaded: Number of batches for measuring the loader alone, 2 or more.
        workers: Number of processes that load batches.
        precision: Numeric precision.
        side: Side of the square matrices whose product is the machine's peak; five times as large on a GPU,
            which small ones do not fill.
    """

    shards: str
    batch: int
    steps: int
    warmup: int
    loaded: int
    workers: int
    precision: PrecisionName
    side: int


@dataclass(frozen=True, slots=True)
class StepTimer:
    """Adds up the seconds of the named parts of each step."""

    device: torch.device
    steps: list[dict[str, float]] = field(default_factory=list)

    def next_step(self) -> None:
        """Start another step."""
        self.steps.append({})

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the block's time to a part."""
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.steps[-1][name] = self.steps[-1].get(name, 0.0) + time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True, slots=True)
class TimedObjective:
    """An objective whose parts are timed. The objective opens a span around each part; here a watch does."""

    objective: ContrastiveObjective
    watch: StepTimer

    def __call__(
        self, batch: ClipTextBatch, precision: Precision, seed: int
    ) -> tuple[float, dict[str, float]]:
        """As in `ContrastiveObjective`."""
        self.watch.next_step()
        return self.objective(batch, precision, seed)


class TimedPrecision(Precision):
    """Times gradient clipping and the optimizer step."""

    def __init__(self, name: PrecisionName, watch: StepTimer) -> None:
        super().__init__(name, watch.device)
        self._watch = watch

    def step(self, optimizer: torch.optim.Optimizer, clip_norm: float) -> float:
        """As in `Precision`."""
        with self._watch.part("optimizer"):
            return super().step(optimizer, clip_norm)


def timed(objective: Objective, watch: StepTimer) -> TimedObjective:
    """Return the same objective with a watch."""
    if not isinstance(objective, ContrastiveObjective):
        raise TypeError(f"{type(objective).__name__} is not contrastive")
    return TimedObjective(replace(objective, span=watch.part), watch)


def measure(config: ModelConfig, settings: Settings) -> dict[str, Any]:
    """Measure the training of one model; call it in a new process, since peak memory is a high-water mark."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    world = World(device=device)
    before = peak_memory(device)
    torch.manual_seed(0)
    model = EmotionCLIP(config).to(device)
    shards = ShardSet.open(settings.shards)
    epochs = settings.steps + settings.warmup + settings.loaded
    clips = Clips(epochs=epochs, batch=settings.batch, warmup=0)
    stage = clip_stage(model, shards, clips, seed=0, execution=Execution(world))
    side = settings.side * (5 if device.type == "cuda" else 1)
    peaks = [matmul_peak(device, settings.precision, side)]
    plain, idle = Precision(settings.precision, device), Idle([])
    alone = run_steps(replace(stage, objective=idle), settings, settings.loaded, plain, device)
    batch = idle.received[-1]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    watch = StepTimer(device)
    trained = replace(stage, objective=timed(stage.objective, watch))
    watched = TimedPrecision(settings.precision, watch)
    steps = settings.warmup + settings.steps
    entries = run_steps(trained, settings, steps, watched, device)[settings.warmup :]
    memory = peak_memory(device)  # before operations are counted, which uses another kind of attention
    peaks.append(matmul_peak(device, settings.precision, side))
    flops = step_flops(stage.objective, batch, plain) / len(batch)
    seconds = [len(batch) / entry["rows_per_s"] for entry in entries]
    rate = len(batch) / statistics.mean(seconds)
    return {
        "batch": len(batch),
        "frames": config.clip_frames,
        "steps": settings.steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        "clips_per_s": {
            "mean": rate,
            "min": min(entry["rows_per_s"] for entry in entries),
            "max": max(entry["rows_per_s"] for entry in entries),
        },
        "ms_per_step": split(entries, watch.steps[settings.warmup :], seconds),
        "data_wait_share": sum(entry["waited"] * s for entry, s in zip(entries, seconds, strict=True))
        / sum(seconds),
        # Without the first batch, which waits for the workers to start.
        "clips_per_s_of_loader_alone": (settings.loaded - 1)
        / sum(1 / entry["rows_per_s"] for entry in alone[1:]),
        "gflop_per_clip": flops / 1e9,
        "matmul_gflop_per_s": max(peaks) / 1e9,
        "model_flops_share": flops * rate / max(peaks),
        "memory_mib": {"before": before / 2**20, "peak": memory / 2**20},
        "memory_is_of": "torch on the GPU" if device.type == "cuda" else "the training process, resident",
        "threads": torch.get_num_threads(),
        "bytes_per_clip": wire_bytes(batch, config),
    }


def run_steps(
    stage: Stage, settings: Settings, steps: int, precision: Precision, device: torch.device
) -> list[dict[str, Any]]:
    """Take steps as every run does; return the lines of the log."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        runner = Runner(
            seed=0,
            precision=precision,
            world=World(device=device),
            workers=settings.workers,
            outputs=Outputs(log, save=lambda: None, save_every=float("inf")),
        )
        runner.run(stage, Progress(stage.name, budget=steps))
        return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True, slots=True)
class Idle:
    """An objective that only takes the batch, so that a step is the loader's time.

    Attributes:
        received: The last batch.
    """

    received: list[Any]

    def __call__(self, batch: Any, precision: Precision, seed: int) -> tuple[float, dict[str, float]]:
        """As in `Objective`."""
        del precision, seed
        self.received[:] = [batch]
        return 0.0, {}


def split(
    entries: list[dict[str, Any]], parts: list[dict[str, float]], seconds: list[float]
) -> dict[str, float]:
    """Return mean milliseconds per step of every part; they sum to "whole", "other" was not timed."""
    rows = []
    for entry, part, whole in zip(entries, parts, seconds, strict=True):
        row = {"data": entry["waited"] * whole, **part}
        rows.append(row | {"other": whole - sum(row.values()), "whole": whole})
    return {name: 1000 * statistics.mean(row[name] for row in rows) for name in (*PARTS, "whole")}


def matmul_peak(device: torch.device, precision: PrecisionName, side: int, *, repeats: int = 8) -> float:
    """Return the operations per second of a product of two square matrices, the best of several."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    watch = StepTimer(device)
    for _ in range(repeats):
        watch.next_step()
        with watch.part("product"):
            torch.mm(one, other)
    return float(2 * side**3 / min(step["product"] for step in watch.steps))


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
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux, getrusage starts from the parent's peak
        (line,) = [row for row in status.read_text().splitlines() if row.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def wire_bytes(pairs: ClipTextBatch, config: ModelConfig) -> dict[str, Any]:
    """Return the bytes per clip that a worker sends, and those of float images with full-size masks.

    Measured is the storage of the tensors. By formula: 4 bytes for each of three colours and the mask of
    every pixel of every frame, 8 per token, 4 per sentiment.

    Args:
        pairs: A batch as received from a worker.
        config: Sizes of the model.
    """
    spec, clips = config.preprocess, len(pairs)
    ours = {name: _stored(getattr(pairs, name)) / clips for name in _WIRED}
    side = spec.side_patches
    mask = pairs.patch_weights.reshape(*pairs.patch_weights.shape[:2], side, side)
    mask = mask.repeat_interleave(spec.patch, dim=2).repeat_interleave(spec.patch, dim=3)  # (B, T, S, S)
    images = normalise(pairs.images, spec).contiguous()  # (B, T, 3, S, S)
    plain = sum(map(_stored, (images, mask, pairs.text, pairs.sentiment))) / clips
    formula = config.clip_frames * spec.size**2 * 4 * (3 + 1)
    formula += 8 * config.text_context + 4 * pairs.sentiment.shape[1]
    return {
        "ours": sum(ours.values()),
        "ours_by_part": ours,
        "plain": plain,
        "plain_by_formula": formula,
        "times_less": plain / sum(ours.values()),
    }


_WIRED = ("images", "clip_index", "patch_weights", "text", "sentiment")


def _stored(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()
