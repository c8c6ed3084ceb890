"""Write the README's table from benchmarks/results, between its two markers.

    python benchmarks/readme_table.py            # rewrite README.md
    python benchmarks/readme_table.py --check    # exit 1 if README.md says something else

Accuracy comes from results/nano/accuracy.json, which train/fit_probe.py wrote as report.json; speed from
results/*/runtime.json, which bench_runtime.py wrote.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(argv)
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    wanted = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if args.check:
        return 0 if wanted == text else 1
    readme.write_text(wanted, encoding="utf-8")
    return 0


def table() -> str:
    """Both tables as Markdown."""
    return "\n".join([*accuracy_rows(), "", *speed_rows()])


def accuracy_rows() -> list[str]:
    """What the shipped model knows, on faces it never saw."""
    report: dict[str, dict[str, float]] = json.loads((RESULTS / "nano" / "accuracy.json").read_text("utf-8"))
    rows = [
        "| `nano`, 7 classes, unseen test faces | accuracy | balanced | calibration error |",
        "|---|---|---|---|",
    ]
    names = {
        "one_person": "scenes of one person",
        "two_or_three": "scenes of two or three people",
        "zero_shot_one_person": "scenes of one person, zero-shot from sentences",
    }
    rows += [
        f"| {title} | {percent(report[key]['accuracy'])} | {percent(report[key]['balanced_accuracy'])} "
        f"| {report[key]['ece']:.3f} |"
        for key, title in names.items()
    ]
    own, same = report["pairs_own_window"], report["pairs_same_window"]
    pairs = (
        f"Two people of different emotions in one picture ({same['pairs']:.0f} pairs): the answer changes "
        f"with the subject in {percent(own['changed'])} of the pairs as the runtime sees them, and in "
        f"{percent(same['changed'])} when both are given the very same picture and only the patch weights "
        "tell who is meant. Chance is 14.3 %, always answering the largest class 24 %."
    )
    rows += ["", pairs]
    return rows


def speed_rows() -> list[str]:
    """One row for each machine that was measured."""
    rows = [
        "| machine | persons | fps | detector alone | share of ceiling | encode, ms a frame | first event |",
        "|---|---|---|---|---|---|---|",
    ]
    for file in sorted(RESULTS.glob("*/runtime.json")):
        result: dict[str, Any] = json.loads(file.read_text("utf-8"))
        machine = result["machine"]
        cells = (
            f"{machine['cpu']}, {machine['cores']} cores",
            result["persons"],
            f"{result['fps']['median']:.1f}",
            f"{result['fps_detector_alone']['median']:.1f}",
            percent(result["share_of_ceiling"]["median"]),
            f"{result['ms_per_frame']['encode']['median']:.1f}",
            f"{result['start_to_first_event_s']['median']:.1f} s",
        )
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return rows


def percent(share: float) -> str:
    """0.4567 -> 45.7 %."""
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
