"""Measure how many scene cuts are found, and how many are seen in continuous videos, by the frame rate.

    python benchmarks/bench_cuts.py --videos VIDEO ...    # a minute

The built-in scene and the videos, none of which may have a cut, are shown at each rate. For the cuts, every
video is followed by every other one, from the frame in its middle to the first one of the other; likewise
twelve made rooms, all of which have the same range of colours. The results are the same in every run.
Written to --out: cuts.json, cuts.md.
"""

import sys
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

from emotion_bench.identity_scenes import rooms
from emotion_bench.made_cameras import Image
from emotion_bench.report import report, results_parser
from emotion_runtime.cuts import CutDetector
from emotion_runtime.sources import open_source
from emotion_runtime.types import Frame
from emotion_train.tables import markdown_table, percent

RATES = (25, 10, 5, 1)  # frames per second
ROOMS = 12


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = results_parser(__doc__, "cuts")
    parser.add_argument("--videos", nargs="+", required=True, help="videos without a cut")
    args = parser.parse_args(argv)
    return report("bench_cuts", args.out / "cuts.json", partial(measure, ["demo", *args.videos]), page)


def measure(sources: list[str]) -> dict[str, Any]:
    """Return the cuts that are seen in each video, and the share of those that are found, by rate."""
    clips: dict[str, list[Frame]] = {}
    for source in sources:
        with open_source(source) as opened:
            clips[Path(source).name] = list(opened)
    middles = [(frames[len(frames) // 2].image, frames[0].image) for frames in clips.values()]
    made = [(room, room) for room in rooms(ROOMS, seed=0)]
    return {
        "videos": list(clips),
        "minutes": round(sum(frames[-1].t for frames in clips.values()) / 60, 2),
        "rooms": ROOMS,
        "rows": [
            {
                "fps": rate,
                "false": sum(cuts_in(frames, rate) for frames in clips.values()),
                "between_videos": share_found(middles, rate),
                "between_rooms": share_found(made, rate),
            }
            for rate in RATES
        ],
    }


def cuts_in(frames: list[Frame], rate: float) -> int:
    """Return how many cuts are seen in a video that is shown at a rate, or at its own if that is lower."""
    detector, last, count = CutDetector(), frames[0].t, 0
    for frame in frames:
        elapsed = frame.t - last
        if frame is frames[0] or elapsed >= 0.97 / rate:  # times are rounded to milliseconds
            count += detector.cut(frame.image, elapsed)
            last = frame.t
    return count


def share_found(scenes: list[tuple[Image, Image]], rate: float) -> float:
    """Return the share of the cuts between any two scenes that is found.

    Args:
        scenes: The image before a cut to another scene, and the one after a cut to this scene.
        rate: Frames per second.
    """
    found = []
    for (before, _), (_, after) in permutations(scenes, 2):
        detector = CutDetector()
        detector.cut(before, 0.0)
        found.append(detector.cut(after, 1 / rate))
    return round(sum(found) / len(found), 4)


def page(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    cells = [
        [
            str(row["fps"]),
            f"{row['false'] / result['minutes']:.1f}",
            *(percent(row[name]) for name in ("between_videos", "between_rooms")),
        ]
        for row in result["rows"]
    ]
    header = ["frames per second", "false cuts per minute", "cuts between videos found"]
    words = (
        f"{result['minutes']:.1f} minutes of {len(result['videos'])} videos without a cut, cuts between any "
        f"two of them,\nand cuts between any two of {result['rooms']} made rooms that all have the same "
        "range of colours."
    )
    return f"{words}\n\n{markdown_table([*header, 'cuts between made rooms found'], cells)}\n"


if __name__ == "__main__":
    sys.exit(main())
