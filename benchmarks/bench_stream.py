"""Measure one person's update: one new embedding in the ring, against encoding all frames of the clip again.

    python benchmarks/bench_stream.py            # half a minute
    python benchmarks/bench_stream.py --quick    # a quick trial

The person is in frames of 640 x 480 pixels. Every round measures, in another order each time:
  ring         crop and encode the newest frame, take the other embeddings of the clip from the ring, predict
  ring, again  the same: a ratio nearer to 1 than its ratio is noise
  all frames   crop and encode every frame of the clip, predict
All give the same probabilities. "Limit" is the larger of two times: the operations of the networks at the
measured rate of sgemm, and their bytes at the measured rate of a copy. Written to --out: stream.json.
"""

import argparse
import sys
from typing import Any

import numpy as np

from emotion_bench.made_cameras import SIZE, crowd
from emotion_bench.report import results_parser, write_result
from emotion_bench.rounds import interleave, ratios, spread
from emotion_bench.updates import Updates, View
from emotion_bench.work import measure_limits
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_train.tables import markdown_table

RING, AGAIN, ALL = "ring", "ring, again", "all frames"
EVERY = 0.2  # seconds between two updates


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    args = parse_args(argv)
    result = measure(args.bundle, rounds=3 if args.quick else 21)
    write_result(args, "stream", result)
    print(table(result))
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = results_parser(__doc__)
    parser.add_argument("--bundle", default="nano", help="bundle name or folder (default: nano)")
    return parser.parse_args(argv)


def measure(bundle: str, *, rounds: int) -> dict[str, Any]:
    """Measure all contenders.

    Raises:
        EmotionError: They give different probabilities.
    """
    updates, detector = Updates(bundle), load_detector("face")
    clip = crowd(1, frames=updates.clip_frames)
    views = [View(image, [tuple(detector(image).boxes[0].tolist())]) for image in clip]
    stored = updates.embed(views)

    def ring() -> Any:
        return updates.predict([np.concatenate([stored[:-1], updates.embed(views[-1:])])])

    def all_frames() -> Any:
        return updates.predict([updates.embed(views)])

    difference = float(np.abs(ring() - all_frames()).max())
    if difference > 1e-4:
        raise EmotionError(f"the ring gives probabilities that differ by {difference:.1e}; expected the same")
    calls = {RING: ring, AGAIN: ring, ALL: all_frames}
    limits, seconds = measure_limits(rounds), interleave(calls, rounds=rounds)
    rows = []
    for name in calls:
        work = updates.work(views if name == ALL else views[-1:], clips=1)
        ms = spread([1000 * each for each in seconds[name]])
        rows.append(
            {
                "contender": name,
                "ms": ms,
                "times_faster_than_all_frames": spread(ratios(seconds[ALL], seconds[name])),
                "gflop": round(work.flops / 1e9, 3),
                "mbytes": round(work.bytes / 1e6, 1),
                "limit_ms": round(limits.ms(work), 3),
                "fraction_of_limit": round(limits.ms(work) / ms["median"], 3),
                "fraction_of_time": round(ms["median"] / 1000 / EVERY, 4),
            }
        )
    return {
        "frame_size": SIZE,
        "people": 1,
        "every_s": EVERY,
        "clip_frames": updates.clip_frames,
        "limits": limits.as_json(),
        "max_difference": difference,
        "rows": rows,
    }


def table(result: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    header = ["update by", "ms (min to max)", "times faster", "limit, ms", "of it reached", "of the time"]
    rows = [
        [
            row["contender"],
            "{median:.2f} ({min:.2f} to {max:.2f})".format(**row["ms"]),
            f"{row['times_faster_than_all_frames']['median']:.2f}",
            f"{row['limit_ms']:.2f}",
            f"{100 * row['fraction_of_limit']:.0f} %",
            f"{100 * row['fraction_of_time']:.1f} %",
        ]
        for row in result["rows"]
    ]
    return markdown_table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
