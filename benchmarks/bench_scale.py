"""Measure how many cameras one machine can watch, and the pace that the scheduler chooses for them.

    python benchmarks/bench_scale.py            # two minutes
    python benchmarks/bench_scale.py --quick    # a quick trial

1 to 16 made cameras deliver frames of 640 x 480 pixels with two people, 12 times a second, as real ones do,
but with nothing to decode. The runtime is at its defaults, as with `emotion-runtime --camera 0`: on the
backend that is fastest on this machine, it detects and encodes as often as it has time for. Every number of
cameras is measured once; one camera is measured twice, which shows the noise. "Limit" is the processor time
that the networks need at least at the pace that was chosen, at the measured rate of sgemm; empty where a GPU
runs them. Written to --out: scale.json.
"""

import argparse
import sys
from functools import partial
from typing import Any

from emotion_bench.live_load import live_load, network_cores, network_work
from emotion_bench.made_cameras import RATE, SIZE, cameras, crowd
from emotion_bench.report import report, results_parser
from emotion_bench.work import measure_limits
from emotion_runtime.runtime import EmotionRuntime
from emotion_train.tables import markdown_table

PEOPLE = 2


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    args = parse_args(argv)
    return report("bench_scale", args.out / "scale.json", partial(measure, args), table, write_page=False)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure each number of cameras, the first one twice."""
    limits, clip = measure_limits(3 if args.quick else 9), crowd(PEOPLE)
    work = network_work(clip[0])
    rows = []
    for index, count in enumerate([args.cameras[0], *args.cameras]):
        with EmotionRuntime(live=True) as runtime:
            sources, settle = cameras(count, clip), min(4.0, args.seconds)
            load = live_load(runtime, sources, seconds=args.seconds, settle=settle)
            load["backend"] = runtime.backend
        need = network_cores(work, PEOPLE, count, load, limits)
        rows.append({"cameras": count, "again": index == 1, **load, "limit_cores": need})
        print(f"{count} cameras: {load}", file=sys.stderr)
    return {"frame_size": SIZE, "fps": RATE, "people": PEOPLE, "limits": limits.as_json(), "rows": rows}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = results_parser(__doc__, quick=True)
    add = parser.add_argument
    add("--cameras", nargs="+", type=int, help="numbers of cameras (default: 1 2 4 8 16)")
    add("--seconds", type=float, help="how long each number is measured (default: 15)")
    args = parser.parse_args(argv)
    args.cameras = args.cameras or ([1, 2] if args.quick else [1, 2, 4, 8, 16])
    args.seconds = args.seconds or (2.0 if args.quick else 15.0)
    return args


def table(result: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    header = ["cameras", "cores", "limit, cores", "of it reached", "frames per second"]
    header += ["detected every", "encoded every", "capture to event p50 / p95", "dropped"]
    cells = [
        [
            f"{row['cameras']}{', again' if row['again'] else ''}",
            f"{row['cores']:.2f}",
            *_limit(row),
            f"{row['fps']:.1f}",
            *(f"{row[name]:.2f} s" if row[name] else "" for name in ("detect_every_s", "encode_every_s")),
            f"{row['p50_ms']:.0f} / {row['p95_ms']:.0f} ms",
            f"{100 * row['dropped']:.0f} %",
        ]
        for row in result["rows"]
    ]
    return markdown_table(header, cells)


def _limit(row: dict[str, Any]) -> tuple[str, str]:
    """Return the processor time that the networks need at least, and its part of what was taken."""
    need, taken = row["limit_cores"], row["cores"]
    return ("", "") if need is None else (f"{need:.2f}", f"{100 * need / taken:.0f} %")


if __name__ == "__main__":
    sys.exit(main())
