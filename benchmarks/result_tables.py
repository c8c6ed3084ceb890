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
import bench_scale
import bench_stream
import bench_targets
from emotion_train.tables import markdown_table, percent

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MISSING = "-"
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
        "pipeline": pipeline_rows(),
        "encoder": encoder_rows(),
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
    cells = [
        [
            title,
            *(with_interval(row[name]) for name in ("accuracy", "balanced_accuracy")),
            f"{row['ece']['value']:.3f}",
        ]
        for title, row in rows
        if row
    ]
    header = [
        f"`nano`, 7 classes, {result['clear_faces']:,} unseen faces",
        "accuracy",
        "balanced accuracy",
        "calibration error",
    ]
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
    return [*table_of(header, cells), "", words]


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
            lines.append(
                f"| {machine} | {ms['nano']:.2f} ms | {ms['vit-b-32']:.1f} ms | 1/{ratio:.1f} | "
                f"{'met' if ratio >= SPEED_TARGET else '**missed**'} |"
            )
    if not lines:
        return []
    header = f"| machine | nano | ViT-B/32 | ratio | target: 1/{SPEED_TARGET} |\n|---|---|---|---|---|"
    title = "### Frame encoder, one person, fp32, in the same run as ViT-B/32's"
    return ["\n".join([title, "", header, *lines])]


def pipeline_rows() -> list[str]:
    """Return the table of the whole runtime: one row per machine, video and backend."""
    results = [(machine, row) for machine, result in measured("pipeline") for row in result["rows"]]
    # Rows that measure the same backend again only show the noise.
    results = [(machine, row) for machine, row in results if not row["backend"].endswith(", again")]
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "video": lambda row: Path(row["source"]).stem.removeprefix("intel_").replace("-", " "),
        "people": lambda row: str(row["persons"]),
        "encoders on": lambda row: row["backend"],
        "fps": lambda row: f"{row['fps']['median']:.1f}",
        "detector alone": lambda row: f"{row['fps_detector_alone']['median']:.1f}",
        "fraction of that": lambda row: percent(row["fraction_of_detector_alone"]["median"]),
        "encode, ms per frame": lambda row: f"{row['ms_per_frame']['encode']['median']:.1f}",
        "time outside networks": lambda row: percent(row["share_not_a_network"]["median"]),
    }
    for name, key in (("encoders on", "backend"), ("video", "source")):
        if len({row[key] for _, row in results}) == 1:  # the text around the table says it
            del columns[name]
    cells = [[machine, *(cell(get, row) for get in columns.values())] for machine, row in results]
    return table_by_machine(["machine", *columns], cells)


def encoder_rows() -> list[str]:
    """Return the table of the frame encoder and the plain export: a row per machine, model and contender."""
    cells: list[list[str]] = []
    persons: list[int] = []
    for machine, result in measured("encoder"):
        groups: dict[tuple[str, str], dict[int, str]] = {}
        for row in result["rows"]:
            if row["graph"] == "frame_encoder" and row["contender"].startswith(("ours on", "plain on")):
                ratio = row["ratio_to_plain"]["median"]
                text = f"{row['ms']['median']:.1f} ms ({ratio:.2f})"
                groups.setdefault((row["model"], row["contender"]), {})[row["persons"]] = text
        persons = sorted({*persons, *(count for group in groups.values() for count in group)})
        cells += [
            [machine, model, contender, *(group.get(count, MISSING) for count in persons)]
            for (model, contender), group in groups.items()
            if not contender.endswith(", again")
        ]
    return table_by_machine(
        ["machine", "frame encoder of", "graph", *(f"P = {count}" for count in persons)], cells
    )


def crop_rows() -> list[str]:
    """Return the table that compares one crop per person with one shared crop."""
    cells = [
        [
            str(row["people"]),
            percent(row["own_windows"]["accuracy"]),
            f"{row['own_windows']['frame_encoder_ms']:.1f} ms",
            percent(row["one_picture"]["accuracy"]),
            f"{row['one_picture']['frame_encoder_ms']:.1f} ms",
        ]
        for row in accuracy().get("windows", [])
    ]
    header = ["people", "one crop per person: accuracy", "time", "one shared crop: accuracy", "time"]
    return table_of(header, cells)


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
        persons = sorted({count for group in groups.values() for count in group})
        cells = [[*key, *(group.get(count, MISSING) for count in persons)] for key, group in groups.items()]
        name, passed = str(result["machine"]["gpu"]).split(",")[0], [c["passed"] for c in result["checks"]]
        limits = ", ".join(f"{name} {value:g}" for name, value in result["ceilings"].items())
        words = (
            f"Machine: {name}; its driver and all versions are in `results/{file.parent.name}/gpu.json`. "
            f"{sum(passed)} of {len(passed)} checks against the CPU passed. Measured limits: {limits}."
        )
        lines += [
            *([""] if lines else []),
            words,
            "",
            *table_of(["frame encoder of", "run by", "precision", *(f"P = {p}" for p in persons)], cells),
        ]
    return lines or ["No GPU has been measured yet."]


def tables(benchmark: str, table: Callable[[dict[str, Any]], str]) -> list[str]:
    """Return the table of a benchmark for each machine, with its limits."""
    lines: list[str] = []
    for machine, result in measured(benchmark):
        limits = result["limits"]
        words = (
            f"Machine: {machine}; sgemm {limits['gflops']:g} GFLOP/s, copy {limits['gbytes_per_s']:g} GB/s."
        )
        lines += [*([""] if lines else []), words, "", *table(result).splitlines()]
    return lines or ["No machine has been measured yet."]


def measured(benchmark: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the result of each machine that was measured."""
    results = []
    for file in sorted(RESULTS.glob(f"*/{benchmark}.json")):
        result: dict[str, Any] = json.loads(file.read_text("utf-8"))
        machine = result["machine"]
        results.append((f"{machine['cpu']}, {machine['cores']} cores", result))
    return results


def cell(get: Callable[[dict[str, Any]], str], row: dict[str, Any]) -> str:
    """Return one cell: the metric, or a dash if it was not measured on this machine."""
    try:
        return get(row)
    except (KeyError, TypeError):  # not in the JSON, or null
        return MISSING


def table_of(header: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table without its empty columns; no lines without rows."""
    if not rows:
        return []
    kept = [index for index in range(len(header)) if any(row[index] != MISSING for row in rows)]
    cells = [[row[index] for index in kept] for row in rows]
    return markdown_table([header[index] for index in kept], cells).splitlines()


def table_by_machine(header: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table whose first column is the machine; a single machine is named above it."""
    machines = {row[0] for row in rows}
    if len(machines) != 1:
        return table_of(header, rows)
    return [f"Machine: {machines.pop()}.", "", *table_of(header[1:], [row[1:] for row in rows])]


if __name__ == "__main__":
    sys.exit(main())
