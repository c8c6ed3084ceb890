"""Measure how fast the whole runtime is on videos, where the time goes, and what bounds it.

    python benchmarks/bench_pipeline.py --source people.mp4 crowd.mp4    # two minutes per video of 50 frames
    python benchmarks/bench_pipeline.py --source demo --quick            # a quick trial

Every round measures, in turn, on each video:
  BACKEND   every stage of the runtime, frame by frame, no sink; twice for the first backend, whose second run
            shows what is noise
  detector  decoding and the detector alone. While every frame is detected, this bounds the whole run; it is
            no limit of the machine: a faster detector or a rarer detection raises it
and then once for each backend:
  live      the video at its own pace, late frames dropped: milliseconds between capture and event
  process   a fresh process: seconds from its start to its first event, and its peak memory
"Outside networks" is all time of a frame outside ONNX Runtime and OpenVINO: decoding, resizing, tracking,
smoothing, Python. Written to --out: pipeline.json, pipeline.md, pipeline.png.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from emotion_bench.machine import card, folder_name
from emotion_bench.networks import network_time
from emotion_bench.report import plot_bars, write_json
from emotion_bench.rounds import percentile, ratios, spread
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.sources import open_source
from emotion_runtime.types import EmotionEvent
from emotion_train.tables import markdown_table, percent

RESULTS = Path(__file__).resolve().parent / "results"
AGAIN = ", again"
PROGRAM = [sys.executable, "-c", "import sys; from emotion_runtime.cli import main; sys.exit(main())"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured.

    Attributes:
        bundle: Name or folder of the bundle.
        rounds: Number of rounds.
        frames: Largest number of frames of each video; None means all.
        live: Seconds of the live run.
    """

    bundle: str
    rounds: int
    frames: int | None
    live: float


@dataclass(frozen=True, slots=True)
class Pass:
    """One run over a video.

    Attributes:
        fps: Frames per second.
        stages: Milliseconds per frame, by stage.
        networks: Fraction of the time spent in networks.
        persons: Number of people seen.
    """

    fps: float
    stages: dict[str, float]
    networks: float
    persons: int


@dataclass(slots=True)
class BackendRuns:
    """All passes of one backend over one video."""

    passes: list[Pass] = field(default_factory=list)
    live: dict[str, float] = field(default_factory=dict)
    process: dict[str, Any] = field(default_factory=dict)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    args = parse_args(argv)
    settings = Settings(args.bundle, args.rounds, args.frames, args.live)
    machine = card()
    out = args.out or RESULTS / folder_name(str(machine["cpu"]), args.cores or int(machine["cores"] or 1))
    try:
        rows = [row for source in args.source for row in measure_source(source, args.backends, settings)]
    except EmotionError as error:
        print(f"bench_pipeline: error: {error}", file=sys.stderr)
        return 2
    result = {
        "benchmark": "pipeline",
        "machine": machine,
        "bundle": args.bundle,
        "rounds": args.rounds,
        "rows": rows,
    }
    write_json(out / "pipeline.json", result)
    write_atomically(out / "pipeline.md", table(rows) + "\n")
    plot_bars(out / "pipeline.png", bars(rows), "ms per frame")
    print(table(rows))
    print(f"{out}: pipeline.json, pipeline.md, pipeline.png", file=sys.stderr)
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; --quick changes the defaults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--source", nargs="+", required=True, help="video files, or demo")
    add("--backends", nargs="+", default=["cpu"], help="backends of the encoders (default: cpu)")
    add("--bundle", default="nano", help="bundle name or folder (default: nano)")
    add("--rounds", type=int, help="number of rounds (default: 9)")
    add("--frames", type=int, metavar="N", help="largest number of frames per video (default: all)")
    add("--live", type=float, metavar="SECONDS", help="duration of the live run (default: 20)")
    add("--out", type=Path, help="folder of the results (default: results/ and the name of this machine)")
    add("--cores", type=int, help="number of cores in that name, where several machines share a CPU")
    add("--quick", action="store_true", help="a quick trial: one round of 30 frames, one second live")
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (1 if args.quick else 9)
    args.frames = args.frames or (30 if args.quick else None)
    args.live = args.live or (1.0 if args.quick else 20.0)
    return args


def measure_source(source: str, backends: list[str], settings: Settings) -> list[dict[str, Any]]:
    """Measure one video; return a row per backend, and one for a second measurement of the first backend."""
    contenders = {name: name for name in backends} | {backends[0] + AGAIN: backends[0]}
    measured = {name: BackendRuns() for name in contenders}
    alone: list[float] = []
    for index in range(settings.rounds):
        for name, backend in contenders.items():
            measured[name].passes.append(run_full(source, backend, settings))
        alone.append(run_detector(source, settings))
        rates = ", ".join(f"{name} {each.passes[-1].fps:.1f}" for name, each in measured.items())
        print(f"{source} round {index + 1}: fps {rates}, detector alone {alone[-1]:.1f}", file=sys.stderr)
    for name in backends:
        measured[name].live = run_live(source, name, settings)
        measured[name].process = run_processes(source, name, settings)
    return [row(source, name, each, alone) for name, each in measured.items()]


def run_full(source: str, backend: str, settings: Settings) -> Pass:
    """Run the whole runtime once, frame by frame, with models loaded and warm."""
    runtime = EmotionRuntime(settings.bundle, backend=backend)
    events = islice(runtime.stream(source), settings.frames)
    next(events)  # allocates memory and starts threads; reported as the time to the first event
    before = dict(runtime.timer.seconds)
    with network_time() as networks:
        start = time.perf_counter()
        frames, persons = count(events)
        seconds = time.perf_counter() - start
    stages = {
        name: 1000 * (total - before[name]) / frames
        for name, total in runtime.timer.seconds.items()
        if name != "sinks"
    }
    runtime.close()
    return Pass(frames / seconds, stages, networks.seconds / seconds, persons)


def count(events: Iterator[EmotionEvent]) -> tuple[int, int]:
    """Return the number of frames and of people, which is their highest id."""
    frames, persons = 0, 0
    for event in events:
        frames += 1
        persons = max([persons, *(person.id for person in event.persons)])
    if not frames:
        raise EmotionError("the video has only one frame: expected two or more; give a longer video")
    return frames, persons


def run_detector(source: str, settings: Settings) -> float:
    """Return the frames per second of decoding and detection alone."""
    detector = load_detector("face")
    with open_source(source) as opened:
        frames = islice(opened, settings.frames)
        detector(next(frames).image)
        start = time.perf_counter()
        count = 0
        for frame in frames:
            detector(frame.image)
            count += 1
        return count / (time.perf_counter() - start)


def run_live(source: str, backend: str, settings: Settings) -> dict[str, float]:
    """Play a video at its own pace; return milliseconds from capture to event and the fraction dropped.

    A short video is repeated until `settings.live` seconds have been played.
    """
    latencies: list[float] = []
    dropped, played = 0, 0.0
    while played < settings.live:
        last = None
        with closing(EmotionRuntime(settings.bundle, backend=backend)) as runtime:
            for last in runtime.stream(source, realtime=True):
                if last.frame:  # the first frame allocates memory and starts threads
                    latencies.append(last.latency_ms)
                if played + last.t >= settings.live:
                    break
        if last is None or not latencies:
            raise EmotionError(
                f"{source}: no frames when played at its own pace; expected a video of a second or more"
            )
        dropped, played = dropped + last.dropped, played + last.t
    return {
        "p50_ms": round(percentile(latencies, 50), 2),
        "p95_ms": round(percentile(latencies, 95), 2),
        "frames": len(latencies),
        "dropped_share": round(dropped / (dropped + len(latencies)), 4),
    }


def run_processes(source: str, backend: str, settings: Settings) -> dict[str, Any]:
    """Measure fresh processes: seconds from the start to the first event, and peak memory."""
    common = ["--source", source, "--bundle", settings.bundle, "--backend", backend, "--no-show"]
    first = [first_event([*common, "--jsonl", "-", "--max-frames", "1"]) for _ in range(settings.rounds)]
    with tempfile.TemporaryDirectory() as folder:
        limit = ["--max-frames", str(settings.frames or 200), "--jsonl", f"{folder}/events.jsonl"]
        return {"start_to_first_event_s": spread(first), "peak_memory_mb": peak_memory([*common, *limit])}


def first_event(arguments: list[str]) -> float:
    """Return the seconds from the start of a fresh process to its first event."""
    start = time.perf_counter()
    with subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        lines = [process.stdout.readline() for _ in range(2)] if process.stdout else [""]
        seconds = time.perf_counter() - start
        _, errors = process.communicate()
    if not lines[-1]:  # the first line is about the run
        raise EmotionError(f"emotion-runtime wrote no event: {errors.strip()}")
    json.loads(lines[-1])
    return seconds


def peak_memory(arguments: list[str]) -> float | None:
    """Return the peak resident memory of a fresh process in MB; None where the system does not report it."""
    if not hasattr(os, "wait4"):
        return None
    process = subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise EmotionError(f"emotion-runtime {' '.join(arguments)} ended with status {process.returncode}")
    scale = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes here
    return round(usage.ru_maxrss / scale, 1)


def row(source: str, name: str, measured: BackendRuns, alone: list[float]) -> dict[str, Any]:
    """Return the row of one video and one backend for pipeline.json."""
    passes = measured.passes
    fps = [each.fps for each in passes]
    stages = {stage: spread([each.stages[stage] for each in passes]) for stage in passes[0].stages}
    frame_ms = 1000 / spread(fps)["median"]
    return {
        "source": Path(source).name,
        "backend": name,
        "persons": max(each.persons for each in passes),
        "fps": spread(fps),
        "fps_detector_alone": spread(alone),
        "fraction_of_detector_alone": spread(ratios(fps, alone)),
        "ms_per_frame": stages,
        "share_by_stage": {name: round(value["median"] / frame_ms, 4) for name, value in stages.items()},
        "share_not_a_network": spread([1 - each.networks for each in passes]),
        "live": measured.live or None,
        **measured.process,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table of the main results, one row per video and backend."""
    header = [
        "video",
        "persons",
        "encoders on",
        "fps",
        "detector alone",
        "fraction of it",
        "outside networks",
    ]
    header += ["capture to event p50 / p95", "dropped", "first event", "memory"]
    lines = []
    for each in rows:
        live = each["live"]
        cells = [each["source"], str(each["persons"]), each["backend"], f"{each['fps']['median']:.1f}"]
        cells += [f"{each['fps_detector_alone']['median']:.1f}"]
        cells += [
            percent(each[name]["median"]) for name in ("fraction_of_detector_alone", "share_not_a_network")
        ]
        cells += [f"{live['p50_ms']:.0f} / {live['p95_ms']:.0f} ms" if live else ""]
        cells += [percent(live["dropped_share"]) if live else ""]
        cells += [f"{each['start_to_first_event_s']['median']:.1f} s" if live else ""]
        cells += [f"{each['peak_memory_mb']:.0f} MB" if live and each["peak_memory_mb"] else ""]
        lines.append(cells)
    return markdown_table(header, lines)


def bars(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return milliseconds per frame by stage, and the rest, by video and backend."""
    parts = {}
    for each in rows:
        stages = {name: value["median"] for name, value in each["ms_per_frame"].items()}
        rest = 1000 / each["fps"]["median"] - sum(stages.values())
        parts[f"{each['source']}, {each['backend']}"] = stages | {"rest": max(rest, 0.0)}
    return parts


if __name__ == "__main__":
    sys.exit(main())
