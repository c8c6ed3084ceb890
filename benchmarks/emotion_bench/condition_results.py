"""What conditions do to the predictions of a model: right predictions flipped, points lost."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_bench.accuracy import Result, calm_people, described, on_votes
from emotion_bench.accuracy_sets import Plan, scenes
from emotion_bench.candidates import Candidate
from emotion_bench.conditions import HALVES
from emotion_bench.report import with_interval
from emotion_train.probing.bootstrap import Metrics, Weights
from emotion_train.probing.metrics import weighted_mean
from emotion_train.probing.view_features import encode_views
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.views import PLAIN, Condition
from emotion_train.tables import markdown_table, percent


def measure(
    candidate: Candidate,
    faces: Faces,
    conditions: Mapping[str, Condition],
    *,
    seed: int,
    frames: int = 2,
) -> Result:
    """Measure a model on ordinary scenes and in conditions.

    Args:
        candidate: The model.
        faces: Faces of one split.
        conditions: Conditions by name.
        seed: Determines everything that is rendered.
        frames: Frames of a clip of the ordinary scenes; a view of a condition is a single image.

    Returns:
        `scenes`: metrics of rendered scenes of 1 to 4 people, see `accuracy.on_votes`, and `not_sure`, the
        fraction of predictions under the threshold. `conditions`: by name, on the faces that most people see
        alike, `accuracy`, `flipped` (fraction of the predictions that are right in the plain view and wrong
        here), `points_lost`, `calm_taken_for_negative` and `not_sure`. `half_covered_points_lost`: mean over
        the four halves.
    """
    plan = Plan(faces.by_majority(), candidate.encoder.spec, frames, 1.6, seed)
    in_scenes = candidate.predictions(scenes(plan))
    result: Result = {"scenes": on_votes(in_scenes, faces)}
    top = in_scenes.probabilities.max(axis=1)
    result["scenes"]["not_sure"] = round(float((top < candidate.abstain).mean()), 4)
    clear = faces.by_majority().take(np.flatnonzero(faces.clear))
    result["clear_faces"] = len(clear.labels)
    everything = {PLAIN: Condition(), **conditions}
    seen = encode_views(candidate.encoder, clear, everything, seed=seed)
    probabilities = {name: candidate.head(part.features) for name, part in seen.items()}
    plain_right = probabilities[PLAIN].argmax(axis=1) == clear.labels
    result["conditions"] = {
        name: _compared(values, plain_right, clear.labels, candidate.abstain)
        for name, values in probabilities.items()
    }
    lost = [result["conditions"][name]["points_lost"] for name in HALVES if name in conditions]
    if lost:
        result["half_covered_points_lost"] = round(float(np.mean(lost)), 2)
    return result


def _compared(
    probability: NDArray[np.float64],
    plain_right: NDArray[np.bool_],
    labels: NDArray[np.int64],
    abstain: float,
) -> Result:
    chosen = probability.argmax(axis=1)
    right = chosen == labels
    calm, taken = calm_people(labels, chosen)

    def score(weights: Weights) -> Metrics:
        return {
            "accuracy": weighted_mean(right, weights),
            "flipped": (weights @ (plain_right & ~right)) / np.maximum(weights @ plain_right, 1),
            "calm_taken_for_negative": (weights @ taken) / np.maximum(weights @ calm, 1),
            "not_sure": weighted_mean(probability.max(axis=1) < abstain, weights),
        }

    row = described(score, len(labels))
    row["points_lost"] = round(100 * (float(plain_right.mean()) - float(right.mean())), 2)
    return row


_PAGE = """# Conditions: {name}

Split {split}: {faces} faces of FER2013 with their original pixels, {clear} of which more than half of
ten annotators see alike.

{scenes}

Plain view: one upright person with a head of {head} px. Flipped: right in the plain view, wrong here; in
brackets the 95 % bootstrap interval.
{halves}
{table}
"""


def page(result: Result) -> str:
    """Return the report as Markdown."""
    in_scenes = result["scenes"]
    halves = result.get("half_covered_points_lost")
    summary = (
        ("accuracy", with_interval(in_scenes["accuracy"])),
        ("balanced accuracy", with_interval(in_scenes["balanced_accuracy"])),
        ("calibration error against the votes", f"{in_scenes['ece']['value']:.3f}"),
        ("calm faces called angry, sad or afraid", with_interval(in_scenes["calm_taken_for_negative"])),
        ("not sure", percent(in_scenes["not_sure"])),
    )
    return _PAGE.format(
        name=result["name"],
        split=result["split"],
        faces=result["faces"],
        clear=result["clear_faces"],
        scenes=markdown_table(("rendered scenes of 1 to 4 people", ""), summary),
        head=result["head_px"],
        halves="" if halves is None else f"Half of the face covered costs {halves:.1f} points on average.\n",
        table=markdown_table(
            ("condition", "flipped", "accuracy", "points lost", "calm taken for negative", "not sure"),
            list(_rows(result["conditions"])),
        ),
    )


def _rows(conditions: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, row in conditions.items():
        yield (
            name,
            with_interval(row["flipped"]) if name != PLAIN else "",
            percent(row["accuracy"]["value"]),
            f"{row['points_lost']:.1f}" if name != PLAIN else "",
            percent(row["calm_taken_for_negative"]["value"]),
            percent(row["not_sure"]["value"]),
        )
