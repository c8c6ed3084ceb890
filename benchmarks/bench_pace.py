"""Measure what it costs to detect less often, to detect several frames at once, and to have many people.

    python benchmarks/bench_pace.py --videos VIDEO ... [--detector FILE.onnx]    # five minutes

Boxes: people are followed with a detection every 0.1 to 0.5 seconds and with one in every frame, and the
boxes are compared. Batches: the face network runs on several frames at once and one after the other. People:
30 people who come together are shown for ten seconds. Written to --out: pace.json, pace.md.
"""

import argparse
import statistics
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emotion_bench.between_detections import ENOUGH, agreement, read_clip
from emotion_bench.report import report, results_parser
from emotion_bench.rounds import interleave, ratios
from emotion_runtime.backends.onnx import open_session
from emotion_runtime.detectors import load_detector
from emotion_runtime.detectors.centerface import face_graph
from emotion_runtime.detectors.graph import INPUT
from emotion_runtime.errors import EmotionError
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.types import Detections
from emotion_train.tables import markdown_table

INTERVALS = (0.1, 0.2, 0.3, 0.5)  # seconds
LONGEST = 300  # frames of a video
LEAST_BOXES = 50  # of a video that counts in the summary
BATCHES, SIZES = (2, 4), ((480, 288), (640, 384), (960, 544))  # frames at once; width and height
PEOPLE, SECONDS, RATE = 30, 10, 25


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = results_parser(__doc__, "pace", quick=True)
    parser.add_argument("--videos", nargs="*", default=[], help="videos beside the built-in scene")
    parser.add_argument("--detector", action="append", default=[], help="another detector for the boxes")
    args = parser.parse_args(argv)
    return report("bench_pace", args.out / "pace.json", partial(measure, args), page)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all results."""
    return {
        "boxes": boxes(["demo", *args.videos], ["face", *args.detector], 40 if args.quick else LONGEST),
        "batches": batches(rounds=3 if args.quick else 15, sizes=SIZES[:1] if args.quick else SIZES),
        "people": people(2 if args.quick else SECONDS),
    }


def boxes(sources: list[str], detectors: list[str], limit: int) -> list[dict[str, Any]]:
    """Return the share of boxes that agree with those of a detection in every frame."""
    rows = []
    for name in detectors:
        detector = load_detector(name, threads=1)
        for source in sources:
            clip = read_clip(source, detector, limit)
            for every in INTERVALS:
                about = {"detector": Path(name).stem, "source": Path(source).name, "every": every}
                found = asdict(agreement(clip, every))
                rows.append({**about, **found, "detect_every": round(found["detect_every"], 3)})
    return rows


def batches(*, rounds: int, sizes: tuple[tuple[int, int], ...]) -> list[dict[str, Any]]:
    """Return how much longer the face network takes for frames one by one than for a batch of them.

    Raises:
        EmotionError: The results differ.
    """
    session = open_session(face_graph().content, name="the face network", fix="", threads=1)
    rng, rows = np.random.default_rng(0), []
    for width, height in sizes:
        for count in BATCHES:
            together = rng.integers(0, 256, (count, height, width, 3), np.uint8)
            one_by_one = [together[i : i + 1] for i in range(count)]
            joined = session.run(None, {INPUT: together})
            for i, single in enumerate(one_by_one):
                for a, b in zip(joined, session.run(None, {INPUT: single}), strict=True):
                    if not np.array_equal(a[i : i + 1], b):
                        raise EmotionError("a batch of frames gives other results than one frame at a time")
            seconds = interleave(
                {
                    "single": lambda parts=one_by_one: [session.run(None, {INPUT: x}) for x in parts],
                    "batch": lambda x=together: session.run(None, {INPUT: x}),
                },
                rounds=rounds,
            )
            ratio = statistics.median(ratios(seconds["single"], seconds["batch"]))
            rows.append({"size": [width, height], "frames": count, "ratio": round(ratio, 2)})
    return rows


def people(seconds: float) -> dict[str, Any]:
    """Return how evenly the encodings of many people who came together are spread over the frames."""
    image = np.random.default_rng(0).integers(0, 255, (540, 960, 3), np.uint8)
    corners = [(20 + 90 * (i % 10), 20 + 150 * (i // 10)) for i in range(PEOPLE)]
    found = Detections(
        np.array([(x, y, x + 60, y + 70) for x, y in corners], np.float32), np.full(PEOPLE, 0.9, np.float32)
    )
    runtime = EmotionRuntime("nano", detector=lambda _: found)
    spent = []
    for index in range(int(seconds * RATE)):
        start = time.process_time()  # of all threads, and not of other programs
        runtime.step(image, index / RATE)
        spent.append(1000 * (time.process_time() - start))
    settled = np.array(spent[RATE:])  # after a second
    return {
        "people": PEOPLE,
        "mean_ms": round(float(settled.mean()), 1),
        "p95_ms": round(float(np.percentile(settled, 95)), 1),
        "worst_to_mean": round(float(settled.max() / settled.mean()), 2),
        "p95_to_mean": round(float(np.percentile(settled, 95) / settled.mean()), 2),
        "encode_every": round(runtime.rates()["default"].encode_every or 0.0, 3),
    }


def page(result: dict[str, Any]) -> str:
    """Return the tables of the results as Markdown."""
    rows = [
        [
            row["detector"],
            row["source"],
            f"{row['every']} s",
            f"{row['detect_every']:.2f} s",
            str(row["boxes"]),
            _share(row["agreeing"], row["boxes"]),
            _share(row["predicted_agreeing"], row["predicted"]),
        ]
        for row in result["boxes"]
        if row["boxes"]
    ]
    header = ["detector", "video", "`--detect-every`", "detected every", "boxes", "agree"]
    pairs = [
        ["{} x {}".format(*row["size"]), str(row["frames"]), f"{row['ratio']:.2f}"]
        for row in result["batches"]
    ]
    crowd = result["people"]
    return (
        "Boxes of people who are followed with a detection in every frame, and the share of them that agrees "
        f"(intersection\nover union of at least {ENOUGH}) with boxes if people are detected less often.\n\n"
        + summary(result)
        + "\n\nVideo by video:\n\n"
        + markdown_table([*header, "predicted ones agree"], rows)
        + "\n\nTime of the face network for frames one by one, divided by that for all of them at once, with "
        "one thread: a\nbatch is faster where this is more than 1. The results are the same bits.\n\n"
        + markdown_table(["network's input", "frames", "one by one / at once"], pairs)
        + f"\n\n{crowd['people']} people who came together: mean {crowd['mean_ms']} ms of CPU time per frame "
        f"without detection, 95th percentile {crowd['p95_to_mean']} times\nand worst frame "
        f"{crowd['worst_to_mean']} times the mean; each person encoded every {crowd['encode_every']:.2f} s.\n"
    )


def summary(result: dict[str, Any]) -> str:
    """Return the agreement over videos of real people with enough boxes, each of which counts once.

    The built-in scene is left out: its two people hardly move.
    """
    rows = [row for row in result["boxes"] if row["boxes"] >= LEAST_BOXES and row["source"] != "demo"]
    lines = []
    for name in dict.fromkeys(row["detector"] for row in rows):
        for every in INTERVALS:
            some = [row for row in rows if (row["detector"], row["every"]) == (name, every)]
            shares = {row["source"]: row["agreeing"] / row["boxes"] for row in some}
            worst = min(shares, key=shares.__getitem__)
            real = [row["detect_every"] for row in some]
            lines.append(
                [
                    f"`{name}`",
                    f"{every}",
                    f"{min(real):.2f} to {max(real):.2f} s",
                    f"{len(shares)}",
                    f"{100 * np.mean(list(shares.values())):.1f} %",
                    f"{100 * shares[worst]:.1f} % ({Path(worst).stem})",
                ]
            )
    header = ["detector", "`--detect-every`", "detected every", "videos", "agree, mean", "worst video"]
    return markdown_table(header, lines)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


if __name__ == "__main__":
    sys.exit(main())
