"""Measure the update of a crowd: a crop per person, as the runtime does, and one shared crop.

    python benchmarks/bench_crowd.py            # one minute
    python benchmarks/bench_crowd.py --quick    # a quick trial

1, 8 and 32 people are in frames of 1280 x 720 pixels. An update crops, encodes and predicts all of them at
once; the runtime spreads more than four over the frames. Every round measures, in another order each time:
  crop per person         the frame encoder sees a crop of every head
  crop per person, again  the same: a ratio nearer to 1 than its ratio is noise
  shared crop             it sees one crop of the frame, and the patch weights tell who is the subject; far
                          less accurate, see docs/benchmarks.md
"Limit" is the larger of two times: the operations of the networks at the measured rate of sgemm, and their
bytes at the measured rate of a copy. Written to --out: crowd.json.
"""

import argparse
import sys
from functools import partial
from typing import Any

import numpy as np

from emotion_bench.made_cameras import crowd
from emotion_bench.report import results_parser, write_result
from emotion_bench.rounds import interleave, ratios, spread
from emotion_bench.updates import Updates, View
from emotion_bench.work import Limits, measure_limits
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_train.tables import markdown_table

OWN, AGAIN, SHARED = "crop per person", "crop per person, again", "shared crop"
SIZE = (1280, 720)
EVERY = 0.2  # seconds between two updates


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    args = parse_args(argv)
    rounds = 3 if args.quick else 11
    limits = measure_limits(rounds)
    rows = [
        row for people in args.people for row in measure(args.bundle, people, limits=limits, rounds=rounds)
    ]
    write_result(
        args, "crowd", {"frame_size": SIZE, "every_s": EVERY, "limits": limits.as_json(), "rows": rows}
    )
    print(table(rows))
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = results_parser(__doc__)
    parser.add_argument("--bundle", default="nano", help="bundle name or folder (default: nano)")
    parser.add_argument(
        "--people", nargs="+", type=int, default=[1, 8, 32], help="numbers of people (default: 1 8 32)"
    )
    return parser.parse_args(argv)


def measure(bundle: str, people: int, *, limits: Limits, rounds: int) -> list[dict[str, Any]]:
    """Return a row per contender.

    Raises:
        EmotionError: The detector does not find everybody.
    """
    image = crowd(people, SIZE, frames=1)[0]
    boxes = [tuple(box) for box in load_detector("face", score=0.5)(image).boxes.tolist()]
    if len(boxes) != people:
        raise EmotionError(f"the detector finds {len(boxes)} of {people} people in the made frame")
    views = [View(image, boxes)]
    own, shared = Updates(bundle), Updates(bundle, shared=True)

    def update(updates: Updates) -> object:
        newest = updates.embed(views)  # (P, D); the other embeddings of the clips are in rings
        return updates.predict(list(np.repeat(newest[:, None], updates.clip_frames, axis=1)))

    models = {OWN: own, AGAIN: own, SHARED: shared}
    seconds = interleave({name: partial(update, each) for name, each in models.items()}, rounds=rounds)
    rows = []
    for name, updates in models.items():
        work = updates.work(views, clips=people)
        ms = spread([1000 * each for each in seconds[name]])
        rows.append(
            {
                "people": people,
                "contender": name,
                "ms": ms,
                "times_faster": spread(ratios(seconds[OWN], seconds[name])),
                "gflop": round(work.flops / 1e9, 3),
                "mbytes": round(work.bytes / 1e6, 1),
                "limit_ms": round(limits.ms(work), 3),
                "fraction_of_limit": round(limits.ms(work) / ms["median"], 3),
                "fraction_of_time": round(ms["median"] / 1000 / EVERY, 4),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    header = ["people", "", "ms (min to max)", "times faster", "limit, ms", "of it reached", "of the time"]
    cells = [
        [
            str(row["people"]),
            row["contender"],
            "{median:.1f} ({min:.1f} to {max:.1f})".format(**row["ms"]),
            f"{row['times_faster']['median']:.2f}",
            f"{row['limit_ms']:.1f}",
            f"{100 * row['fraction_of_limit']:.0f} %",
            f"{100 * row['fraction_of_time']:.1f} %",
        ]
        for row in rows
    ]
    return markdown_table(header, cells)


if __name__ == "__main__":
    sys.exit(main())
