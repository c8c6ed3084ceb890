"""The runtime and loops over single faces on the same clips: what they predict, and how long that takes."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_bench.accuracy_sets import Plan
from emotion_bench.networks import Inputs, network_time
from emotion_bench.peers import Peer
from emotion_bench.through_runtime import GAP, most_overlapping
from emotion_bench.work import Limits, Work, input_names, work_of
from emotion_runtime.detectors import Detector
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.tracker import START_SCORE
from emotion_runtime.types import Box
from emotion_train.language.labels import ekman_index
from emotion_train.scenes.sets import RenderedClip

Image = NDArray[np.uint8]
Found = list[tuple[Box, int]]  # the head and the class, in `EKMAN` order, of each person in a frame

# An aligned face crop has this side and lies this much lower than the box of its head, in widths of the head
# and in sides of the crop, on average over the heads that the default detector finds.
_SIDE, _LOWER = 0.855, 0.11


@dataclass(frozen=True, slots=True)
class System:
    """A whole system.

    Attributes:
        step: Takes (H, W, 3) uint8 BGR and the time in seconds.
        cadence: How often it does what, for reports.
        graphs: The networks that it runs.
    """

    step: Callable[[Image, float], Found]
    cadence: str
    graphs: Sequence[Path | bytes] = ()


def ours(runtime: EmotionRuntime, cadence: str, graphs: Sequence[Path | bytes]) -> System:
    """Return the runtime as a system."""
    order = [ekman_index(label) for label in runtime.labels]

    def step(image: Image, t: float) -> Found:
        people = [person for person in runtime.step(image, t).persons if person.raw]
        return [(p.box, order[int(np.argmax([p.raw[label] for label in runtime.labels]))]) for p in people]

    return System(step, cadence, graphs)


def face_loop(detector: Detector, peer: Peer, width: float, *graphs: Path | bytes) -> System:
    """Return a system that detects in every frame, and classifies every face of it, one after the other.

    Args:
        detector: Finds heads.
        peer: Classifies faces.
        width: Width of the crops that the peer sees, see `peers.cut`.
        graphs: The detector's networks.
    """
    order = [ekman_index(label) for label in peer.labels]

    def step(image: Image, _: float) -> Found:
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
        found = detector(image)
        result: Found = []
        for x1, y1, x2, y2 in found.boxes[found.scores >= START_SCORE].tolist():
            face = _face(grey, (x1, y1, x2, y2), width, peer.side)
            (scores,) = peer(face[None])
            result.append(((x1, y1, x2, y2), order[int(np.argmax(scores))]))
        return result

    return System(step, "both in every frame", (*graphs, peer.graph))


def _face(grey: Image, box: Box, width: float, side: int) -> Image:
    """Return the aligned crop (side, side) of a face, from the box of its head."""
    x1, y1, x2, y2 = box
    crop = _SIDE * (x2 - x1)
    scale = side / (width * crop)
    center = ((x1 + x2) / 2, (y1 + y2) / 2 + _LOWER * crop)
    shift = [side / 2 - 0.5 - scale * each for each in center]
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return np.asarray(cv2.warpAffine(grey, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), np.uint8)


@dataclass(slots=True)
class _Score:
    """What one system did on the clips of one number of people."""

    found: list[bool] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    frames: int = 0
    calls: Counter[Inputs] = field(default_factory=Counter)


def compare_systems(
    systems: Mapping[str, System], plan: Plan, people: Sequence[int], limits: Limits, *, rate: float
) -> dict[str, Any]:
    """Run every system on every clip, in another order for each clip.

    Args:
        systems: The systems, by name.
        plan: What the clips are rendered from.
        people: Numbers of people in the clips.
        limits: What one core of this machine reaches.
        rate: Frames per second of the clips.

    Returns:
        frame_sizes: width and height of the smallest and of the largest frames, by area. systems: for each
        system and number of people: persons; found: the fraction of them that are in the result of the last
        frame; accuracy of these predictions; ms_per_frame: processor time, median over the clips;
        gflop_per_frame and limit_ms: work of the networks, and the processor time that it takes at least.
    """
    sizes: set[tuple[int, int]] = set()
    scores = {(name, count): _Score() for name in systems for count in people}
    for index, clip in enumerate(plan.rendered_clips(tuple(people))):
        frames = [np.ascontiguousarray(rgb[..., ::-1]) for rgb in clip.frames]
        names = list(systems)
        sizes.add((clip.scene.width, clip.scene.height))
        for name in names[index % len(names) :] + names[: index % len(names)]:
            score = scores.get((name, len(clip.scene.people)))
            if score is not None:  # the last clip may have fewer people
                with network_time() as networks:
                    start, last = time.process_time(), []
                    for i, frame in enumerate(frames):
                        last = systems[name].step(frame, index * GAP + i / rate)
                    score.ms.append(1000 * (time.process_time() - start) / len(frames))
                score.frames += len(frames)
                score.calls += networks.calls
                _judge(score, last, clip, plan)
    known: dict[tuple[Path | bytes, Inputs], Work] = {}
    rows = []
    for (name, count), score in scores.items():
        if not score.found:
            continue
        work = _work(systems[name].graphs, score.calls, known)
        row = {
            "system": name,
            "cadence": systems[name].cadence,
            "people": count,
            "persons": len(score.found),
            "found": round(float(np.mean(score.found)), 4),
            "accuracy": round(sum(score.right) / max(len(score.right), 1), 4),
            "ms_per_frame": round(statistics.median(score.ms), 2),
            "gflop_per_frame": round(work.flops / score.frames / 1e9, 3),
            "limit_ms": round(limits.ms(work) / score.frames, 2),
        }
        rows.append(row)
    by_area = sorted(sizes, key=lambda size: size[0] * size[1])
    return {"frame_sizes": [list(by_area[0]), list(by_area[-1])], "systems": rows}


def _work(
    graphs: Sequence[Path | bytes],
    calls: Mapping[Inputs, int],
    known: dict[tuple[Path | bytes, Inputs], Work],
) -> Work:
    """Return the work of all calls; that of one call is kept in `known`."""
    total = Work(0, 0)
    by_names = {input_names(graph): graph for graph in graphs}
    for inputs, count in calls.items():
        graph = by_names[frozenset(name for name, _, _ in inputs)]
        if (graph, inputs) not in known:
            feeds = {name: np.zeros(shape, kind) for name, kind, shape in inputs}
            known[graph, inputs] = work_of(graph, feeds)
        one = known[graph, inputs]
        total += Work(count * one.flops, count * one.bytes)
    return total


def _judge(score: _Score, found: Found, clip: RenderedClip, plan: Plan) -> None:
    """Compare what was found in the last frame of a clip with the people in it."""
    for person in clip.scene.people:
        box = clip.boxes(person)[-1]
        nearest = most_overlapping([each for each, _ in found], box)
        score.found.append(nearest is not None)
        if nearest is not None:
            score.right.append(found[nearest][1] == plan.label(person))
