"""Write the measured results into docs/benchmarks.md and the model card, each between its two markers.

    python benchmarks/result_tables.py            # rewrite docs/benchmarks.md and bundles/nano/MODEL_CARD.md
    python benchmarks/result_tables.py --check    # exit with status 1 if one of them differs

Accuracy comes from results/nano/accuracy.json, which bench_accuracy.py wrote; speed from results/*/NAME.json,
which bench_NAME.py wrote, and from results/*/gpu.json, which gpu/run_all.py wrote.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_crowd
import bench_pipeline
import bench_scale
import bench_stream
import bench_targets
from emotion_bench.peers_page import networks_part, systems_part
from emotion_train.tables import markdown_table, percent

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SPEED_TARGET = 15
PAGE = ROOT / "docs" / "benchmarks.md"
CARD = ROOT / "runtime" / "emotion_runtime" / "bundles" / "nano" / "MODEL_CARD.md"
CARD_IMAGES = ("confusion.png", "reliability.png", "quality.png", "failures.png")  # beside the model card


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if a file is not up to date"
    )
    args = parser.parse_args(argv)
    stale = []
    for file, parts in ((PAGE, page_parts()), (CARD, card_parts())):
        text = wanted = file.read_text(encoding="utf-8")
        for name, content in parts.items():
            wanted = between_markers(wanted, name, content)
        if wanted != text:
            stale.append(file)
            if not args.check:
                file.write_text(wanted, encoding="utf-8")
    for name in CARD_IMAGES:
        shown, drawn = CARD.with_name(name), RESULTS / "nano" / name
        if not shown.is_file() or shown.read_bytes() != drawn.read_bytes():
            stale.append(shown)
            if not args.check:
                shown.write_bytes(drawn.read_bytes())
    return 1 if args.check and stale else 0


def between_markers(text: str, name: str, content: str) -> str:
    """Replace what stands between `<!-- name: begin -->` and `<!-- name: end -->`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{content}\n{end}{after}"


def page_parts() -> dict[str, str]:
    """Return the Markdown of each part of docs/benchmarks.md, by the name of its markers."""
    parts = {
        "accuracy": accuracy_rows(),
        "peers": peer_rows(),
        "pipeline": tables("pipeline", lambda result: bench_pipeline.table(result["rows"])),
        "encoder": tables("encoder", encoder_table),
        "crops": crop_rows(),
        "targets": tables("targets", lambda result: bench_targets.table(result["rows"])),
        "stream": tables("stream", bench_stream.table),
        "crowd": tables("crowd", lambda result: bench_crowd.table(result["rows"])),
        "scale": tables("scale", lambda result: bench_scale.table(result["rows"])),
        "gpu": gpu_rows(),
    }
    return {name: "\n".join(lines) for name, lines in parts.items()}


def accuracy() -> dict[str, Any]:
    """Return the result of bench_accuracy.py for the shipped bundle."""
    result: dict[str, Any] = json.loads((RESULTS / "nano" / "accuracy.json").read_text("utf-8"))
    return result


def accuracy_rows() -> list[str]:
    """Return the accuracy of the shipped model on faces that it never saw, and a paragraph about it."""
    result = accuracy()
    sets = result["sets"]
    rows = [
        ("rendered scenes of 1-4 people", sets["scenes"]),
        ("rendered scenes of 1-4 people, zero-shot from sentences", result.get("zero_shot")),
        ("rendered scenes of 1-4 people, int8", sets.get("scenes_int8")),
        ("rendered scenes of 1-4 people, degraded images", sets["poor_scenes"]),
        ("aligned face crops, one person per image", sets["tight_faces"]),
    ]
    metrics = ("accuracy", "balanced_accuracy")
    cells = [
        [title, *(with_interval(row[name]) for name in metrics), f"{row['ece']['value']:.3f}"]
        for title, row in rows
        if row
    ]
    header = [f"`nano`, 7 classes, {result['clear_faces']:,} unseen faces"]
    header += ["accuracy", "balanced accuracy", "calibration error"]
    pairs, corruptions = result["pairs"], result["corruptions"]
    own, same = (pairs[name]["of_right_singly"]["changed"]["value"] for name in ("own_window", "same_window"))
    words = (
        "The label of a face is the emotion that more than half of ten annotators see. The calibration error "
        f"compares probabilities with the votes on all {result['test_faces']:,} faces. Brackets hold 95 % "
        "intervals; guessing gives 14.3 %. "
        f"For {pairs['right_singly']} pairs of people with different emotions, both of whom are classified "
        f"correctly when alone, the two predictions differ in {percent(own)} of the pairs with one crop per "
        f"person, as the runtime works, and in {percent(same)} when both share one crop and only the patch "
        "weights tell which of them is the subject. One degradation at a time costs "
        f"{corruptions['mean_drop_points']:.1f} points of accuracy, averaged over nine kinds."
    )
    return [*markdown_table(header, cells).splitlines(), "", words]


def peer_rows() -> list[str]:
    """Return the tables of other networks, and of whole systems where they were measured."""
    result: dict[str, Any] = json.loads((RESULTS / "nano" / "peers.json").read_text("utf-8"))
    parts = [networks_part(result), systems_part(result)]
    return "\n\n".join(part for part in parts if part).splitlines()


def with_interval(metric: dict[str, float | None]) -> str:
    """Format a fraction with its interval, where that is defined."""
    value, low, high = (metric[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return percent(value or math.nan)
    return f"{percent(value)} ({100 * low:.0f}-{100 * high:.0f})"


def card_parts() -> dict[str, str]:
    """Return the known failures and the report of bench_accuracy.py, by the names of their markers."""
    folder = RESULTS / "nano"
    report = (folder / "accuracy.md").read_text(encoding="utf-8")
    _, body = report.split("\n", 1)  # without its title
    failures = (folder / "failures.md").read_text(encoding="utf-8")
    parts = [body.strip("\n").replace("\n## ", "\n### "), *speed_beside_vit()]
    return {"failures": failures.strip(), "measured": "\n\n".join(parts)}


def speed_beside_vit() -> list[str]:
    """Compare the frame encoder's time with ViT-B/32's, both ours, one person, in the same run."""
    lines = []
    for machine, result in measured("encoder"):
        ms = {
            row["model"]: row["ms"]["median"]
            for row in result["rows"]
            if (row["graph"], row["contender"], row["persons"]) == ("frame_encoder", "ours on cpu", 1)
        }
        if {"nano", "vit-b-32"} <= ms.keys():
            ratio = ms["vit-b-32"] / ms["nano"]
            met = "met" if ratio >= SPEED_TARGET else "**missed**"
            lines.append([machine, f"{ms['nano']:.2f} ms", f"{ms['vit-b-32']:.1f} ms", f"1/{ratio:.1f}", met])
    if not lines:
        return []
    title = "### Frame encoder, one person, fp32, in the same run as ViT-B/32's"
    header = ["machine", "nano", "ViT-B/32", "ratio", f"target: 1/{SPEED_TARGET}"]
    return [f"{title}\n\n{markdown_table(header, lines)}"]


def encoder_table(result: dict[str, Any]) -> str:
    """Return the table of the frame encoder and the plain export: a row for each model and contender."""
    groups: dict[tuple[str, ...], dict[int, str]] = {}
    for row in result["rows"]:
        contender = row["contender"]
        if row["graph"] == "frame_encoder" and contender.startswith(("ours on", "plain on")):
            text = f"{row['ms']['median']:.1f} ms ({row['ratio_to_plain']['median']:.2f})"
            groups.setdefault((row["model"], contender), {})[row["persons"]] = text
    return table_by_persons(["frame encoder of", "graph"], groups)


def table_by_persons(header: list[str], groups: dict[tuple[str, ...], dict[int, str]]) -> str:
    """Return a table with a column for each number of people, and a dash for what was not measured."""
    persons = sorted({count for group in groups.values() for count in group})
    cells = [[*key, *(group.get(count, "-") for count in persons)] for key, group in groups.items()]
    return markdown_table([*header, *(f"P = {count}" for count in persons)], cells)


def crop_rows() -> list[str]:
    """Return the table that compares one crop per person with one shared crop."""
    result, cells = accuracy(), []
    for row in result["windows"]:
        ways = (row["own_windows"], row["one_picture"])
        pairs = [(percent(way["accuracy"]), f"{way['frame_encoder_ms']:.1f} ms") for way in ways]
        cells.append([str(row["people"]), *pairs[0], *pairs[1]])
    header = ["people", "one crop per person: accuracy", "time", "one shared crop: accuracy", "time"]
    return [f"Machine: {machine_of(result)}.", "", *markdown_table(header, cells).splitlines()]


def gpu_rows() -> list[str]:
    """Return the checks and times of each GPU: the frame encoders as the runtime uses them."""
    lines: list[str] = []
    for file in sorted(RESULTS.glob("*/gpu.json")):
        result: dict[str, Any] = json.loads(file.read_text("utf-8"))
        groups: dict[tuple[str, ...], dict[int, str]] = {}
        for row in result["rows"]:
            used = row["crops"] == ("own crops" if row["model"] == "nano" else "one crop")
            if row["graph"] == "frame_encoder" and used:
                inside = f" ({row['ms_on_device']:.2f})" if "ms_on_device" in row else ""
                key = row["model"], row["runner"], row["precision"]
                groups.setdefault(key, {})[row["persons"]] = f"{row['ms']:.2f}{inside}"
        name, passed = str(result["machine"]["gpu"]).split(",")[0], [c["passed"] for c in result["checks"]]
        limits = ", ".join(f"{name} {value:g}" for name, value in result["ceilings"].items())
        words = (
            f"Machine: {name}; its driver and all versions are in `results/{file.parent.name}/gpu.json`. "
            f"{sum(passed)} of {len(passed)} checks against the CPU passed. Measured limits: {limits}."
        )
        table = table_by_persons(["frame encoder of", "run by", "precision"], groups)
        lines += [*([""] if lines else []), words, "", *table.splitlines()]
    return lines or ["No GPU has been measured yet."]


def tables(benchmark: str, table: Callable[[dict[str, Any]], str]) -> list[str]:
    """Return the table of a benchmark for each machine, with its limits if they were measured apart."""
    lines: list[str] = []
    for machine, result in measured(benchmark):
        limits = result.get("limits")
        bounds = "; sgemm {gflops:g} GFLOP/s, copy {gbytes_per_s:g} GB/s".format(**limits) if limits else ""
        lines += [*([""] if lines else []), f"Machine: {machine}{bounds}.", "", *table(result).splitlines()]
    return lines or ["No machine has been measured yet."]


def measured(benchmark: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the result of each machine that was measured."""
    results = [json.loads(file.read_text("utf-8")) for file in sorted(RESULTS.glob(f"*/{benchmark}.json"))]
    return [(machine_of(result), result) for result in results]


def machine_of(result: dict[str, Any]) -> str:
    """Return the name of the machine of a result."""
    return "{cpu}, {cores} cores".format(**result["machine"])


if __name__ == "__main__":
    sys.exit(main())
