"""The ablation report: table, expectations, and how to read them."""

from typing import Any

from emotion_bench.report import difference
from emotion_train.tables import markdown_table

SUBJECTS = ("none", "saam", "saam-rowwise", "sap", "shared")  # in the order of the table
SWEEP = (0.1, 10.0, 100.0)  # betas of `sap` with bias, beside that of the other rows

Interval = tuple[float, float, float]  # a value and the two ends of its 95 % interval

_PAGE = """# Ablation at small scale

    python benchmarks/bench_ablation.py {options}

Accuracy, in percent, for seven emotions on unseen FER2013 faces in rendered scenes with a shared crop, by the
number of people, in scenes of pairwise different emotions; 95 % bootstrap intervals over scenes, of the mean
over seeds. changed: fraction of the pairs of people whose two predictions differ (0 %: the model does not use
the subject). own, other: predictions that equal the subject's emotion, and the other person's.

{table}

Differences of accuracy in scenes of two to four people, in points, paired by scene and seed. The interval is
over scenes; the column "by seed" shows how much the training itself varies. An expectation holds when the
whole interval agrees with it, and is undecided when only a part does.

{comparisons}

![Accuracy by number of people, predictions that follow the subject, sweep of beta](ablation.png)

How to read this:

- These runs take a few minutes from the same warm start: 9,600 rendered scenes, no CLIP, a quarter of `nano`.
  They show what is learned *first*, and do not reproduce the paper's training.
- The crop follows the heads, so a single person's face fills it, at a scale that these runs have seen
  least: accuracy with one person is not an upper bound.
- A rendered person keeps one expression through the clip, and one frame per clip is measured: there is
  nothing to learn over time, so transformer against mean compares sizes of models.
- Seeds share the warm start; they vary the scenes, dropout and the initial weights of what is new in a
  row. Rows with one seed say little about differences of a point or two.
- `sap` without bias differs from the paper, where it learns: there the position embeddings come from CLIP and
  a million clips follow. Here a new model has yet to learn to read the sum of the covered positions.
- `saam` is Eq. 2 as written. `saam-rowwise` gives what a row hands away to the same row of U, so that the
  subject reaches the class token only through the other tokens. Both hand on
  only a part of the attention{shift}.{missing}
"""

_MISSING = """
- Not measured yet: {rows}. They need the whole command above again, with a new `--out` and on a
  quiet machine: rows can be compared only when they share the warm start. `--only saam` measures some."""


def page(
    rows: list[dict[str, Any]],
    compared: list[dict[str, Any]],
    settings: dict[str, Any],
    mean_shift: float | None,
) -> str:
    """Return ablation.md."""
    header = ["subject", "loss", "time", "seeds", "one person", "two people", "three or four"]
    header += ["balanced, two", "changed", "own", "other"]
    table = [
        [
            row["subject"] + (" + bias" if row["bias"] else ""),
            "InfoNCE" if row["beta"] == 0 else f"SNCE, beta {row['beta']:g}",
            row["temporal"],
            str(row["seeds"]),
            *(_percent(crowd["accuracy"]) for crowd in row["crowds"].values()),
            f"{row['crowds']['two people']['balanced_accuracy']:.1%}",
            *(f"{row['pairs'][name][0]:.1%}" for name in ("changed", "own", "other")),
        ]
        for row in rows
    ]
    comparisons = [
        [
            entry["expectation"],
            difference(entry["difference"]),
            ", ".join(f"{100 * gap:+.1f}" for gap in entry["by_seed"]),
            entry["holds"],
        ]
        for entry in compared
    ]
    return _PAGE.format(
        options=" ".join(
            f"--{name.replace('_', '-')} {value}" for name, value in settings.items() if value is not None
        ),
        table=markdown_table(header, table),
        shift="" if mean_shift is None else f" (A begins at 0.10 and ends at {mean_shift:.2f} on average)",
        comparisons=markdown_table(["expectation", "difference (95 %)", "by seed", "holds"], comparisons),
        missing=_missing(rows),
    )


def _missing(rows: list[dict[str, Any]]) -> str:
    """Return a remark on the methods and strengths of the loss that have no row; empty if all have."""
    subjects = {row["subject"] for row in rows}
    betas = {row["beta"] for row in rows if row["subject"] == "sap" and row["bias"]}
    names = [f"`{name}`" for name in SUBJECTS if name not in subjects]
    names += [f"beta {beta:g}" for beta in SWEEP if beta not in betas]
    return _MISSING.format(rows=", ".join(names)) if names else ""


def _percent(value: Interval) -> str:
    return f"{100 * value[0]:.1f} ({100 * value[1]:.1f}-{100 * value[2]:.1f})"
