"""Tables and the summary of a run on a GPU."""

from collections.abc import Sequence
from typing import Any

from emotion_train.tables import markdown_table

REQUIRED = {"parity": "parity", "pipeline": "events"}  # how the checks of a step begin
_KEY = ("model", "graph", "crops", "runner", "precision")


def add_fractions(result: dict[str, Any]) -> None:
    """Add to every row on the device which fraction of the measured matrix products and bandwidth it reaches.

    Operations are counted for rows of ONNX Runtime; rows of the same work get the same count. The bandwidth
    counts reading the weights once: a small batch does little more.
    """
    work = {
        (row["model"], row["graph"], row["crops"], row["persons"]): row
        for row in result["rows"]
        if "flops" in row
    }
    ceilings = result["ceilings"]
    copies = max((rate for name, rate in ceilings.items() if name.startswith("copy on")), default=None)
    for row in result["rows"]:
        counted = work.get((row["model"], row["graph"], row["crops"], row["persons"]))
        seconds = row.get("ms_on_device", 0) / 1000
        name = f"matmul {row['precision']}"
        rates = [rate for key, rate in ceilings.items() if key.startswith(name)]
        if counted is None or not seconds:
            continue
        row["flops"], row["parameters"] = counted["flops"], counted["parameters"]
        row["tflops"] = round(row["flops"] / seconds / 1e12, 4)
        if rates:
            row["share_of_matmul"] = round(row["tflops"] / max(rates), 4)
        if copies:
            size = row["parameters"] * (4 if row["precision"] == "fp32" else 2)
            row["share_of_bandwidth"] = round(size / seconds / 1e9 / copies, 4)


def tables(result: dict[str, Any]) -> str:
    """Return the tables of times, of the whole runtime and of the limits of the machine, as Markdown."""
    parts = [f"Machine: {machine_line(result['machine'])}."]
    if result["rows"]:
        parts += [
            "Milliseconds per call with the copies from and to the host; in brackets without them.",
            times_table(result["rows"]),
        ]
    if result["ceilings"]:
        limits = [[name, str(value)] for name, value in result["ceilings"].items()]
        parts.append(markdown_table(["measured limit", "value"], limits))
    if result["pipeline"]:
        parts.append(pipeline_table(result["pipeline"]))
    parts += [f"Skipped: {each['what']} ({each['reason']})." for each in result["skipped"]]
    return "\n\n".join(parts)


def machine_line(machine: dict[str, Any]) -> str:
    """Return the GPU, else the CPU, and what ran on it."""
    torch = machine.get("torch")
    parts = [machine.get("gpu") or machine.get("cpu"), machine.get("backend"), torch and f"PyTorch {torch}"]
    return "; ".join(str(part) for part in parts if part)


def pipeline_table(rows: list[dict[str, Any]]) -> str:
    """Return the table of the whole runtime: a row for each source and device."""
    stages = ("read", "detect", "encode", "temporal")
    lines = [
        [row["source"], row["backend"], str(row["persons_per_frame"]), str(row["fps"])]
        + [f"{row['ms_per_frame'].get(stage, 0):.2f}" for stage in stages]
        for row in rows
    ]
    header = ["source", "models on", "people", "fps", *(f"{stage}, ms" for stage in stages)]
    return markdown_table(header, lines)


def times_table(rows: list[dict[str, Any]], names: Sequence[str] = _KEY) -> str:
    """Return the table of times: a row for each way to run a graph, a column for each number of people.

    Args:
        rows: What was measured.
        names: What names a row of the table.
    """
    persons = sorted({row["persons"] for row in rows})
    groups: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), {})[row["persons"]] = row
    lines = []
    for key, group in groups.items():
        last = group[max(group)]
        share, cosine = last.get("share_of_matmul"), last.get("cosine_min")
        lines.append(
            [
                *key,
                *(_cell(group[count]) if count in group else "" for count in persons),
                "" if share is None else f"{100 * share:.0f} %",
                "" if cosine is None else f"{cosine:.6f}",
            ]
        )
    header = [*names, *(f"P = {count}" for count in persons), "of matmul, most P", "smallest cosine"]
    return markdown_table(header, lines)


def summary(result: dict[str, Any]) -> tuple[str, bool]:
    """Return a line for each check and failure, and whether all is well."""
    lines = []
    for check in result["checks"]:
        lines.append(f"{'PASS' if check['passed'] else 'FAIL'}  {check['check']}: {check['found']}")
        if not check["passed"]:
            lines.append(f"      expected: {check['expected']}")
    missing = [
        name
        for step, name in REQUIRED.items()
        if step in result["steps"] and not any(check["check"].startswith(name) for check in result["checks"])
    ]
    lines += [f"FAIL  no check of {name} was made" for name in missing]
    lines += [f"FAIL  {each['what']}: {each['reason']}" for each in result["failed"]]
    passed = not missing and not result["failed"] and all(check["passed"] for check in result["checks"])
    count = sum(check["passed"] for check in result["checks"])
    failed = f", {len(result['failed'])} steps failed" if result["failed"] else ""
    lines.append(f"{'PASS' if passed else 'FAIL'}: {count} of {len(result['checks'])} checks passed{failed}")
    return "\n".join(lines), passed


def _cell(row: dict[str, Any]) -> str:
    inside = row.get("ms_on_device")
    return f"{row['ms']:.3f}" + ("" if inside is None else f" ({inside:.3f})")
