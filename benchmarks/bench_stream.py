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
from functools import partial
from typing import Any

import numpy as np

from emotion_bench.made_cameras import SIZE, crowd
from emotion_bench.report import report, results_parser
from emotion_bench.updates import EVERY, HEADER, Updates, View, compare_updates, update_cells
from emotion_bench.work import measure_limits
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_train.tables import markdown_table

RING, AGAIN, ALL = "ring", "ring, again", "all frames"


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    args = parse_args(argv)
    measuring = partial(measure, args.bundle, rounds=3 if args.quick else 21)
    return report("bench_stream", args.out / "stream.json", measuring, table, write_page=False)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = results_parser(__doc__, quick=True)
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
    calls, limits = {RING: ring, AGAIN: ring, ALL: all_frames}, measure_limits(rounds)
    works = {name: updates.work(views if name == ALL else views[-1:], clips=1) for name in calls}
    return {
        "frame_size": SIZE,
        "people": 1,
        "every_s": EVERY,
        "clip_frames": updates.clip_frames,
        "limits": limits.as_json(),
        "max_difference": difference,
        "rows": compare_updates(calls, works, ALL, limits=limits, rounds=rounds),
    }


def table(result: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    rows = [[row["contender"], *update_cells(row, 2)] for row in result["rows"]]
    return markdown_table(["update by", *HEADER], rows)


if __name__ == "__main__":
    sys.exit(main())
