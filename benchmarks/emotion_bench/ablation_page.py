"""The ablation in words: its table, its claims, and what must be known to read them."""

from typing import Any

from emotion_train.tables import markdown_table

Interval = tuple[float, float, float]  # figure, and the ends of its 95 % interval

_PAGE = """# Ablation at small scale

    python benchmarks/bench_ablation.py {options}

Accuracy, in percent, on seven emotions of unseen FER2013 faces in drawn scenes seen through one window,
by the number of people in it, in scenes of pairwise different emotions; 95 % bootstrap intervals over
scenes, of the mean over seeds. changed: share of the pairs of people whose two answers differ (0 %: the
address was not learned). own, other: answers that name the subject's emotion, and the neighbour's.

{table}

Differences of accuracy in company (two to four people), in points, paired by scene and seed. The
interval is over scenes; how much the training itself varies shows by seed. A claim holds when the whole
interval says so, and is undecided when it says both.

{verdicts}

![Accuracy by number of people, answers that follow the subject, sweep of beta](ablation.png)

What must be known to read this:

- These are runs of a few minutes from one warm start, not the paper's: 9,600 drawn scenes, no CLIP, a
  quarter of `nano`. They say what is learned *first*.
- The window follows the heads, so a single person's face fills it, at a scale that these runs have seen
  least: "one person" is no ceiling.
- A drawn person keeps one expression through the clip, and one frame a clip is measured: there is
  nothing in time to learn, so transformer against mean compares sizes of models and not ways to see
  time.
- Seeds share the warm start; they vary the scenes, dropout and the start of what is new in a row. Rows
  of one seed say little about differences of a point or two.
- `sap` without bias and `saam` differ from the paper, where both learn: there the positions come from
  CLIP and a million clips follow. Here the sum of covered positions is an address that a new model has
  yet to learn to read, and `saam` reaches the class token only through the human token{shifted}.
"""


def page(
    rows: list[dict[str, Any]],
    compared: list[dict[str, Any]],
    settings: dict[str, Any],
    shifted: float | None,
) -> str:
    """ablation.md."""
    header = [
        "who is meant",
        "loss",
        "time",
        "seeds",
        "one person",
        "two people",
        "three or four",
        "balanced, two",
        "changed",
        "own",
        "other",
    ]
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
    verdicts = [
        [
            entry["claim"],
            _points(entry["difference"]),
            ", ".join(f"{100 * gap:+.1f}" for gap in entry["by_seed"]),
            entry["verdict"],
        ]
        for entry in compared
    ]
    return _PAGE.format(
        options=" ".join(
            f"--{name.replace('_', '-')} {value}" for name, value in settings.items() if value is not None
        ),
        table=markdown_table(header, table),
        shifted="" if shifted is None else f" (A begins at 0.10 and ends at {shifted:.2f} on average)",
        verdicts=markdown_table(["claim", "difference (95 %)", "by seed", "holds"], verdicts),
    )


def _percent(figure: Interval) -> str:
    return f"{100 * figure[0]:.1f} ({100 * figure[1]:.1f}-{100 * figure[2]:.1f})"


def _points(difference: Interval) -> str:
    gap, low, high = (100 * value for value in difference)
    return f"{gap:+.1f} ({low:+.1f} to {high:+.1f})"
