"""Write what was measured into the README and the model card, between their two markers.

    python benchmarks/readme_table.py            # rewrite README.md and bundles/nano/MODEL_CARD.md
    python benchmarks/readme_table.py --check    # exit 1 if one of them says something else

Accuracy comes from results/nano/accuracy.json, which bench_accuracy.py wrote; speed from
results/*/pipeline.json and results/*/encoder.json, which bench_pipeline.py and bench_encoder.py wrote.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MISSING = "-"
SPEED_BAR = 15
README = ROOT / "README.md"
CARD = ROOT / "runtime" / "emotion_runtime" / "bundles" / "nano" / "MODEL_CARD.md"
PICTURES = ("confusion.png", "reliability.png", "failures.png")  # of the card, beside it
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(argv)
    stale = []
    for file, content in ((README, table()), (CARD, card_figures())):
        text = file.read_text(encoding="utf-8")
        wanted = between_markers(text, content)
        if wanted != text:
            stale.append(file)
            if not args.check:
                file.write_text(wanted, encoding="utf-8")
    for picture in PICTURES:
        shown, drawn = CARD.with_name(picture), RESULTS / "nano" / picture
        if not shown.is_file() or shown.read_bytes() != drawn.read_bytes():
            stale.append(shown)
            if not args.check:
                shown.write_bytes(drawn.read_bytes())
    return 1 if args.check and stale else 0


def between_markers(text: str, content: str) -> str:
    """The text with something else between its markers."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def table() -> str:
    """All tables as Markdown, those without results left out."""
    parts = [accuracy_rows(), pipeline_rows(), encoder_rows()]
    return "\n\n".join("\n".join(part) for part in parts if part)


def accuracy() -> dict[str, Any]:
    """What bench_accuracy.py found of the shipped bundle."""
    result: dict[str, Any] = json.loads((RESULTS / "nano" / "accuracy.json").read_text("utf-8"))
    return result


def accuracy_rows() -> list[str]:
    """What the shipped model knows, on faces it never saw."""
    result = accuracy()
    sets = result["sets"]
    rows = [
        ("rendered scenes of 1-4 people", sets["scenes"]),
        ("rendered scenes of 1-4 people, zero-shot from sentences", result.get("zero_shot")),
        ("rendered scenes of 1-4 people, int8", sets.get("scenes_int8")),
        ("the same under poor conditions", sets["poor_scenes"]),
        ("tight faces as one-person pictures", sets["tight_faces"]),
    ]
    cells = [
        [
            title,
            *(between(row[name]) for name in ("accuracy", "balanced_accuracy")),
            f"{row['ece']['value']:.3f}",
        ]
        for title, row in rows
        if row
    ]
    header = [
        f"`nano`, 7 classes, {result['test_faces']:,} unseen faces",
        "accuracy",
        "balanced",
        "calibration error",
    ]
    pairs, corruptions = result["pairs"], result["corruptions"]
    own, same = (pairs[name]["of_right_singly"]["changed"]["value"] for name in ("own_window", "same_window"))
    words = (
        "The scenes are rendered from FER2013 faces. In brackets 95 % intervals. Chance is 14.3 %, always "
        "answering the largest class 24.3 %. Two people "
        f"of different emotions, each answered rightly when alone ({pairs['right_singly']} pairs): the "
        f"answer changes with the subject in {percent(own)} of the pairs as the runtime sees them, "
        f"and in {percent(same)} when both get the very same picture and only the patch weights tell who "
        f"is meant. One thing wrong with a picture costs {corruptions['mean_drop_points']:.1f} points on "
        "average over nine kinds ([all of it](benchmarks/results/nano/accuracy.md))."
    )
    return [*table_of(header, cells), "", words]


def between(figure: dict[str, float | None]) -> str:
    """A share with its interval, where that is defined."""
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return percent(value or math.nan)
    return f"{percent(value)} ({100 * low:.0f}-{100 * high:.0f})"


def card_figures() -> str:
    """The report of bench_accuracy.py as a part of the model card, with what is known to fail."""
    folder = RESULTS / "nano"
    report = (folder / "accuracy.md").read_text(encoding="utf-8")
    _, body = report.split("\n", 1)  # without its title
    failures = (folder / "failures.md").read_text(encoding="utf-8")
    parts = [body.strip("\n").replace("\n## ", "\n### "), *speed_beside_vit(), failures.strip()]
    return "\n\n".join(parts)


def speed_beside_vit() -> list[str]:
    """How much faster the frame encoder is than ViT-B/32's, both ours, one person, in the same run."""
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
                f"{'met' if ratio >= SPEED_BAR else '**missed**'} |"
            )
    if not lines:
        return []
    header = (
        f"| machine | nano | ViT-B/32 | share | bar 1/{SPEED_BAR}, moonshot 1/25 |\n|---|---|---|---|---|"
    )
    title = "### Frame encoder, one person, fp32, in the same run as ViT-B/32's"
    return ["\n".join([title, "", header, *lines])]


def pipeline_rows() -> list[str]:
    """The whole runtime: one row a machine, video and backend."""
    results = [(machine, row) for machine, result in measured("pipeline") for row in result["rows"]]
    # The same backend once more only shows what is noise.
    results = [(machine, row) for machine, row in results if not row["backend"].endswith(", again")]
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "video": lambda row: Path(row["source"]).stem.removeprefix("intel_").replace("-", " "),
        "persons": lambda row: str(row["persons"]),
        "encoders on": lambda row: row["backend"],
        "fps": lambda row: f"{row['fps']['median']:.1f}",
        "detector alone": lambda row: f"{row['fps_detector_alone']['median']:.1f}",
        "fraction of it": lambda row: percent(row["fraction_of_detector_alone"]["median"]),
        "encode, ms a frame": lambda row: f"{row['ms_per_frame']['encode']['median']:.1f}",
        "not a network": lambda row: percent(row["share_not_a_network"]["median"]),
        "capture to event, p50 / p95": lambda row: (
            f"{row['live']['p50_ms']:.0f} / {row['live']['p95_ms']:.0f} ms"
        ),
        "first event": lambda row: f"{row['start_to_first_event_s']['median']:.1f} s",
        "memory": lambda row: f"{row['peak_memory_mb']:.0f} MB",
    }
    for name, key in (("encoders on", "backend"), ("video", "source")):
        if len({row[key] for _, row in results}) == 1:  # then the text around the table says it
            del columns[name]
    cells = [[machine, *(cell(get, row) for get in columns.values())] for machine, row in results]
    return table_of(["machine", *columns], cells)


def encoder_rows() -> list[str]:
    """The frame encoder against the plain export: one row a machine, model and contender."""
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
    return table_of(["machine", "frame encoder of", "", *(f"P = {count}" for count in persons)], cells)


def measured(benchmark: str) -> list[tuple[str, dict[str, Any]]]:
    """Name of the machine and result, of each machine that was measured."""
    results = []
    for file in sorted(RESULTS.glob(f"*/{benchmark}.json")):
        result: dict[str, Any] = json.loads(file.read_text("utf-8"))
        machine = result["machine"]
        results.append((f"{machine['cpu']}, {machine['cores']} cores", result))
    return results


def cell(get: Callable[[dict[str, Any]], str], row: dict[str, Any]) -> str:
    """A figure, or a dash for one that was not measured there."""
    try:
        return get(row)
    except (KeyError, TypeError):  # not in the JSON, or null
        return MISSING


def table_of(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table, without columns in which nothing stands; none without rows."""
    if not rows:
        return []
    kept = [at for at in range(len(header)) if any(row[at] != MISSING for row in rows)]
    lines = [[header[at] for at in kept], *([row[at] for at in kept] for row in rows)]
    first, *others = [f"| {' | '.join(line)} |" for line in lines]
    return [first, "|" + "---|" * len(kept), *others]


def percent(share: float) -> str:
    """0.4567 -> 45.7 %."""
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
