"""The whole runtime on a video: its speed, and whether its events are those of the CPU."""

import time
from itertools import islice
from typing import Any

from emotion_bench.networks import network_time
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.types import EmotionEvent

LARGEST_SHIFT = 0.1  # of a box, in pixels
LARGEST_DIFFERENCE = 1e-3  # of a probability; fp32 without TF32 differs by the order of sums


def run(
    source: str, backend: str, frames: int | None, bundle: str = "nano"
) -> tuple[list[EmotionEvent], dict[str, Any]]:
    """Return the events of a source, and a row with its speed after the first frame.

    The first frame is not measured: it allocates memory and starts threads.

    Args:
        source: A video, or "demo".
        backend: Name of the backend.
        frames: Largest number of frames; None means all.
        bundle: Name or folder of the bundle.
    """
    with EmotionRuntime(bundle, backend=backend) as runtime, network_time() as networks:
        events = islice(runtime.stream(source), frames)
        found = [next(events)]
        before, inside = dict(runtime.timer.seconds), networks.seconds
        start = time.perf_counter()
        found += events
        seconds = max(time.perf_counter() - start, 1e-9)
        count = max(len(found) - 1, 1)
        row = {
            "source": source.rsplit("/", 1)[-1],
            "backend": backend,
            "description": runtime.backend,
            "frames": len(found),
            "persons": max((person.id for event in found for person in event.persons), default=0),
            "persons_per_frame": round(sum(len(event.persons) for event in found) / len(found), 2),
            "fps": round((len(found) - 1) / seconds, 2),
            "ms_per_frame": {
                name: round(1000 * (total - before.get(name, 0)) / count, 3)
                for name, total in runtime.timer.seconds.items()
            },
            "share_of_networks": round((networks.seconds - inside) / seconds, 4),
        }
    return found, row


def compare_events(expected: list[EmotionEvent], found: list[EmotionEvent]) -> dict[str, Any]:
    """Compare the events of two runs over one source.

    Returns:
        Whether people and labels are the same in every frame, and the largest difference of a probability.
    """
    people, others = (
        [[(p.id, p.state) for p in event.persons] for event in each] for each in (expected, found)
    )
    pairs = [
        (a, b)
        for one, other in zip(expected, found, strict=False)
        for a, b in zip(one.persons, other.persons, strict=False)
    ]
    differences = [abs(a.raw[name] - b.raw.get(name, 2.0)) for a, b in pairs for name in a.raw]
    # The detector runs on the device, too, where sums have another order: 1e-4 pixels in fp32.
    moved = [abs(x - y) for a, b in pairs for x, y in zip(a.box, b.box, strict=True)]
    return {
        "same_people": people == others and max(moved, default=0.0) <= LARGEST_SHIFT,
        "largest_shift": max(moved, default=0.0),
        "labels_kept": sum(a.top == b.top for a, b in pairs) / max(len(pairs), 1),
        "largest_difference": max(differences, default=0.0),
        "persons": len(pairs),
    }


def check_of(source: str, backend: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return whether two runs gave the same events."""
    passed = (
        result["same_people"]
        and result["labels_kept"] == 1
        and result["largest_difference"] <= LARGEST_DIFFERENCE
        and result["persons"] > 0
    )
    return {
        "check": f"events of {source.rsplit('/', 1)[-1]}, {backend} against cpu",
        "passed": bool(passed),
        "found": f"{result['persons']} persons, the same people: {result['same_people']} (boxes within "
        f"{result['largest_shift']:.1e} pixels), labels kept {result['labels_kept']:.4f}, largest difference "
        f"{result['largest_difference']:.1e}",
        "expected": f"the same people and labels, boxes within {LARGEST_SHIFT:g} pixels, probabilities "
        f"within {LARGEST_DIFFERENCE:g}",
    }
