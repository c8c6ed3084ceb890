"""The report on other networks and whole systems, and the part of it on the page of benchmarks."""

from collections.abc import Mapping
from typing import Any

from scipy.stats import binomtest

from emotion_bench.report import difference, machine_of
from emotion_train.tables import markdown_table, percent

_METRICS = {"accuracy": "right", "balanced_accuracy": "balanced", "calm_taken_for_negative": "calm"}
_PAGE = """# `{bundle}` and other networks on {faces} clear test faces

    {command}

Original pixels of FER2013; the label is the emotion that more than half of ten annotators see. Whether the
others were trained on these faces is not known.

{networks}
{systems}"""

_NETWORKS = """\
Every network sees the {faces:,} aligned faces at the width that suits it best on validation faces. "Calm":
neutral and happy faces called angry, sad or afraid. Differences: `{bundle}` minus the other network on the
same faces, in points, with 95 % intervals: bootstrap, and for balanced accuracy that of independent classes
with Jeffreys' prior, since few faces are disgusted. "Time": how many times as long our frame encoder takes
for one person as the other network, median of {rounds} rounds of both in turn.
Machine: {machine}.

{table}

{verdict}"""

_SYSTEMS = """
## Whole systems on the same rendered clips

{words}
"""

_CONDITIONS = """\
Clips of {seconds:g} seconds, {fps:g} frames per second and {smallest} to {largest} pixels, without anything
to decode: test faces on drawn bodies, {persons} people in all. "Right" is of all people in the last frame
of each clip, so that somebody who is not found counts as wrong; brackets hold 95 % intervals (Wilson). "Per
frame" is processor time of all threads, median over the clips, which all systems see in turn. "Limit" is
the processor time that the networks need at least for the calls that the system made: their operations at
the measured rate of sgemm, or their bytes at that of a copy, whichever takes longer. Systems with YOLO find
persons first, and in each of them a face. The bodies are drawn: how many people YOLO finds here says little
about photographs.
Machine: {machine}; a second of one core: sgemm {gflops:g} GFLOP, copy {gbytes_per_s:g} GB.

{table}"""


def page(result: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    words = systems_part(result)
    return _PAGE.format(
        bundle=result["bundle"],
        faces=result["faces"],
        command=result.get("command", "python benchmarks/bench_peers.py"),
        networks=networks_part(result),
        systems=_SYSTEMS.format(words=words) if words else "",
    )


def networks_part(result: Mapping[str, Any]) -> str:
    """Return the table of networks with its conditions."""
    peers: Mapping[str, Mapping[str, Any]] = result["peers"]
    first = next(iter(peers.values()))
    rows = [(result["bundle"], *(percent(first[f"bundle_{name}"]) for name in _METRICS), "", "", "", "1", "")]
    rows += [
        (
            name,
            *(percent(row[f"peer_{metric}"]) for metric in _METRICS),
            *(difference(row[f"{metric}_difference"]) for metric in _METRICS),
            f"{row['time_ratio']:g}",
            f"{row['width']:g}",
        )
        for name, row in peers.items()
    ]
    header = ("", *_METRICS.values(), *(f"{name}, difference" for name in _METRICS.values()), "time", "width")
    behind = list(_behind(peers))
    return _NETWORKS.format(
        faces=result["faces"],
        bundle=result["bundle"],
        rounds=result.get("rounds", "300"),
        machine=machine_of(result),
        table=markdown_table(header, rows),
        verdict=f"Not ahead beyond chance: {'; '.join(behind)}." if behind else "Ahead of all beyond chance.",
    )


def systems_part(result: Mapping[str, Any]) -> str:
    """Return the table of whole systems with its conditions; nothing if they were not measured."""
    if "systems" not in result:
        return ""
    rows = [
        (
            row["system"],
            row["cadence"],
            str(row["people"]),
            percent(row["found"]),
            _right(row),
            f"{row['ms_per_frame']:.1f} ms",
            f"{row['limit_ms']:.1f} ms",
            percent(row["limit_ms"] / row["ms_per_frame"], 0) if row["ms_per_frame"] else "",
        )
        for row in result["systems"]
    ]
    header = ("system", "cadence", "people", "found", "right", "per frame", "limit", "of it reached")
    sizes = result["frame_sizes"]
    by_system: dict[str, int] = {}
    for row in result["systems"]:
        by_system[row["system"]] = by_system.get(row["system"], 0) + row["persons"]
    return _CONDITIONS.format(
        fps=result["clip_fps"],
        seconds=result["clip_seconds"],
        smallest="{} x {}".format(*sizes[0]),
        largest="{} x {}".format(*sizes[1]),
        persons=max(by_system.values()),
        machine=machine_of(result),
        **result["limits"],
        table=markdown_table(header, rows),
    )


def _right(row: Mapping[str, Any]) -> str:
    """Return the fraction of all people of a row whose label is right, with its interval."""
    right = round(row["persons"] * row["found"] * row["accuracy"])
    interval = binomtest(right, row["persons"]).proportion_ci(method="wilson")
    bounds = f"{100 * interval.low:.0f}-{100 * interval.high:.0f}"
    return f"{percent(right / row['persons'])} ({bounds})"


def _behind(peers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return where the interval of the difference does not show that the bundle is better."""
    found = []
    for name, row in peers.items():
        for metric, shown in _METRICS.items():
            _, low, high = row[f"{metric}_difference"]
            if high >= 0 if metric == "calm_taken_for_negative" else low <= 0:
                found.append(f"{name}, {shown}")
    return found
