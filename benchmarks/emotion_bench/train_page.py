"""Describe the measurements of `bench_train.py` for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from emotion_bench.train_step import PARTS
from emotion_train.tables import markdown_table

_STEP = (
    ("clips per second", "clips_per_s"),
    ("clips per step", "batch"),
    ("GFLOP per clip", "gflop_per_clip"),
    ("matrix product, GFLOP/s", "matmul_gflop_per_s"),
    ("FLOP/s of the model, fraction of that", "model_flops_share"),
    ("peak memory, MiB", "peak_memory_mib"),
    ("bytes per clip from worker to trainer", "bytes_per_clip_from_worker"),
)
_FORECAST = (
    ("clips per second", "clips_per_s"),
    ("hours per epoch", "hours_per_epoch"),
    ("days in all", "days"),
    ("workers per device", "workers_per_gpu"),
    ("MB per second read", "mb_per_s"),
    ("requests per second", "requests_per_s"),
)


def page(result: Mapping[str, Any]) -> str:
    """Return train.md for the content of train.json."""
    machine, presets, forecasts = result["machine"], result["presets"], result["forecast"]
    facts = (
        f"{machine['cpu']}, {machine['cores']} cores, GPU: {machine['gpu'] or 'none'}; torch "
        f"{machine['torch']}, {result['precision']}, {result['workers']} workers; "
        f"{result['shards']['clips']} clips of {result['shards']['of']}. Data: waiting for workers."
    )
    quick = " A quick trial: its speeds mean nothing." if result["quick"] else ""
    first = next(iter(forecasts.values()))
    return "\n\n".join(
        (
            "# Training on clips",
            facts + quick,
            steps_table(presets),
            _scale(result),
            "## Prediction: {gpus} devices like this one, {clips:,} clips, {epochs} epochs".format(**first),
            f"From the parts above. Not measured, and left out: {'; '.join(first['not_measured'])}.",
            markdown_table(["", *forecasts], _rows(_FORECAST, forecasts)) + "\n",
        )
    )


def steps_table(presets: Mapping[str, Any]) -> str:
    """Return the table of training steps: a column for each model."""
    times = {name: preset["ms_per_step"] for name, preset in presets.items()}
    parts = [(f"{part}, ms per step", part) for part in (*PARTS, "whole")]
    return markdown_table(["", *presets], [*_rows(_STEP, presets), *_rows(parts, times)])


def _rows(titles: Sequence[tuple[str, str]], columns: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    return [[title, *(_number(column[key]) for column in columns.values())] for title, key in titles]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _scale(result: Mapping[str, Any]) -> str:
    """Return what does not depend on the model, each beside how it was before."""
    loader, latency, index, loss = (result[name] for name in ("loader", "latency", "index", "loss_mib"))
    rows = [
        ("CPU of a clip, ms", loader["cpu_ms_per_clip"], loader["cpu_ms_per_clip_before"]),
        (
            f"time of a clip and worker at {latency['delay_ms']:.0f} ms a request, ms",
            latency["ms_per_clip"],
            latency["ms_per_clip_before"],
        ),
        ("requests per clip, from a server", latency["requests_per_clip"], 1 + 8),
        ("bytes per clip, from a server", latency["bytes_per_clip"], loader["bytes_per_clip"]),
        (
            f"sent to each worker for {index['clips']:,} clips, kB",
            index["pickled_bytes_per_worker"] / 1e3,
            index["pickled_bytes_per_worker_before"] / 1e3,
        ),
        *(
            (f"peak memory of the loss of {batch} pairs, MiB", now, loss["before"][batch])
            for batch, now in loss["now"].items()
        ),
    ]
    size = index["pss_mib_all_workers"]  # a difference, which varies by about this much with other memory
    memory = f"{size:.1f} MiB" if size >= 1 else "less than 1 MiB"
    table = markdown_table(["", "now", "before"], [[name, _number(a), _number(b)] for name, a, b in rows])
    return (
        f"## Loading, the index and the loss\n\nThe index of {index['clips']:,} clips opens in "
        f"{index['seconds_to_open']:.2f} s ({index['seconds_to_open_first']:.1f} s without index.bin) and "
        f"takes {memory} in {index['workers']} workers together.\n\n{table}"
    )
