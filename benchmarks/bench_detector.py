"""Measure how small a head the face detector finds, by the size of the frame and `--detector-size`.

    python benchmarks/bench_detector.py --videos VIDEO ...    # two minutes on a quiet machine

Heads are cut from the largest faces of the built-in scene and of the videos, each also mirrored, resized to a
width and pasted on grey frames. A head counts as found with a score of at least 0.5, which starts a track.
The cost is the time per frame with one thread, divided by that of size 480 in the same round.
Written to --out: detector.json, detector.md.
"""

import statistics
import sys
from functools import partial
from itertools import islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_bench.report import report, results_parser
from emotion_bench.rounds import interleave, ratios
from emotion_runtime.detectors import load_detector
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.sources import open_source
from emotion_train.tables import markdown_table

FRAMES = ((480, 270), (640, 360), (1280, 720), (1920, 1080), (3840, 2160))  # width, height
SIZES: tuple[Any, ...] = ("auto", 480, 960, 1280)
HEADS = (12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128, 160, 192, 224)  # width in pixels
ENOUGH = 0.85  # fraction of the heads
SURE = 0.5  # score that starts a track
FRAME = 40  # of each source, from which heads are cut: all people are in view
CONTEXT = 0.3  # around a head, in widths of it
ROUNDS = 4

Image = NDArray[np.uint8]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = results_parser(__doc__, "detector")
    parser.add_argument("--videos", nargs="*", default=[], help="videos from which more heads are cut")
    args = parser.parse_args(argv)
    return report("bench_detector", args.out / "detector.json", partial(measure, args.videos), page)


def heads_in(source: str) -> list[Image]:
    """Return the heads in a frame of a source with some of the image around them, and their mirror images."""
    with open_source(source) as frames:
        image = next(islice(frames, FRAME, None)).image
    parts = []
    for box in CenterFace(threads=1, score=SURE)(image).boxes:
        margin = CONTEXT * (box[2] - box[0])
        x1, y1, x2, y2 = (round(float(side)) for side in (*(box[:2] - margin), *(box[2:] + margin)))
        border = cv2.copyMakeBorder(image, 100, 100, 100, 100, cv2.BORDER_REPLICATE)
        part = np.asarray(border[y1 + 100 : y2 + 100, x1 + 100 : x2 + 100], np.uint8)
        parts += [part, np.ascontiguousarray(part[:, ::-1])]
    return parts


def measure(videos: list[str]) -> dict[str, Any]:
    """Return the heads found by frame, size and width of the head, and the relative cost of the sizes."""
    heads = [part for source in ("demo", *videos) for part in heads_in(source)]
    rows = []
    for width, height in FRAMES:
        costs = relative_costs(width, height)
        for size in SIZES:
            if size != "auto" and size > 2 * width:
                continue
            detector = load_detector("face", threads=1, size=size)
            found: dict[int, int] = {}
            for head in reversed(HEADS):
                count = count_found(detector, heads, head, (width, height))
                if count is not None:
                    found[head] = count
                if count == 0:  # nor are smaller ones found
                    break
            rows.append({"frame": [width, height], "size": size, "found": found, "cost": costs[size]})
    return {"heads": len(heads), "rows": rows}


def count_found(detector: Any, heads: list[Image], width: int, frame: tuple[int, int]) -> int | None:
    """Return how many heads of this width are found; None if they do not fit into the frame."""
    cell = int(width * 2.4)
    across, down = frame[0] // cell, frame[1] // cell
    if not across * down:
        return None
    found = 0
    for start in range(0, len(heads), across * down):
        image = np.full((frame[1], frame[0], 3), 128, np.uint8)
        centers = []
        for index, head in enumerate(heads[start : start + across * down]):
            scale = width * (1 + 2 * CONTEXT) / head.shape[1]
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            part = cv2.resize(head, None, fx=scale, fy=scale, interpolation=method)[:cell, :cell]
            # Spread over the frame, as far as there is room.
            left, top = index % across * (frame[0] // across), index // across * (frame[1] // down)
            image[top : top + part.shape[0], left : left + part.shape[1]] = part
            centers.append((left + part.shape[1] / 2, top + part.shape[0] / 2))
        detections = detector(image)
        middles = (detections.boxes[:, :2] + detections.boxes[:, 2:]) / 2
        sure = middles[detections.scores >= SURE]
        distances = np.linalg.norm(np.array(centers)[:, None] - sure, axis=2)
        found += int((distances.min(axis=1, initial=np.inf) < width / 3).sum())
    return found


def relative_costs(width: int, height: int) -> dict[Any, float]:
    """Return the time per frame of each size, divided by that of 480."""
    image = np.full((height, width, 3), 128, np.uint8)
    detectors = {size: load_detector("face", threads=1, size=size) for size in SIZES}
    calls = {size: partial(detector, image) for size, detector in detectors.items()}
    seconds = interleave(calls, rounds=ROUNDS)
    return {size: round(statistics.median(ratios(each, seconds[480])), 2) for size, each in seconds.items()}


def smallest(found: dict[int, int], heads: int) -> int | None:
    """Return the width from which on enough of the heads are found."""
    least = None
    for width in sorted(found, reverse=True):
        if found[width] < ENOUGH * heads:
            break
        least = width
    return least


def page(result: dict[str, Any]) -> str:
    """Return the table of the results as Markdown."""
    rows = []
    for row in result["rows"]:
        least = smallest(row["found"], result["heads"])
        rows.append(
            [
                "{} x {}".format(*row["frame"]),
                str(row["size"]),
                "none" if least is None else f"{least} px",
                f"{row['cost']:.1f}",
            ]
        )
    header = ["frame", "`--detector-size`", "smallest head found", "time, relative to 480"]
    return (
        f"Smallest width of a head from which on at least 85 % of {result['heads']} heads are found with "
        "a score of 0.5, which\nsomebody new needs. `--blur` also hides weaker detections; its range is in "
        "docs/privacy.md.\n\n" + markdown_table(header, rows) + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
