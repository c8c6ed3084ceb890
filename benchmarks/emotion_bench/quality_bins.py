"""Accuracy and calibration by how well the head can be seen: size, sharpness, part inside the frame."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion_bench.accuracy import Result
from emotion_bench.candidates import Candidate
from emotion_runtime.manifest import QualityLimits
from emotion_runtime.quality import why_not
from emotion_runtime.types import Quality
from emotion_train.plotting import new_figure, plot_lines, style_axes, to_png
from emotion_train.probing.calibration import calibration_error, confidences_of
from emotion_train.probing.view_features import encode_views
from emotion_train.scenes.camera import Camera
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.views import HEAD_PX, Condition, View, cut, seen_by, shrunk
from emotion_train.tables import markdown_table, percent

LARGEST_BLUR = 9.0  # sigma in pixels, of a head of 160 px
LEAST_INSIDE = 0.5
SMALLEST_HEAD = 12.0  # pixels

# Upper ends of the bins, by field of `Quality`; the last bin has none.
BINS: Final[Mapping[str, tuple[float, ...]]] = MappingProxyType(
    {"head_px": (16, 24, 32, 64), "sharpness": (0.2, 0.3, 0.4, 0.6), "inside": (0.7, 0.8, 0.9, 0.999)}
)
TITLES: Final = {"head_px": "width of the head, px", "sharpness": "sharpness", "inside": "part inside"}


def measure(candidate: Candidate, faces: Faces, limits: QualityLimits, *, seed: int) -> Result:
    """Measure a model on views of every quality.

    Every face is seen once, with a head of 12 to 160 px, half of them blurred and a third of them cut off by
    the edge of the frame. Accuracy is that on faces that most people see alike; confidence and calibration
    error are those against the votes on all faces.

    Returns:
        `bins`: rows by field of `Quality`, of the views whose other qualities are within the limits.
        `within` and `outside` of all limits: the same metrics.
    """
    seen = encode_views(candidate.encoder, faces, {"varied": Condition(view=_varied)}, seed=seed)["varied"]
    probability = candidate.head(seen.features)
    whys = np.array([why_not(quality, limits) is None for quality in seen.quality])
    names = {"head_px": "small", "sharpness": "blurred", "inside": "cut"}
    rows: Result = {}
    for field, edges in BINS.items():
        values = np.array([getattr(quality, field) for quality in seen.quality], np.float64)
        # `why_not` with this limit lifted leaves the others.
        others = np.array(
            [why_not(_without(quality, field), limits) in (None, names[field]) for quality in seen.quality]
        )
        index = np.digitize(values, edges)
        rows[field] = [
            {"bin": label, **_row(probability, faces, others & (index == i))}
            for i, label in enumerate(bin_names(edges))
        ]
    return {
        "limits": {name: getattr(limits, name) for name in (*BINS, "frontal")},
        "bins": rows,
        "within": _row(probability, faces, whys),
        "outside": _row(probability, faces, ~whys),
    }


def bin_names(edges: Sequence[float]) -> list[str]:
    """Return the names of the bins between edges: "under 16", "16 to 24", "64 or more"."""
    between = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return [f"under {edges[0]:g}", *between, f"{edges[-1]:g} or more"]


def _without(quality: Quality, field: str) -> Quality:
    """Return a quality in which one field is as good as can be."""
    values = {name: getattr(quality, name) for name in quality.__struct_fields__}
    return Quality(**{**values, field: float(HEAD_PX) if field == "head_px" else 1.0})


def _varied(view: View, row: int) -> View:
    rng = np.random.default_rng([7, row])
    head_px = float(np.exp(rng.uniform(np.log(SMALLEST_HEAD), np.log(HEAD_PX))))
    blur = float(rng.uniform(0, LARGEST_BLUR)) if rng.random() < 0.5 else 0.0
    inside = float(rng.uniform(LEAST_INSIDE, 1)) if rng.random() < 1 / 3 else 1.0
    chain = [seen_by(Camera(blur=blur)), shrunk(head_px)]
    if inside < 1:  # rounding to whole pixels would cut something off
        chain.append(cut(inside))
    for condition in chain:
        if condition.view is not None:
            view = condition.view(view, row)
    return view


def _row(probability: NDArray[np.float64], faces: Faces, chosen: NDArray[np.bool_]) -> Result:
    """Return the metrics of the chosen views (N,); those that are undefined are None."""
    if not chosen.any():
        return {"views": 0, "accuracy": None, "confidence": None, "votes": None, "ece": None}
    part, votes = probability[chosen], faces.votes[chosen]
    clear = chosen & faces.clear
    right = probability[clear].argmax(axis=1) == faces.majority[clear]
    confidences = confidences_of(part, faces.majority[chosen], votes)
    return {
        "views": int(chosen.sum()),
        "accuracy": round(float(right.mean()), 4) if clear.any() else None,
        "confidence": round(float(confidences.confidence.mean()), 4),
        "votes": round(float(np.mean(confidences.correct)), 4),
        "ece": round(float(calibration_error(confidences, np.ones((1, len(part))))[0]), 4),
    }


def table(result: Result) -> str:
    """Return the Markdown table of a result of `measure`."""
    limits = result["limits"]
    lines = [
        (f"{TITLES[field]} (limit {limits[field]:g})" if i == 0 else "", row["bin"], *_cells(row))
        for field, rows in result["bins"].items()
        for i, row in enumerate(rows)
    ]
    lines += [("all", f"{name} the limits", *_cells(result[name])) for name in ("within", "outside")]
    header = ("", "", "views", "accuracy", "mean confidence", "votes for the prediction", "calibration error")
    return markdown_table(header, lines)


def _cells(row: Result) -> tuple[str, ...]:
    shares = (row["accuracy"], row["confidence"], row["votes"])
    error = "" if row["ece"] is None else f"{row['ece']:.3f}"
    return (str(row["views"]), *("" if share is None else percent(share) for share in shares), error)


def quality_png(result: Result, title: str) -> bytes:
    """Draw confidence, votes for the prediction and accuracy over the bins of each quality, as PNG."""
    figure = new_figure(11.0, 3.8, title)
    panels = figure.subplots(1, len(BINS), sharey=True)
    for axes, (field, rows) in zip(panels, result["bins"].items(), strict=True):
        style_axes(axes)
        filled = [(i, row) for i, row in enumerate(rows) if row["accuracy"] is not None]
        lines = {
            name: {float(i): row[key] for i, row in filled}
            for name, key in (
                ("mean confidence", "confidence"),
                ("votes for the prediction", "votes"),
                ("right, clear faces", "accuracy"),
            )
        }
        plot_lines(axes, lines)
        axes.set_xticks(range(len(rows)), [row["bin"] for row in rows], rotation=30, fontsize=8)
        axes.set(xlabel=TITLES[field], ylim=(0, 1))
    return to_png(figure)
