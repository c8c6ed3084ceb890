"""Measure how many heads are found in people whose whole bodies are detected, and what that changes.

    python benchmarks/bench_heads.py --videos VIDEO ... --detector yolox.onnx    # a minute

20 frames of each video are looked at as photos, by three runtimes: with the detector of whole people, where
the crops are those of the heads that are found; with the same boxes, but crops of whole people; and with the
detector `face`. The emotions of the first two are compared with those of the third. The counts are the same
in every run; the time of looking for a head is that of one person, divided by that of detecting in one
frame. Written to --out: heads.json, heads.md.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from emotion_bench.made_cameras import Image
from emotion_bench.report import report, results_parser
from emotion_bench.through_runtime import likeliest
from emotion_runtime.detectors import load_detector
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.sources import open_source
from emotion_runtime.types import Person
from emotion_train.tables import markdown_table, percent

FRAMES = 20  # of each video


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = results_parser(__doc__, "heads")
    parser.add_argument("--videos", nargs="+", required=True, help="videos of people")
    parser.add_argument("--detector", required=True, help="ONNX file of a detector of whole people")
    args = parser.parse_args(argv)
    return report("bench_heads", args.out / "heads.json", partial(measure, args.videos, args.detector), page)


def measure(videos: list[str], detector: str) -> dict[str, Any]:
    """Return what is found in each video, and the time of looking for a head."""
    whole = load_detector(detector)
    with (
        EmotionRuntime(detector=detector) as of_heads,
        EmotionRuntime(detector=lambda image: whole(image)) as of_bodies,  # noqa: PLW0108 - hides its class
        EmotionRuntime() as of_faces,
    ):
        rows = [measure_video(video, of_heads, of_bodies, of_faces) for video in videos]
        seconds = of_heads.timer.seconds
    frames, people = (sum(row[name] for row in rows) for name in ("frames", "people"))
    return {
        "detector": Path(detector).stem,
        "time_of_a_head": round(seconds["heads"] / people / (seconds["detect"] / frames), 2),
        "rows": rows,
    }


def measure_video(
    video: str, of_heads: EmotionRuntime, of_bodies: EmotionRuntime, of_faces: EmotionRuntime
) -> dict[str, Any]:
    """Return the people, heads and labels in a video, and how many emotions are those with `face`."""
    counts = dict.fromkeys(("people", "heads", "labels", "compared", "same_of_head", "same_of_body"), 0)
    images = frames_of(video)
    for image in images:
        people, bodies, faces = (runtime.look(image) for runtime in (of_heads, of_bodies, of_faces))
        counts["people"] += len(people)
        counts["heads"] += sum(map(has_head, people))
        counts["labels"] += sum(person.top is not None for person in people)
        for person, body in zip(people, bodies, strict=True):
            face = face_in(person, faces)
            if face and has_head(person):
                counts["compared"] += 1
                counts["same_of_head"] += likeliest(person) == likeliest(face)
                counts["same_of_body"] += likeliest(body) == likeliest(face)
    return {"video": Path(video).name, "frames": len(images), **counts}


def frames_of(video: str) -> list[Image]:
    """Return images of a video at equal distances."""
    with open_source(video) as opened:
        images = [frame.image for frame in opened]
    return images[:: max(len(images) // FRAMES, 1)][:FRAMES]


def has_head(person: Person) -> bool:
    """Return whether the head of a person was found."""
    return person.quality is not None and person.quality.head_px > 0


def face_in(person: Person, faces: list[Person]) -> Person | None:
    """Return the only face whose centre is in the box of a person; None if there are several, or none."""
    x1, y1, x2, y2 = person.box
    inside = [
        face
        for face in faces
        if x1 <= (face.box[0] + face.box[2]) / 2 <= x2 and y1 <= (face.box[1] + face.box[3]) / 2 <= y2
    ]
    return inside[0] if len(inside) == 1 else None


def page(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    cells = [
        [row["video"], *(str(row[name]) for name in ("people", "heads", "labels"))] for row in result["rows"]
    ]
    compared, head, body = (
        sum(row[name] for row in result["rows"]) for name in ("compared", "same_of_head", "same_of_body")
    )
    header = ["video", f"people ({result['detector']})", "heads found", "labels"]
    return (
        f"{markdown_table(header, cells)}\n\n"
        f"{compared} of these people are also found by the detector `face`. The likeliest emotion is the "
        f"same for {percent(head / compared, 0)}\nof them if the crop is that of the head, and for "
        f"{percent(body / compared, 0)} if it is that of the body. Looking for one head\ntakes "
        f"{percent(result['time_of_a_head'], 0)} of the time of a detection in one frame.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
