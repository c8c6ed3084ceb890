"""Measure which fraction of faces `--blur faces` hides, by the width of the head and the size of the frame.

    python benchmarks/bench_blur.py --videos VIDEO ...    # some minutes

Two measurements:
- Heads of known width, cut from large faces as in `bench_detector.py`, move over grey frames. Where they are
  is known, whatever a detector finds.
- Videos as they are. The faces to hide are those that the same network finds with a score of at least 0.5 in
  a frame enlarged to twice its size: this tells what the usual size and score miss, and nothing about faces
  that it does not see at any size, such as those turned away.
A face is hidden if 95 % of its box is. Written to --out: blur.json, blur.md.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bench_detector import CONTEXT, heads_in
from emotion_bench.report import report, results_parser
from emotion_runtime.detectors import load_detector
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.privacy.hiding import hidden
from emotion_runtime.privacy.regions import PeopleRegions
from emotion_runtime.sources import open_source
from emotion_runtime.tracker import Tracker
from emotion_runtime.types import Box, Detections
from emotion_train.tables import markdown_table, percent

Image = NDArray[np.uint8]

FRAMES = ((480, 270), (640, 360), (1280, 720), (1920, 1080))  # width, height
HEADS = (12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96)  # width in pixels
STEPS = 6  # frames over which pasted heads move
MOVED = 0.05  # widths of a head from one frame to the next
RATE = 10.0  # of these frames, per second
CELL = 2.6  # widths of a head from one to the next
WIDTHS = (0, 16, 24, 32, 48, 64, 10_000)  # of heads in videos, in pixels: limits of the rows
SURE = 0.5  # least score of a face that should be hidden
COVERED = 0.95  # fraction of a face's box
EVERY = 5  # frames between two that are compared
_FACE = ((0.25 / 1.5, 0.30 / 1.35), (1 - 0.25 / 1.5, 1 - 0.05 / 1.35))  # in a head's box, see `head_box`


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = results_parser(__doc__, "blur")
    parser.add_argument("--videos", nargs="*", default=[], help="videos besides the built-in scene")
    args = parser.parse_args(argv)
    return report("bench_blur", args.out / "blur.json", partial(measure, args.videos), page)


def measure(videos: list[str]) -> dict[str, Any]:
    """Return the shares of pasted heads, and of faces in the videos, that are hidden."""
    sources = ("demo", *videos)
    heads = [head for source in sources for head in heads_in(source)]
    faces = [face for source in sources for face in faces_of(source)]
    pasted = [row for frame in FRAMES for row in pasted_rows(heads, frame)]
    names = [Path(video).name for video in videos]
    return {"videos": names, "heads": len(heads), "pasted": pasted, "rows": rows_of(faces)}


def pasted_rows(heads: Sequence[Image], frame: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """Yield how many of the heads that move over frames of a size (width, height) are hidden, by width."""
    detector = load_detector("face", threads=1)
    for width in HEADS:
        cell = round(CELL * width)
        across, down = frame[0] // cell, frame[1] // cell
        shown = hidden_count = 0
        for start in range(0, len(heads) if across * down else 0, across * down or 1):
            regions, tracker = PeopleRegions("faces"), Tracker()
            some = heads[start : start + across * down]
            for step in range(STEPS):
                image, faces = pasted(some, width, frame, round(step * MOVED * width))
                found, t = detector(image), step / RATE
                tracker.update(found, t)
                mask = mask_of(regions.update(found, tracker.missing(t), t), image.shape[:2])
                shown += len(faces)
                hidden_count += sum(share(mask, face) >= COVERED for face in faces)
        if shown:
            yield {"frame": list(frame), "width": width, "faces": shown, "hidden": hidden_count}


def pasted(heads: Sequence[Image], width: int, frame: tuple[int, int], moved: int) -> tuple[Image, list[Box]]:
    """Return a grey frame with heads of a width, moved by so many pixels to the right, and their faces."""
    cell = round(CELL * width)
    image, faces = np.full((frame[1], frame[0], 3), 128, np.uint8), []
    across, down = frame[0] // cell, frame[1] // cell
    for index, head in enumerate(heads):
        scale = width * (1 + 2 * CONTEXT) / head.shape[1]
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        part = cv2.resize(head, None, fx=scale, fy=scale, interpolation=method)
        left = index % across * (frame[0] // across) + moved
        top = index // across * (frame[1] // down)
        room = image[top : top + part.shape[0], left : left + part.shape[1]]
        room[:] = part[: room.shape[0], : room.shape[1]]
        low = np.array([left, top]) + CONTEXT * width
        size = np.array([width, part.shape[0] - 2 * CONTEXT * width])
        x1, y1, x2, y2 = np.concatenate([low + size * _FACE[0], low + size * _FACE[1]]).tolist()
        faces.append((x1, y1, x2, y2))
    return image, faces


def faces_of(source: str) -> Iterator[dict[str, Any]]:
    """Yield every face of the compared frames: width of the head, whether it is hidden, and found again."""
    detector, regions, tracker = load_detector("face", threads=1), PeopleRegions("faces"), Tracker()
    with open_source(source) as frames:
        for frame in frames:
            found = detector(frame.image)
            tracker.update(found, frame.t)
            boxes = regions.update(found, tracker.missing(frame.t), frame.t)
            if frame.index % EVERY:
                continue
            height, width = frame.image.shape[:2]
            finder = CenterFace(threads=1, score=SURE, long_side=2 * max(height, width))
            faces = faces_in(finder(frame.image))
            left = faces_in(finder(hidden(frame.image, boxes)))
            mask = mask_of(boxes, (height, width))
            for face in faces:
                yield {
                    "width": float(1.5 * (face[2] - face[0])),
                    "hidden": share(mask, face) >= COVERED,
                    "again": any(middle_inside(other, face) for other in left),
                }


def faces_in(detections: Detections) -> list[Box]:
    """Return the faces inside the boxes of heads."""
    heads = np.zeros((0, 4)) if detections.heads is None else detections.heads
    low, size = heads[:, :2], heads[:, 2:] - heads[:, :2]
    faces = np.hstack([low + size * _FACE[0], low + size * _FACE[1]])
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in faces.tolist()]


def mask_of(boxes: Sequence[Box], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return where boxes are in an image of a shape (H, W)."""
    mask = np.zeros(shape, bool)
    for x1, y1, x2, y2 in np.clip(np.rint(boxes or [(0, 0, 0, 0)]), 0, None).astype(int):
        mask[y1:y2, x1:x2] = True
    return mask


def share(mask: NDArray[np.bool_], box: Box) -> float:
    """Return which fraction of a box, as far as it is in the image, is in a mask (H, W)."""
    x1, y1, x2, y2 = (max(round(side), 0) for side in box)
    part = mask[y1:y2, x1:x2]
    return float(part.mean()) if part.size else 1.0


def middle_inside(face: Box, other: Box) -> bool:
    """Return whether the middle of a face is in another one."""
    x, y = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2
    return other[0] <= x <= other[2] and other[1] <= y <= other[3]


def rows_of(faces: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the counts by width of the head."""
    rows = []
    for low, high in pairwise(WIDTHS):
        own = [face for face in faces if low <= face["width"] < high]
        counts = {name: sum(face[name] for face in own) for name in ("hidden", "again")}
        rows.append({"from": low, "below": high, "faces": len(own), **counts})
    return rows


def page(result: dict[str, Any]) -> str:
    """Return the tables of the results as Markdown."""
    shares = {(*row["frame"], row["width"]): row["hidden"] / row["faces"] for row in result["pasted"]}
    widths = sorted({row["width"] for row in result["pasted"]})
    header = ["frame", *(f"{width} px" for width in widths)]
    rows = [
        [
            f"{frame[0]} x {frame[1]}",
            *(percent(shares[(*frame, width)]) if (*frame, width) in shares else "-" for width in widths),
        ]
        for frame in FRAMES
    ]
    pasted_table = markdown_table(header, rows)
    rows = []
    for row in result["rows"]:
        if row["faces"]:
            last = row["below"] == WIDTHS[-1]
            name = f"{row['from']} or more" if last else f"{row['from']} to {row['below']}"
            rows.append([name, str(row["faces"]), percent(row["hidden"] / row["faces"]), str(row["again"])])
    header = ["width of the head, pixels", "faces", "hidden", "found again in what leaves"]
    return (
        "# Faces hidden by --blur faces\n\n"
        f"{result['heads']} heads of known width, which move over grey frames: share of the faces that are "
        f"hidden.\n\n{pasted_table}\n\n"
        f"Faces in videos as they are.\n\n{markdown_table(header, rows)}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
