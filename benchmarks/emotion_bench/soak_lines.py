"""What the JSON lines of a soak say: events, changes of status, and what is wrong with them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from emotion_bench.soak_parts import Fault

BACK = 5.0  # seconds within which a camera must be back after it is whole again
HEALTHY_GAP = 3.0  # seconds without an event of a file, at most, beyond what the machine needs for all
GROWTH = 1.15  # of memory, from a minute after the beginning to the end


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of all parts of a file, in order.

    Attributes:
        events: Seconds since the run was ready of each event, by source.
        statuses: Changes of status: seconds, source, status and reason.
        broken: Lines that are not JSON.
        disordered: Number of frames that came twice or backwards, by source.
    """

    events: dict[str, list[float]]
    statuses: list[dict[str, Any]]
    broken: int
    disordered: dict[str, int]

    def back(self, fault: Fault) -> float | None:
        """Return the seconds from the end of a fault to the next event of the source; None: it never came."""
        after = [t for t in self.events.get(fault.source, []) if t >= fault.end]
        return round(after[0] - fault.end, 2) if after else None

    def rates(self, seconds: float) -> dict[str, list[float]]:
        """Return events per second in each interval of so many seconds, by source."""
        last = max((times[-1] for times in self.events.values() if times), default=0.0)
        count = int(last / seconds)
        rates = {}
        for name, times in self.events.items():
            bins = [0] * count
            for t in times:
                if 0 <= t < count * seconds:
                    bins[int(t / seconds)] += 1
            rates[name] = [round(number / seconds, 2) for number in bins]
        return rates

    def reconnections(self, faults: Sequence[Fault]) -> dict[str, int]:
        """Return after how many faults a source was opened again, by source.

        Not after a short silence, which a connection survives. A source that is lost again and again is
        `degraded` until it has been live for a while.
        """
        found: dict[str, int] = {}
        for fault in faults:
            back = self.back(fault)
            changes = [
                line
                for line in self.statuses
                if line["source"] == fault.source
                and line["status"] in ("lost", "degraded")
                and fault.start <= line["t"] <= fault.end
            ]
            if back is not None and (changes or fault.kind in ("killed", "closed")):
                found[fault.source] = found.get(fault.source, 0) + 1
        return found


def read_lines(folder: Path, begun: float) -> Lines:
    """Read the rotated files `events*.jsonl` of a folder.

    Args:
        folder: The folder.
        begun: Wall-clock time of the beginning, as `time.time()`.
    """
    lines = Lines({}, [], 0, {})
    broken = 0
    latest: dict[str, int] = {}
    # events-0001.jsonl, events-0002.jsonl, ..., and events.jsonl is the newest.
    for path in sorted(folder.glob("events*.jsonl"), key=lambda path: (path.stem == "events", path.name)):
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                broken += 1
                continue
            if line["type"] == "run":
                continue
            seconds = datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp() - begun
            if line["type"] == "status":
                values = {key: line[key] for key in ("source", "status", "reason")}
                lines.statuses.append({"t": round(seconds, 2), **values})
                continue
            name = line["source"]
            lines.events.setdefault(name, []).append(seconds)
            if line["frame"] <= latest.get(name, -1):
                lines.disordered[name] = lines.disordered.get(name, 0) + 1
            latest[name] = line["frame"]
    return Lines(lines.events, lines.statuses, broken, lines.disordered)


def checked(
    lines: Lines,
    samples: Sequence[dict[str, float]],
    faults: Sequence[Fault],
    run: dict[str, Any],
    *,
    watchdog: float,
) -> list[str]:
    """Return what is wrong, one sentence each.

    Args:
        lines: The lines of the run.
        samples: Memory, threads and handles over time.
        faults: What happened to the cameras.
        run: Exit status, time to stop, and the longest time between two signs of life.
        watchdog: Seconds after which systemd would have ended the run.
    """
    wrong = []
    if run["status"] != 0:
        wrong.append(f"the exit status is {run['status']}")
    if run["watchdog_gap"] > watchdog:
        wrong.append(f"there was no sign of life for {run['watchdog_gap']} s")
    if lines.broken:
        wrong.append(f"{lines.broken} lines are not JSON")
    wrong += [f"{count} frames of {name} came twice" for name, count in lines.disordered.items()]
    return wrong + _about_sources(lines, faults) + _about_samples(samples)


def _about_sources(lines: Lines, faults: Sequence[Fault]) -> list[str]:
    wrong = []
    for fault in faults:
        back = lines.back(fault)
        if back is None or back > BACK:
            after = "never" if back is None else f"after {back} s"
            wrong.append(f"{fault.source} was back {after}, {fault.kind} at {fault.start:.0f} s")
    for name in ("film", "demo"):
        gap = max((b - a for a, b in pairwise(lines.events.get(name, []))), default=None)
        if gap is None or gap > HEALTHY_GAP:
            wrong.append(f"{name} has a gap of {gap or float('nan'):.1f} s")
    return wrong


def _about_samples(samples: Sequence[dict[str, float]]) -> list[str]:
    wrong = []
    early = [sample for sample in samples if 60 <= sample["t"] < 120] or list(samples)
    late = samples[-6:]
    most = max(sample["rss_mb"] for sample in early)
    if min(sample["rss_mb"] for sample in late) > GROWTH * most:
        wrong.append(f"memory grew from {most} to {late[-1]['rss_mb']} MB")
    for kind in ("threads", "handles"):
        # A camera that is away has none, so the most of the beginning is compared with the least of the end.
        before, after = max(sample[kind] for sample in early), min(sample[kind] for sample in late)
        if after > before + 2:
            wrong.append(f"{kind} grew from {before:.0f} to {after:.0f}")
    return wrong
