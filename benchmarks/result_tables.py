"""Write the measured results into pages of docs/ and the model card, each between its two markers.

    python benchmarks/result_tables.py            # rewrite the pages
    python benchmarks/result_tables.py --check    # exit with status 1 if one of them differs

Everything comes from results/: accuracy from nano/accuracy.json, which bench_accuracy.py wrote; speed from
*/NAME.json, which bench_NAME.py wrote, and from */gpu.json, which gpu/run_all.py wrote; other reports from
NAME/NAME.md.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_crowd
import bench_pace
import bench_pipeline
import bench_scale
import bench_stream
import bench_targets
from emotion_bench.accuracy_page import sets_part, windows_table
from emotion_bench.gpu_report import machine_line, pipeline_table, times_table
from emotion_bench.peers_page import networks_part, systems_part
from emotion_bench.report import machine_of
from emotion_bench.train_page import steps_table
from emotion_train.tables import markdown_table, percent

ROOT = Path(__file__).resolve().parents[1]
DOCS, RESULTS = ROOT / "docs", ROOT / "benchmarks" / "results"
SPEED_TARGET = 15
GPU_PERSONS = (1, 4, 16, 64)  # the page has no room for more
CARD = ROOT / "runtime" / "emotion_runtime" / "bundles" / "nano" / "MODEL_CARD.md"
CARD_IMAGES = ("confusion.png", "reliability.png", "quality.png", "failures.png")  # beside the model card


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if a file is not up to date"
    )
    args = parser.parse_args(argv)
    wanted = {}
    for file, parts in pages().items():
        text = file.read_text(encoding="utf-8")
        for name, content in parts.items():
            text = between_markers(text, name, content)
        wanted[file] = text.encode()
    wanted |= {CARD.with_name(name): (RESULTS / "nano" / name).read_bytes() for name in CARD_IMAGES}
    stale = [file for file, content in wanted.items() if not file.is_file() or file.read_bytes() != content]
    for file in [] if args.check else stale:
        file.write_bytes(wanted[file])
    return 1 if args.check and stale else 0


def between_markers(text: str, name: str, content: str) -> str:
    """Replace what stands between `<!-- name: begin -->` and `<!-- name: end -->`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{content}\n{end}{after}"


def pages() -> dict[Path, dict[str, str]]:
    """Return the Markdown of each part of each page, by the name of its markers."""
    return {
        DOCS / "benchmarks.md": benchmark_parts(),
        DOCS / "detection.md": {name: report_of(name) for name in ("detector", "heads")},
        DOCS / "tracking.md": {
            "cuts": report_of("cuts"),
            "pace": bench_pace.summary(json.loads((RESULTS / "pace" / "pace.json").read_text("utf-8"))),
        },
        DOCS / "privacy.md": {"blur": report_of("blur")},
        CARD: card_parts(),
    }


def report_of(name: str) -> str:
    """Return the report that a benchmark wrote, without its title."""
    text = (RESULTS / name / f"{name}.md").read_text(encoding="utf-8")
    return (text.partition("\n")[2] if text.startswith("# ") else text).strip()


def benchmark_parts() -> dict[str, str]:
    """Return the parts of docs/benchmarks.md."""
    accuracy, peers = (
        json.loads((RESULTS / "nano" / f"{name}.json").read_text("utf-8")) for name in ("accuracy", "peers")
    )
    return {
        "accuracy": sets_part(accuracy),
        "peers": "\n\n".join(filter(None, (networks_part(peers), systems_part(peers)))),
        "pipeline": tables("pipeline", bench_pipeline.table),
        "encoder": tables("encoder", encoder_table),
        "crops": windows_table(accuracy["windows"]),
        "targets": tables("targets", bench_targets.table),
        "stream": tables("stream", bench_stream.table),
        "crowd": tables("crowd", bench_crowd.table),
        "scale": tables("scale", bench_scale.table),
        "gpu": gpu_part(),
        "train": train_part(),
    }


def card_parts() -> dict[str, str]:
    """Return the known failures and the report of bench_accuracy.py, as parts of the model card."""
    folder = RESULTS / "nano"
    _, report = (folder / "accuracy.md").read_text(encoding="utf-8").split("\n", 1)  # without its title
    report = report.strip("\n").replace("\n## ", "\n### ")
    failures = (folder / "failures.md").read_text(encoding="utf-8").strip()
    return {"failures": failures, "measured": "\n\n".join(filter(None, (report, speed_beside_vit())))}


def speed_beside_vit() -> str:
    """Compare the frame encoder's time with ViT-B/32's, both ours, one person, in the same run."""
    lines, wanted = [], ("ours on cpu", 1)
    for machine, result in measured("encoder"):
        rows = [row for row in result["rows"] if (row["contender"], row["persons"]) == wanted]
        ms = {row["model"]: row["ms"]["median"] for row in rows}
        nano, vit = ms["nano"], ms["vit-b-32"]
        met = "met" if vit / nano >= SPEED_TARGET else "**missed**"
        lines.append([machine, f"{nano:.2f} ms", f"{vit:.1f} ms", f"1/{vit / nano:.1f}", met])
    title = "### Frame encoder, one person, fp32, in the same run as ViT-B/32's"
    header = ["machine", "nano", "ViT-B/32", "ratio", f"target: 1/{SPEED_TARGET}"]
    return f"{title}\n\n{markdown_table(header, lines)}" if lines else ""


def encoder_table(result: dict[str, Any]) -> str:
    """Return the table of the frame encoder and the plain export: a row for each model and contender.

    Milliseconds, and in brackets how many times as fast as the plain export in ONNX Runtime, and the fraction
    of the measured rate of sgemm.
    """
    groups: dict[tuple[str, str], dict[int, str]] = {}
    for row in result["rows"]:
        ms, ratio, share = (row[name]["median"] for name in ("ms", "ratio_to_plain", "share_of_sgemm"))
        text = f"{ms:.1f} ms ({ratio:.2f}; {percent(share, 0)})"
        groups.setdefault((row["model"], row["contender"]), {})[row["persons"]] = text
    persons = sorted({count for group in groups.values() for count in group})
    cells = [[*key, *(group.get(count, "-") for count in persons)] for key, group in groups.items()]
    return markdown_table(["frame encoder of", "graph", *(f"P = {count}" for count in persons)], cells)


def gpu_part() -> str:
    """Return the checks and times of each GPU: the frame encoders as the runtime uses them."""
    parts = []
    for file in sorted(RESULTS.glob("*/gpu.json")):
        result: dict[str, Any] = json.loads(file.read_text("utf-8"))
        used = {("nano", "own crops"), ("vit-b-32", "one crop")}
        rows = [
            row | {"runner": row["runner"].replace("Runtime, cuda", "Runtime")}
            for row in result["rows"]
            if (row["model"], row["crops"]) in used and row["persons"] in GPU_PERSONS
        ]
        passed = [check["passed"] for check in result["checks"]]
        limits = ", ".join(f"{name} {value:g}" for name, value in result["ceilings"].items())
        words = (
            f"Machine: {machine_line(result['machine'])}; all versions, graphs and numbers of people are in "
            f"`results/{file.parent.name}`. {sum(passed)} of {len(passed)} checks against the CPU "
            f"passed. Measured limits: {limits}."
        )
        times = times_table(rows, ("model", "precision", "runner"))
        parts += [words, times, "The whole runtime:", pipeline_table(result["pipeline"])]
    return "\n\n".join(parts) or "No GPU has been measured yet."


def train_part() -> str:
    """Return the table of training steps of each machine."""
    parts = []
    for machine, result in measured("train"):
        gpu = f", {result['machine']['gpu']}" if result["machine"]["gpu"] else ""
        words = f"Machine: {machine}{gpu}; PyTorch {result['machine']['torch']}, {result['precision']}."
        parts += [words, steps_table(result["presets"])]
    return "\n\n".join(parts)


def tables(benchmark: str, table: Callable[[dict[str, Any]], str]) -> str:
    """Return the table of a benchmark for each machine, with its limits if they were measured apart."""
    parts = []
    for machine, result in measured(benchmark):
        limits = result.get("limits")
        bounds = "; sgemm {gflops:g} GFLOP/s, copy {gbytes_per_s:g} GB/s".format(**limits) if limits else ""
        parts += [f"Machine: {machine}{bounds}.", table(result)]
    return "\n\n".join(parts) or "No machine has been measured yet."


def measured(benchmark: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the result of each machine that was measured."""
    results = [json.loads(file.read_text("utf-8")) for file in sorted(RESULTS.glob(f"*/{benchmark}.json"))]
    return [(machine_of(result), result) for result in results]


if __name__ == "__main__":
    sys.exit(main())
