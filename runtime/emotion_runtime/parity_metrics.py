"""The metrics of the parity check, for engines and for exported graphs, and their tolerances."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import IMAGES, Feeds, count_persons
from emotion_runtime.manifest import Parity
from emotion_runtime.vectors import cosine_similarity

LabelFunction = Callable[[NDArray[np.float32]], NDArray[np.intp]]  # outputs of a graph (P, D) -> (heads, P)

_SMALLEST_DIFFERENCE = 1e-3  # of two subjects, relative to an embedding: the model does not know the subject


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much a graph or an engine may differ from the reference.

    Attributes:
        max_abs: Largest difference of any value; of an engine, in standard deviations of the expected values.
        cosine_min: Lowest cosine of any person.
        subject_cosine: Lowest `subject_cosine` of a batch size.
        top1_agreement: Fraction of all persons for whom every head must give the same label.
        mean_abs: Largest mean difference.
    """

    max_abs: float
    cosine_min: float
    subject_cosine: float
    top1_agreement: float
    mean_abs: float = math.inf


def subject_pairs(feeds: Sequence[Feeds]) -> NDArray[np.intp]:
    """Return the pairs of persons, (K, 2), who see the same crop with different patch weights.

    Persons are counted over all batches, in order. Batches of the temporal encoder have no pairs.
    """
    pairs: list[tuple[int, int]] = []
    latest: dict[bytes, tuple[int, NDArray[np.float32]]] = {}  # by crop: the last person who saw it
    person = 0
    for feed in feeds:
        crops = [image.tobytes() for image in feed.get(IMAGES, ())]
        for i in range(count_persons(feed) if crops else 0):
            seen, weights = crops[feed["frame_index"][i]], feed["patch_weights"][i]
            before = latest.get(seen)
            if before is not None and not np.array_equal(before[1], weights):
                pairs.append((before[0], person))
            latest[seen] = person, weights
            person += 1
    return np.array(pairs, np.intp).reshape(-1, 2)


def subject_cosine(
    expected: NDArray[np.float64], found: NDArray[np.float64], pairs: NDArray[np.intp]
) -> float | None:
    """Return the cosine between expected and found differences of two subjects, all pairs as one vector.

    It is NaN if found subjects do not differ, and None if there are no pairs or the model itself ignores the
    subject.

    Args:
        expected: Embeddings (P, D).
        found: Embeddings (P, D).
        pairs: As from `subject_pairs`.
    """
    with np.errstate(invalid="ignore"):  # infinities give NaN
        a, b = (rows[pairs[:, 0]] - rows[pairs[:, 1]] for rows in (expected, found))
    if not np.linalg.norm(a) > _SMALLEST_DIFFERENCE * np.linalg.norm(expected[pairs[:, 0]]):
        return None
    return float(cosine_similarity(a.reshape(1, -1), b.reshape(1, -1))[0])


def measure_outputs(
    expected: NDArray[np.float32],
    runs: Sequence[NDArray[np.float32]],
    labels: LabelFunction,
    pairs: NDArray[np.intp],
) -> dict[str, Any]:
    """Return the metrics of a row of the parity report by the names of `Parity`, each the worst of all runs.

    Args:
        expected: Outputs that count as correct, (P, D).
        runs: Outputs of each run, (P, D).
        labels: Returns the labels of outputs.
        pairs: As from `subject_pairs`.
    """
    a, kept = expected.reshape(len(expected), -1).astype(np.float64), labels(expected)
    metrics = []
    for found in runs:
        b = found.reshape(len(found), -1).astype(np.float64)
        difference, cosine = np.abs(a - b), cosine_similarity(a, b)
        agree = (labels(found) == kept).all(axis=0)
        metrics.append((difference.max(), difference.mean(), cosine.min(), cosine.mean(), agree.mean()))
    largest, mean, lowest, usual, agreement = zip(*metrics, strict=True)
    cosines = [subject_cosine(a, found.astype(np.float64), pairs) for found in runs] if len(pairs) else []
    subjects = [cosine for cosine in cosines if cosine is not None]  # of all runs, or of none
    return {
        "max_abs": float(np.max(largest)),  # np.max and np.min: NaN is the worst
        "mean_abs": float(np.max(mean)),
        "cosine_min": float(np.min(lowest)),
        "cosine_mean": float(np.min(usual)),
        "top1_agreement": float(np.min(agreement)),
        "subject_cosine": float(np.min(subjects)) if subjects else None,
        "samples": len(expected),
    }


def within_tolerance(row: Parity, tolerance: Tolerance) -> bool:
    """Return whether the distances of a row are within tolerance; False if one of them is NaN."""
    return (
        row.max_abs <= row.tolerance
        and row.mean_abs <= tolerance.mean_abs
        and row.cosine_min >= tolerance.cosine_min
        and (row.subject_cosine is None or row.subject_cosine >= tolerance.subject_cosine)
    )


def top1_agreement(rows: Sequence[Parity]) -> float:
    """Return the fraction of the people of all rows who keep their labels; 1 if no row counts people."""
    counted = [(row.top1_agreement or 0, row.samples or 0) for row in rows]
    persons = sum(samples for _, samples in counted)
    return sum(fraction * samples for fraction, samples in counted) / persons if persons else 1.0
