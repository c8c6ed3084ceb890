"""Measure how fast the whole runtime is on videos, and where the time goes.

    python benchmarks/bench_pipeline.py --source people.mp4 crowd.mp4    # two minutes per video of 50 frames
    python benchmarks/bench_pipeline.py --source demo --quick            # a quick trial

Every round measures each video on each backend in turn, beginning with another one, and twice on the first
one, whose second run shows what is noise: every stage of the runtime, frame by frame, no sink. Cameras, their
delays and the start of the program: bench_scale.py and bench_targets.py. "Outside networks" is all time of a
frame outside ONNX Runtime and OpenVINO: decoding, resizing, tracking, smoothing, Python. Written to --out:
pipeline.json.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from emotion_bench.pipeline_parity import run as run_once
from emotion_bench.report import report, results_parser
from emotion_bench.rounds import spread
from emotion_runtime.errors import EmotionError
from emotion_train.tables import markdown_table, percent

AGAIN = ", again"
Row = dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = results_parser(__doc__, quick=True)
    add = parser.add_argument
    add("--source", nargs="+", required=True, help="video files, or demo")
    add("--backends", nargs="+", default=["cpu"], help="backends of the encoders (default: cpu)")
    add("--bundle", default="nano", help="bundle name or folder (default: nano)")
    add("--rounds", type=int, help="number of rounds (default: 9)")
    add("--frames", type=int, metavar="N", help="largest number of frames per video (default: all)")
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (1 if args.quick else 9)
    args.frames = args.frames or (30 if args.quick else None)
    return report(
        "bench_pipeline", args.out / "pipeline.json", partial(measure, args), table, write_page=False
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all videos."""
    rows = [row for source in args.source for row in measure_source(source, args)]
    return {"bundle": args.bundle, "rounds": args.rounds, "rows": rows}


def measure_source(source: str, args: argparse.Namespace) -> list[Row]:
    """Measure one video; return a row per backend, and one for a second measurement of the first backend."""
    contenders = {name: name for name in args.backends} | {args.backends[0] + AGAIN: args.backends[0]}
    measured: dict[str, list[Row]] = {name: [] for name in contenders}
    order = list(contenders)
    for index in range(args.rounds):
        for name in order[index % len(order) :] + order[: index % len(order)]:
            events, found = run_once(source, contenders[name], args.frames, args.bundle)
            if len(events) == 1:
                raise EmotionError(f"{source} has only one frame: expected two or more; give a longer video")
            measured[name].append(found)
        rates = ", ".join(f"{name} {each[-1]['fps']:.1f}" for name, each in measured.items())
        print(f"{source} round {index + 1}: fps {rates}", file=sys.stderr)
    return [
        {
            "source": Path(source).name,
            "backend": name,
            "persons": max(each["persons"] for each in runs),  # the highest id
            "fps": spread([each["fps"] for each in runs]),
            "ms_per_frame": {
                stage: spread([each["ms_per_frame"][stage] for each in runs])
                for stage in runs[0]["ms_per_frame"]
                if stage != "sinks"
            },
            "share_not_a_network": spread([1 - each["share_of_networks"] for each in runs]),
        }
        for name, runs in measured.items()
    ]


def table(result: dict[str, Any]) -> str:
    """Return the table of the main results, one row per video and backend."""
    stages = ("read", "detect", "encode", "temporal")
    lines = [
        [
            Path(row["source"]).stem.removeprefix("intel_").replace("-", " "),
            str(row["persons"]),
            row["backend"],
            f"{row['fps']['median']:.1f}",
            *(f"{row['ms_per_frame'][stage]['median']:.1f}" for stage in stages),
            percent(row["share_not_a_network"]["median"]),
        ]
        for row in result["rows"]
    ]
    header = ["video", "people", "encoders on", "fps", *(f"{stage}, ms" for stage in stages)]
    return markdown_table([*header, "time outside networks"], lines)


if __name__ == "__main__":
    sys.exit(main())
