"""Measure what a live run should take at most, and say which targets are met.

    python benchmarks/bench_targets.py            # three minutes
    python benchmarks/bench_targets.py --quick    # a quick trial

Made cameras deliver frames of 640 x 480 pixels 12 times a second, with nothing to decode; people are
detected and encoded every 0.2 seconds, if nothing else is said, on the backends that are fastest on this
machine, as with `emotion-runtime --camera 0`. Cores are processor time by elapsed time. The switch is
--detect-every: the same load with a detection in every frame is measured in turn with the others, and every
load is measured several times. Processor time tells nothing about a machine that has no time for the frames,
so a load of which more than 5 % are dropped counts as not measured. Starts and memory are those of processes
that read the demo. Written to --out: targets.json.
"""

import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from emotion_bench.live_load import live_load, network_cores, network_work, step_costs
from emotion_bench.made_cameras import RATE, SIZE, cameras, crowd
from emotion_bench.processes import first_events, peak_memory
from emotion_bench.report import report, results_parser
from emotion_bench.rounds import spread
from emotion_bench.work import Limits, Work, measure_limits
from emotion_runtime.backends.onnx import count_threads
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.timing import Timing
from emotion_train.tables import markdown_table

EVERY = 0.2  # seconds
LARGE = (1280, 720)  # of the frames with 30 people
MOST_DROPPED = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """How long is measured.

    Attributes:
        rounds: Number of rounds.
        seconds: Seconds of each live run, and of video of each other one.
        settle: Seconds before each live run.
        limits: The limits of this machine.
        work: Work of a detection, and of one update of a person, in frames of cameras.
    """

    rounds: int
    seconds: float
    settle: float
    limits: Limits
    work: tuple[Work, Work]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    args = results_parser(__doc__, quick=True).parse_args(argv)
    measuring = partial(measure, quick=args.quick)
    return report("bench_targets", args.out / "targets.json", measuring, table, write_page=False)


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure everything that has a target."""
    limits = measure_limits(3 if quick else 9)
    times = (1, 0.5, 0.3) if quick else (3, 10.0, 3.0)
    settings = Settings(*times, limits, network_work(crowd(1, frames=1)[0]))
    rows = [*one_camera(settings), many_cameras(settings), *steps(settings), *start(settings)]
    return {"fps": RATE, "limits": limits.as_json(), "rows": rows}


def one_camera(settings: Settings) -> list[dict[str, Any]]:
    """Measure the cores that one camera takes, each load in turn."""
    loads: dict[str, tuple[int, float, float | None]] = {
        "one camera, 2 people": (2, EVERY, 0.16),
        "one camera, 5 people": (5, EVERY, 0.28),
        "one camera, 2 people, detection in every frame": (2, 0.0, None),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in loads}
    for _ in range(settings.rounds):
        for name, (people, detect_every, _target) in loads.items():
            runs[name].append(_load(1, people, Timing(every=EVERY, detect_every=detect_every), settings))
    rows = []
    for name, (people, _, target) in loads.items():
        row = _row(name, "cores", [run["cores"] for run in runs[name]], target)
        usual = sorted(runs[name], key=lambda run: run["cores"])[len(runs[name]) // 2]
        if max(run["dropped"] for run in runs[name]) > MOST_DROPPED:
            row["met"] = None
        rows.append(row | _of_live(usual, people, 1, settings))
    return rows


def many_cameras(settings: Settings) -> dict[str, Any]:
    """Measure the delay of eight cameras at the pace that the scheduler chooses."""
    run = _load(8, 2, Timing(), settings)
    row = _row("8 cameras, 2 people in each, p95 of capture to event", "ms", [run["p95_ms"]], 300)
    return row | _of_live(run, 2, 8, settings)


def steps(settings: Settings) -> list[dict[str, Any]]:
    """Measure the processor time of frames: outside of the networks, and of the worst of a crowd."""
    small, large = (
        step_costs(crowd(people, size), rate=RATE, seconds=settings.seconds, every=EVERY)
        for people, size in ((3, SIZE), (30, LARGE))
    )
    outside, whole = statistics.mean(small.outside_ms), large.whole_ms
    return [
        _row("outside of networks, 3 people, per frame", "ms", [outside], 3)
        | {"frame_size": SIZE, "people": 3, "note": f"median {statistics.median(small.outside_ms):.1f} ms"},
        _row("worst frame by mean, 30 people", "times", [max(whole) / statistics.mean(whole)], 2)
        | {"frame_size": LARGE, "people": 30, "note": f"mean {statistics.mean(whole):.1f} ms"},
    ]


def start(settings: Settings) -> list[dict[str, Any]]:
    """Measure the time from the start of a process to its first event, and the memory of a process."""
    options = ["--source", "demo", "--no-show"]
    one = [*options, "--jsonl", "-", "--max-frames", "1"]
    seconds = first_events(one, 3 * settings.rounds)
    memory = peak_memory([*options, "--jsonl", os.devnull, "--max-frames", str(round(9 * settings.seconds))])
    rows = [{**_row("start to first event", "s", seconds, 0.6), "note": "of the demo, which is a file"}]
    return rows if memory is None else [*rows, _row("peak memory", "MB", [memory], None)]


def _load(count: int, people: int, timing: Timing, settings: Settings) -> dict[str, Any]:
    runtime = EmotionRuntime(timing=timing, live=True)
    sources = cameras(count, crowd(people))
    load = live_load(runtime, sources, seconds=settings.seconds, settle=settings.settle)
    load["backend"] = backend_of(runtime)
    runtime.close()
    print(f"{count} cameras, {people} people, {timing.detect_every}: {load}", file=sys.stderr)
    return load


def backend_of(runtime: EmotionRuntime) -> str:
    """Return what runs encoders and detector; the version stands in the first of them."""
    options = runtime.run_line().options
    text = f"encoders: {runtime.backend}"
    if "detector_backend" not in options:
        return text
    return f"{text}; detector: {options['detector_backend']}, {count_threads(options['detector_threads'])}"


def _of_live(load: dict[str, Any], people: int, count: int, settings: Settings) -> dict[str, Any]:
    need = network_cores(settings.work, people, count, load, settings.limits)
    note = "" if need is None else f"limit {need:.3f} cores of {load['cores']:.3f}; "
    note += f"detected every {load['detect_every_s']} s, encoded every {load['encode_every_s']} s, "
    note += f"{load['fps']} frames per second, {load['backend']}"
    if load["dropped"] > MOST_DROPPED:
        note += f", {100 * load['dropped']:.0f} % dropped"
    return {"frame_size": SIZE, "people": people, "limit_cores": need, "load": load, "note": note}


def _row(name: str, unit: str, values: Sequence[float], target: float | None) -> dict[str, Any]:
    found = spread(values, 3)
    met = None if target is None else found["median"] <= target
    return {"what": name, "unit": unit, "measured": found, "target": target, "met": met}


def _measured(values: Mapping[str, float]) -> str:
    median = f"{values['median']:g}"
    several = values["min"] < values["max"]
    return f"{median} ({values['min']:g} to {values['max']:g})" if several else median


def table(result: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    shown: dict[bool | None, str] = {None: "", True: "met", False: "**missed**"}
    cells: list[Callable[[dict[str, Any]], str]] = [
        lambda row: row["what"],
        lambda row: f"{_measured(row['measured'])} {row['unit']}",
        lambda row: "" if row["target"] is None else f"{row['target']:g} {row['unit']}",
        lambda row: shown[row["met"]],
        lambda row: row.get("note", ""),
    ]
    header = ["", "measured: median (min to max), or once", "at most", "", "conditions"]
    return markdown_table(header, [[cell(row) for cell in cells] for row in result["rows"]])


if __name__ == "__main__":
    sys.exit(main())
