"""The ablation report: table, expectations, how to read them, and the plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emotion_bench.report import difference
from emotion_runtime.files import write_atomically
from emotion_train import plotting
from emotion_train.tables import markdown_table

SUBJECTS = ("none", "saam", "saam-rowwise", "sap", "shared")  # in the order of the table
METHODS = (*((subject, False) for subject in SUBJECTS), ("sap", True), ("shared", True))  # subject and bias
SWEEP = (0.1, 10.0, 100.0)  # betas of `sap` with bias, beside that of the other rows

CROWD_COLORS = {
    "one person": plotting.LIGHT_GREY,
    "two people": plotting.BLUE,
    "three or four": plotting.RED,
}
PAIR_COLORS = {"changed": plotting.BLUE, "own": plotting.GREEN, "other": plotting.YELLOW}

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
  only a part of the attention{shift}.
"""


def page(result: dict[str, Any]) -> str:
    """Return ablation.md for the content of ablation.json."""
    header = ["subject", "loss", "time", "seeds", "one person", "two people", "three or four"]
    header += ["balanced, two", "changed", "own", "other"]
    table = [
        [
            row["subject"] + (" + bias" if row["bias"] else ""),
            "InfoNCE" if row["beta"] == 0 else f"SNCE, beta {row['beta']:g}",
            row["temporal"],
            str(row["seeds"]),
            *(
                "{:.1f} ({:.1f}-{:.1f})".format(*_in_percent(crowd["accuracy"]))
                for crowd in row["crowds"].values()
            ),
            f"{row['crowds']['two people']['balanced_accuracy']:.1%}",
            *(f"{row['pairs'][name][0]:.1%}" for name in ("changed", "own", "other")),
        ]
        for row in result["rows"]
    ]
    comparisons = [
        [
            entry["expectation"],
            difference(entry["difference"]),
            ", ".join(f"{100 * gap:+.1f}" for gap in entry["by_seed"]),
            entry["holds"],
        ]
        for entry in result["comparisons"]
    ]
    shift = result["mean_shift"]
    options = (f"--{name.replace('_', '-')} {value}" for name, value in result["settings"].items())
    return _PAGE.format(
        options=" ".join(options),
        table=markdown_table(header, table),
        shift="" if shift is None else f" (A begins at 0.10 and ends at {shift:.2f} on average)",
        comparisons=markdown_table(["expectation", "difference (95 %)", "by seed", "holds"], comparisons),
    )


def plot(path: Path, rows: list[dict[str, Any]], beta: float) -> None:
    """Write the plot of the rows that have been measured; `beta` is that of the methods on the left."""
    main = {
        (row["subject"], row["bias"]): row
        for row in rows
        if row["temporal"] == "transformer" and row["beta"] == beta
    }
    shown = [method for method in METHODS if method in main]
    names = [subject.replace("-", "\n") + ("\n+ bias" if bias else "") for subject, bias in shown]
    figure = plotting.new_figure(13, 3.9)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.5, 1.15, 1))
    plotting.style_axes(left, "Accuracy by number of people in the image, %")
    plotting.style_axes(middle, "Predictions for pairs of people, %")
    plotting.style_axes(right, "Several people: accuracy by beta, %")
    crowds = {name: [main[method]["crowds"][name]["accuracy"] for method in shown] for name in CROWD_COLORS}
    pairs = {name: [main[method]["pairs"][name] for method in shown] for name in PAIR_COLORS}
    for axes, series, colors in ((left, crowds, CROWD_COLORS), (middle, pairs, PAIR_COLORS)):
        for index, (name, values) in enumerate(series.items()):
            places = [place + 0.2 * (index - 1) for place in range(len(shown))]  # side by side
            plotting.plot_intervals(axes, places, [_in_percent(each) for each in values], colors[name], name)
        axes.set_xticks(range(len(shown)), names)
        axes.legend(frameon=False, fontsize=8)
    _plot_sweep(right, rows)
    write_atomically(path, plotting.to_png(figure))


def _in_percent(interval: Sequence[float]) -> list[float]:
    return [100 * value for value in interval]


def _plot_sweep(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Plot the accuracy with several people over beta, as the paper's Fig. 6; 0 is InfoNCE."""
    sweep = sorted(
        (row["beta"], row["in_company"])
        for row in rows
        if (row["subject"], row["bias"], row["temporal"]) == ("sap", True, "transformer")
    )
    if sweep:
        values = [_in_percent(values) for _, values in sweep]
        plotting.plot_intervals(axes, range(len(sweep)), values, plotting.BLUE, "sap + bias")
        axes.set_xticks(range(len(sweep)), [f"{beta:g}" for beta, _ in sweep])
    axes.set_xlabel("beta")
