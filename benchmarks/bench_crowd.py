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
from emotion_bench.report import report, results_parser
from emotion_bench.updates import EVERY, HEADER, Updates, View, compare_updates, update_cells
from emotion_bench.work import Limits, measure_limits
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_train.tables import markdown_table

OWN, AGAIN, SHARED = "crop per person", "crop per person, again", "shared crop"
SIZE = (1280, 720)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    args = parse_args(argv)
    measuring = partial(measure, args.bundle, args.people, rounds=3 if args.quick else 11)
    return report("bench_crowd", args.out / "crowd.json", measuring, table, write_page=False)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = results_parser(__doc__, quick=True)
    add = parser.add_argument
    add("--bundle", default="nano", help="bundle name or folder (default: nano)")
    add("--people", nargs="+", type=int, default=[1, 8, 32], help="numbers of people (default: 1 8 32)")
    return parser.parse_args(argv)


def measure(bundle: str, crowds: list[int], *, rounds: int) -> dict[str, Any]:
    """Measure crowds of so many people."""
    limits = measure_limits(rounds)
    rows = [row for people in crowds for row in measure_crowd(bundle, people, limits=limits, rounds=rounds)]
    return {"frame_size": SIZE, "every_s": EVERY, "limits": limits.as_json(), "rows": rows}


def measure_crowd(bundle: str, people: int, *, limits: Limits, rounds: int) -> list[dict[str, Any]]:
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
    calls = {name: partial(update, each) for name, each in models.items()}
    works = {name: each.work(views, clips=people) for name, each in models.items()}
    rows = compare_updates(calls, works, OWN, limits=limits, rounds=rounds)
    return [{"people": people, **row} for row in rows]


def table(result: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    rows = [[str(row["people"]), row["contender"], *update_cells(row, 1)] for row in result["rows"]]
    return markdown_table(["people", "", *HEADER], rows)


if __name__ == "__main__":
    sys.exit(main())
