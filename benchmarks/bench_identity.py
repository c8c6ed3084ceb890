"""Measure how well people are kept apart: wrong labels after cuts and swaps, and false resets in between.

    python benchmarks/bench_identity.py --data DIR --videos VIDEO ...    # ten minutes

Scenes are composed of the people of the built-in scene and of the videos, in which everybody must stay in
view, and of validation faces of FER2013. Half of the people and of the scenes serve to choose the limits of
`swap` in bundle.json, the other half to measure what they give. The videos themselves are also run as they
are, with the face detector. Written to --out: identity.json, identity.md.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from emotion_bench.identity_choice import CONTINUOUS, FILMED, TARGETS, choose, outcome
from emotion_bench.identity_page import page
from emotion_bench.identity_runs import Runs, Tally
from emotion_bench.identity_scenes import (
    Actor,
    Scene,
    crossing,
    cuts,
    filmed,
    photographed,
    pillar,
    rooms,
    seat,
    swap,
    together,
)
from emotion_bench.report import report, results_parser
from emotion_runtime.bundle import load_bundle
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import SwapLimits
from emotion_runtime.open_pipeline import Execution, open_pipeline
from emotion_runtime.sources import open_source
from emotion_runtime.timing import Timing
from emotion_train.scenes.faces import FACES_FILE, load_faces

ALWAYS = (0.6, 0.68, 0.73, 0.78)
SUSPICIOUS = (0.85, 0.9, 0.95)
FACES_PER_EMOTION = 6
SCENES = 10  # of each kind with changes
LONG_SCENES, LONG_SECONDS = 12, 20.0  # continuous ones and their length
SHIFTS = (0.0, 0.3, 0.6)  # head widths between the two people of a cut


@dataclass(frozen=True)
class Cast:
    """People and the labels that each of them has alone."""

    actors: list[Actor]
    labels: dict[str, set[str]]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = results_parser(__doc__, "identity", quick=True)
    parser.add_argument("--data", type=Path, required=True, help=f"folder that contains {FACES_FILE}")
    parser.add_argument("--videos", nargs="*", default=[], help="videos in which all people stay in view")
    parser.add_argument("--bundle", default="nano", help="name or folder of the bundle")
    args = parser.parse_args(argv)
    sources = ["demo", *args.videos]
    measuring = partial(measure, args.bundle, args.data, sources, quick=args.quick)
    return report("bench_identity", args.out / "identity.json", measuring, page)


def measure(bundle: str, data: Path, sources: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Return the results of the grid of limits, of the chosen ones, of the bundle's, and of none."""
    actors = people(data, sources)
    alone = Runs(bundle, [None])
    room = rooms(1, 0)[0]
    labels = {each.name: alone.labels_alone(each, room, 2 if len(each.tiles) == 1 else 8) for each in actors}
    halves = [Cast(actors[half::2], labels) for half in (0, 1)]
    count = 1 if quick else SCENES
    grid = [SwapLimits(always, suspicious) for always in ALWAYS for suspicious in SUSPICIOUS]
    choosing = tallies(bundle, grid, halves[0], 1, (count + 1) // 2, 1 if quick else 8)
    chosen = choose(choosing)
    manifest = load_bundle(bundle).manifest
    reported: list[SwapLimits | None] = [chosen, None]
    if manifest.swap and manifest.swap != chosen:
        reported.append(manifest.swap)
    reporting = tallies(bundle, reported, halves[1], 2, count, 1 if quick else LONG_SCENES)
    return {
        "people": {
            half: {"filmed": len(filmed_of(cast)), "faces": len(cast.actors) - len(filmed_of(cast))}
            for half, cast in zip(("choosing", "reporting"), halves, strict=True)
        },
        "filmed_seconds": round(
            sum(len(each.tiles) / each.rate for each in actors if len(each.tiles) > 1), 1
        ),
        "targets": TARGETS,
        "choosing": [outcome(limits, kinds) for limits, kinds in choosing],
        "reporting": [outcome(limits, kinds) for limits, kinds in reporting],
        "clips": [clip(bundle, source) for source in sources],
    }


def people(data: Path, sources: Sequence[str]) -> list[Actor]:
    """Return the people of the videos, and faces of every emotion on which most of the voters agree."""
    detector = load_detector("face", threads=1)
    actors = []
    for source in sources:
        with open_source(source) as frames:
            actors += filmed(Path(source).stem, list(frames), detector)
    faces = load_faces(data / FACES_FILE, "val").by_majority()
    rng = np.random.default_rng(0)
    rows = [
        int(row)
        for emotion in np.unique(faces.labels)
        for row in rng.permutation(np.flatnonzero((faces.labels == emotion) & faces.clear))[
            :FACES_PER_EMOTION
        ]
    ]
    return actors + photographed(faces, rows)


def filmed_of(cast: Cast) -> list[Actor]:
    """Return the people who are not single images."""
    return [each for each in cast.actors if len(each.tiles) > 1]


def scenes(cast: Cast, seed: int, count: int, long_count: int) -> dict[str, list[Scene]]:
    """Return scenes of each kind; two people who follow each other have no label in common.

    Args:
        cast: The people.
        seed: Seed of the pairs and of the rooms.
        count: Number of scenes of each kind with changes.
        long_count: Number of continuous scenes.
    """
    rng = np.random.default_rng(seed)
    room = rooms(8, seed)
    pairs = [
        (a, b)
        for a, b in permutations(cast.actors, 2)
        if cast.labels[a.name] and cast.labels[b.name] and not cast.labels[a.name] & cast.labels[b.name]
    ]
    if not pairs:
        raise EmotionError("no two people have different labels: give more --videos, or another bundle")
    with_filmed = [pair for pair in pairs if len(pair[0].tiles) > 1 or len(pair[1].tiles) > 1] or pairs

    def some() -> list[tuple[int, Actor, Actor]]:
        chosen = []
        for index in range(count):
            among = (pairs, with_filmed)[index % 2]  # faces alone would be most of the pairs
            chosen.append((index, *among[int(rng.integers(len(among)))]))
        return chosen

    long = filmed_of(cast)
    return {
        "cuts in one room": [cuts(a, b, room[i % 8 :][:1], SHIFTS[i % 3], 10) for i, a, b in some()],
        "cuts between rooms": [
            cuts(a, b, [room[i % 8], room[(i + 3) % 8]], SHIFTS[i % 3], 10) for i, a, b in some()
        ],
        "swaps": [swap(a, b, room[i % 8]) for i, a, b in some()],
        "seat": [seat(a, b, room[i % 8]) for i, a, b in some()],
        "pillar": [pillar(a, b, room[i % 8]) for i, a, b in some()],
        "crossing": [crossing(a, b, room[i % 8]) for i, a, b in some()],
        FILMED: [swap(*(long[j] for j in rng.permutation(len(long))[:2]), room[i % 8]) for i in range(count)],
        CONTINUOUS: [
            together([long[j] for j in rng.permutation(len(long))[:3]], room[i % 8], LONG_SECONDS)
            for i in range(long_count)
        ],
    }


def tallies(
    bundle: str,
    limits: Sequence[SwapLimits | None],
    cast: Cast,
    seed: int,
    count: int,
    long_count: int,
) -> list[tuple[SwapLimits | None, dict[str, Tally]]]:
    """Return what was counted in the scenes of each kind with each of the limits."""
    runs = Runs(bundle, limits)
    kinds: list[dict[str, Tally]] = [{} for _ in limits]
    for kind, some in scenes(cast, seed, count, long_count).items():
        start = time.perf_counter()
        for of_one, tally in zip(kinds, runs.tally(some, cast.labels), strict=True):
            of_one[kind] = tally
        print(f"{kind}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return list(zip(limits, kinds, strict=True))


def clip(bundle: str, source: str) -> dict[str, Any]:
    """Return the resets in a video in which nobody takes anybody's place, with the face detector."""
    detector = load_detector("face")
    pipeline = open_pipeline(bundle, detector, Execution("cpu"), head=None, timing=Timing()).pipeline
    frames, ids, last = 0, set[int](), 0.0
    with open_source(source) as opened:
        for frame in opened:
            event = pipeline.step(frame)
            visible = [person for person in event.persons if person.state != "lost"]
            frames, last = frames + len(visible), event.t
            ids |= {person.id for person in visible}
    counts = pipeline.counts
    resets = counts.swaps + counts.cuts
    minutes = frames / max(counts.frames - 1, 1) * last / 60
    return {
        "source": Path(source).name,
        "person_minutes": round(minutes, 3),
        "ids": len(ids),
        "false_resets": resets,
    }


if __name__ == "__main__":
    sys.exit(main())
