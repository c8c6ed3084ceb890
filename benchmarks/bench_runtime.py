r"""How fast the runtime is on a video, and what bounds it.

    python benchmarks/bench_runtime.py \
        --source ../shared/videos/intel_face-demographics-walking-and-pause.gif \
        --out benchmarks/results/my-machine/runtime.json

Each round measures, one after the other on the same machine in the same minute:
  full     every stage of the runtime, frame by frame, no sink
  detect   decoding and the detector alone: the ceiling, since every frame is detected and no later stage can
           make the whole faster than this
Reported: frames per second of both as medians over the rounds, their ratio, milliseconds a frame by stage,
and the time from the start of a fresh process to its first event on standard output. The spread over the
rounds stands beside each median: differences inside it are noise.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from emotion_runtime.detector import load_detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.sources import open_source


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="a video file, or demo")
    parser.add_argument("--bundle", default="nano")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    try:
        result = measure(args.source, args.bundle, args.rounds)
    except EmotionError as error:
        print(f"bench_runtime: error: {error}", file=sys.stderr)
        return 2
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


def measure(source: str, bundle: str, rounds: int) -> dict[str, object]:
    """All figures of one machine."""
    full, ceiling, stages, people = [], [], [], 0
    for number in range(rounds):
        fps, milliseconds, people = run_full(source, bundle)
        full.append(fps)
        stages.append(milliseconds)
        ceiling.append(run_detector(source))
        print(
            f"round {number + 1}: full {fps:.1f} fps, detector alone {ceiling[-1]:.1f} fps", file=sys.stderr
        )
    return {
        "benchmark": "runtime",
        "source": Path(source).name,
        "persons": people,
        "bundle": bundle,
        "rounds": rounds,
        "machine": machine(),
        "fps": spread(full),
        "fps_detector_alone": spread(ceiling),
        "share_of_ceiling": spread([a / b for a, b in zip(full, ceiling, strict=True)]),
        "ms_per_frame": {name: spread([entry[name] for entry in stages]) for name in stages[0]},
        "start_to_first_event_s": spread([first_event(source, bundle) for _ in range(rounds)]),
    }


def run_full(source: str, bundle: str) -> tuple[float, dict[str, float], int]:
    """Frames per second, milliseconds a frame by stage, persons; models loaded and warm."""
    runtime = EmotionRuntime(bundle)
    events = runtime.stream(source)
    next(events)  # the first frame pays for memory and threads; it is reported as the time to the first event
    before = dict(runtime.timer.seconds)
    start = time.perf_counter()
    frames, people = 0, 0
    for event in events:
        frames += 1
        people = max([people, *(person.id for person in event.persons)])
    seconds = time.perf_counter() - start
    per_frame = {
        name: 1000 * (total - before[name]) / frames
        for name, total in runtime.timer.seconds.items()
        if name != "sinks"
    }
    return frames / seconds, per_frame, people


def run_detector(source: str) -> float:
    """Frames per second of decoding and detecting alone."""
    detector = load_detector("face")
    with open_source(source) as frames:
        opened = iter(frames)
        detector(next(opened).image)
        start = time.perf_counter()
        count = 0
        for frame in opened:
            detector(frame.image)
            count += 1
        return count / (time.perf_counter() - start)


def first_event(source: str, bundle: str) -> float:
    """Seconds from the start of a fresh process to its first line of JSON."""
    command = [sys.executable, "-c", "import sys; from emotion_runtime.cli import main; sys.exit(main())"]
    command += ["--source", source, "--bundle", bundle, "--jsonl", "-", "--max-frames", "1", "--no-show"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline() if process.stdout else ""
        seconds = time.perf_counter() - start
        _, errors = process.communicate()
    if not line:
        raise EmotionError(f"emotion-runtime gave no event: {errors.strip()}")
    return seconds


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def machine() -> dict[str, str | int | None]:
    """What it ran on."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "opencv": version("opencv-python"),
    }


if __name__ == "__main__":
    sys.exit(main())
