"""Measure how fast the whole runtime is on videos, where the time goes, and what bounds it.

    python benchmarks/bench_pipeline.py --source people.mp4 crowd.mp4    # two minutes per video of 50 frames
    python benchmarks/bench_pipeline.py --source demo --quick            # a quick trial

Every round measures, in turn, on each video:
  BACKEND   every stage of the runtime, frame by frame, no sink; twice for the first backend, whose second run
            shows what is noise
  detector  decoding and the detector alone. While every frame is detected, this bounds the whole run; it is
            no limit of the machine: a faster detector or a rarer detection raises it
Cameras, their delays and the start of the program: bench_scale.py and bench_targets.py.
"Outside networks" is all time of a frame outside ONNX Runtime and OpenVINO: decoding, resizing, tracking,
smoothing, Python. Written to --out: pipeline.json.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from emotion_bench.networks import network_time
from emotion_bench.report import results_parser, write_result
from emotion_bench.rounds import ratios, spread
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.sources import open_source
from emotion_runtime.types import EmotionEvent
from emotion_train.tables import markdown_table, percent

AGAIN = ", again"


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured.

    Attributes:
        bundle: Name or folder of the bundle.
        rounds: Number of rounds.
        frames: Largest number of frames of each video; None means all.
    """

    bundle: str
    rounds: int
    frames: int | None


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


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    args = parse_args(argv)
    settings = Settings(args.bundle, args.rounds, args.frames)
    try:
        rows = [row for source in args.source for row in measure_source(source, args.backends, settings)]
    except EmotionError as error:
        print(f"bench_pipeline: error: {error}", file=sys.stderr)
        return 2
    write_result(args, "pipeline", {"bundle": args.bundle, "rounds": args.rounds, "rows": rows})
    print(table(rows))
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; --quick changes the defaults."""
    parser = results_parser(__doc__)
    add = parser.add_argument
    add("--source", nargs="+", required=True, help="video files, or demo")
    add("--backends", nargs="+", default=["cpu"], help="backends of the encoders (default: cpu)")
    add("--bundle", default="nano", help="bundle name or folder (default: nano)")
    add("--rounds", type=int, help="number of rounds (default: 9)")
    add("--frames", type=int, metavar="N", help="largest number of frames per video (default: all)")
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (1 if args.quick else 9)
    args.frames = args.frames or (30 if args.quick else None)
    return args


def measure_source(source: str, backends: list[str], settings: Settings) -> list[dict[str, Any]]:
    """Measure one video; return a row per backend, and one for a second measurement of the first backend."""
    contenders = {name: name for name in backends} | {backends[0] + AGAIN: backends[0]}
    measured: dict[str, list[Pass]] = {name: [] for name in contenders}
    alone: list[float] = []
    for index in range(settings.rounds):
        for name, backend in contenders.items():
            measured[name].append(run_full(source, backend, settings))
        alone.append(run_detector(source, settings))
        rates = ", ".join(f"{name} {each[-1].fps:.1f}" for name, each in measured.items())
        print(f"{source} round {index + 1}: fps {rates}, detector alone {alone[-1]:.1f}", file=sys.stderr)
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


def row(source: str, name: str, passes: list[Pass], alone: list[float]) -> dict[str, Any]:
    """Return the row of one video and one backend for pipeline.json."""
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
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table of the main results, one row per video and backend."""
    header = ["video", "people", "encoders on", "fps", "detector alone", "fraction of it", "outside networks"]
    lines = [
        [
            each["source"],
            str(each["persons"]),
            each["backend"],
            *(f"{each[name]['median']:.1f}" for name in ("fps", "fps_detector_alone")),
            *(
                percent(each[name]["median"])
                for name in ("fraction_of_detector_alone", "share_not_a_network")
            ),
        ]
        for each in rows
    ]
    return markdown_table(header, lines)


if __name__ == "__main__":
    sys.exit(main())
