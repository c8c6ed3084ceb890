"""What a run takes: processor time, delays and the pace that the scheduler chose."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emotion_bench.made_cameras import Image
from emotion_bench.networks import network_time
from emotion_bench.updates import Updates, View
from emotion_bench.work import Limits, Work, work_of
from emotion_runtime.backends.onnx import default_threads
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.detectors.graph import INPUT
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.sources.live import LiveSource
from emotion_runtime.timing import Timing

_SETTLED = 4.0  # seconds after which the pace has been chosen and everybody has a label


def live_load(
    runtime: EmotionRuntime, sources: Sequence[LiveSource], *, seconds: float, settle: float = _SETTLED
) -> dict[str, Any]:
    """Run live sources for some time and return what that took.

    Processor time is that of the whole process, so that other programs disturb it less than elapsed time:
    with the capturing threads, and without decoding if the sources have nothing to decode. Networks are not
    timed meanwhile: reading the clock of all threads around each call took 5 to 9 % of one camera's load.

    Args:
        runtime: The runtime, which stays open.
        sources: The sources, which are closed.
        seconds: How long is measured.
        settle: Seconds before that, from the first event on: until then models are opened.

    Returns:
        cores: processor time by elapsed time; fps: processed frames of all sources per second; people:
        people per frame; p50_ms and p95_ms from capture to event; dropped: fraction of frames; detect_every_s
        and encode_every_s: what really happened, means over the sources.
    """
    delays: list[float] = []
    people, dropped, spent, elapsed = 0, 0, 0.0, 0.0
    counted: dict[str, int] = {}  # frames dropped so far
    start = cpu = begin = math.nan
    for frame, event in runtime.follow(sources):
        more = event.dropped - counted.get(frame.source, 0)
        counted[frame.source] = event.dropped
        now = time.monotonic()
        if math.isnan(begin):
            begin = now + settle
        if now < begin:
            continue
        if math.isnan(start):
            start, cpu = now, time.process_time()
            continue
        delays.append(event.latency_ms)
        dropped += more
        people += sum(person.state != "lost" for person in event.persons)
        if now - start >= seconds:
            spent, elapsed = time.process_time() - cpu, now - start
            rates = runtime.rates().values()
            break
    for source in sources:
        source.close()
    frames = len(delays)
    return {
        "cores": round(spent / elapsed, 4),
        "fps": round(frames / elapsed, 2),
        "people": round(people / frames, 2),
        **{f"p{n}_ms": round(float(np.percentile(delays, n, method="inverted_cdf")), 1) for n in (50, 95)},
        "dropped": round(dropped / (frames + dropped), 4),
        "detect_every_s": _mean(each.detect_every for each in rates),
        "encode_every_s": _mean(each.encode_every for each in rates),
    }


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 3) if known else None


def network_work(image: Image) -> tuple[Work, Work]:
    """Return the work of a detection in a frame (H, W, 3) uint8 BGR, and of one update of a person in it."""
    detector, updates = CenterFace(threads=1), Updates("nano")
    pixels, _ = detector.prepare(image)
    detecting = work_of(detector.graph.content, {INPUT: pixels[None]})
    return detecting, updates.work([View(image, [tuple(detector(image).boxes[0].tolist())])], clips=1)


def network_cores(
    work: tuple[Work, Work], people: int, sources: int, load: dict[str, Any], limits: Limits
) -> float | None:
    """Return how many cores the networks need at least at the pace of a `live_load`; None: a GPU runs them.

    Args:
        work: What `network_work` returned for frames of this size.
        people: Number of people in each frame.
        sources: Number of sources.
        load: What `live_load` returned, and as "backend" what ran the networks.
        limits: The limits of this machine, all of whose cores they were measured with.
    """
    if any(name in load["backend"].lower() for name in ("cuda", "tensorrt")):
        return None
    detecting, encoding = map(limits.ms, work)
    detections, encodings = (load[name] or math.inf for name in ("detect_every_s", "encode_every_s"))
    busy: float = sources * (detecting / detections + people * encoding / encodings) / 1000
    return round(busy * default_threads(), 4)


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Processor time of frames, in milliseconds each.

    Attributes:
        whole_ms: All of it.
        outside_ms: Outside of networks.
    """

    whole_ms: list[float]
    outside_ms: list[float]


def step_costs(clip: Sequence[Image], *, rate: float, seconds: float, every: float) -> StepCosts:
    """Measure the frames of a clip one by one, as fast as they go.

    Args:
        clip: Images (H, W, 3) uint8 BGR, which are repeated.
        rate: Frames per second of the video that they are.
        seconds: How many seconds of it are measured, after one more.
        every: Seconds between two detections, and between two encodings of a person.
    """
    runtime = EmotionRuntime(timing=Timing(every=every, detect_every=every))
    costs = StepCosts([], [])
    with network_time() as networks:
        for index in range(round((seconds + 1) * rate)):
            start, inside = time.process_time(), networks.cpu_seconds
            runtime.step(clip[index % len(clip)], index / rate)
            spent, inside = time.process_time() - start, networks.cpu_seconds - inside
            if index >= rate:
                costs.whole_ms.append(1000 * spent)
                costs.outside_ms.append(1000 * (spent - inside))
    runtime.close()
    return costs
