"""FER2013 faces in rendered scenes as a data set, and pairs of people that test subject conditioning."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from emotion_train.datasets.base import Task
from emotion_train.language.labels import EKMAN
from emotion_train.language.phrases import CATEGORY_PHRASES
from emotion_train.probing.bootstrap import Metrics, Weights, bootstrap_intervals, point_metrics
from emotion_train.probing.features import ClipInput, FeatureSet, encode_all
from emotion_train.probing.fit import TaskHead
from emotion_train.probing.measure import Interval, MeasureOptions
from emotion_train.probing.metrics import Labels, Values, area_under_roc, weighted_mean
from emotion_train.probing.samples import Encoding
from emotion_train.scenes.batches import SceneMix
from emotion_train.scenes.faces import Faces, Split, load_faces
from emotion_train.scenes.sets import PersonClip, pair_clips, person_clips

TASK = Task("emotion", "single_label", EKMAN)

# The categories, of 26, that a face of FER2013 can be an example of, with the emotion of the face.
LABELLED_CATEGORIES = {
    **{name: name for name in EKMAN if name in CATEGORY_PHRASES},
    "aversion": "disgust",
}


@dataclass(frozen=True, slots=True)
class ScenePlan:
    """Where the faces come from and how many are used.

    Attributes:
        archive: Path of the face archive.
        frames: Frames rendered and encoded of each test clip.
        limits: Largest number of faces of each split; None uses all.
        votes: Weight of the votes against the label in what the probe is fitted on. It is always tuned and
            measured on votes.
    """

    archive: Path
    frames: int
    limits: Mapping[Split, int | None]
    votes: float = 1.0


# Name of the set -> split of the faces, numbers of people in a scene, frames (None: as in the plan).
SETS: dict[str, tuple[Split, tuple[int, ...], int | None]] = {
    "train": ("train", (1, 2, 3), 1),
    "val": ("val", (1, 2, 3), 2),
    "one_person": ("test", (1,), None),
    "two_or_three": ("test", (2, 3), None),
}

# A probe should learn near and far faces in good and bad light; its temperature is for ordinary scenes.
TRAIN_MIX = SceneMix(degraded=0.3, close_ups=0.3)


def chosen_faces(plan: ScenePlan, split: Split, seed: int) -> Faces:
    """Return the faces of a split in random order, at most the plan's limit; the labels are majorities."""
    faces = load_faces(plan.archive, split)
    if split == "train":
        faces = faces.weighted(plan.votes)
    order = np.random.default_rng(seed).permutation(len(faces.labels))
    return faces.by_majority().take(order[: plan.limits[split]])


def scene_set(name: str, plan: ScenePlan, encoding: Encoding, seed: int) -> FeatureSet:
    """Render and encode one of the sets train, val, one_person, two_or_three; each face is its own group.

    Raises:
        EmotionError: The archive is missing, or there is no clip.
    """
    split, people, frames = SETS[name]
    frames = plan.frames if frames is None else frames
    faces = chosen_faces(plan, split, seed)
    offset = list(SETS).index(name)
    mix = TRAIN_MIX if name == "train" else SceneMix()
    clips = person_clips(faces, encoding.spec, people, frames=frames, seed=seed + offset, mix=mix)
    features, rows = _encoded(name, clips, encoding, len(faces.labels))
    groups = tuple(map(str, range(len(rows))))
    return FeatureSet(
        name, features, {TASK.name: faces.labels[rows]}, groups, {}, {TASK.name: faces.votes[rows]}
    )


def swap_metrics(first: Labels, second: Labels, a: Labels, b: Labels) -> dict[str, float]:
    """Measure on pairs of people of different emotions whether the prediction follows the subject.

    Args:
        first: (N,) predictions with the first person as subject.
        second: (N,) predictions with the second person as subject.
        a: (N,) labels of the first person.
        b: (N,) labels of the second person.

    Returns:
        Fractions: `changed` of pairs whose two predictions differ, `own` of predictions that are correct,
            `other` of
        predictions that name the neighbour's emotion, `both_right` of pairs with two correct predictions.
    """
    return point_metrics(SwapScorer(first, second, a, b), len(first))


def measure_pairs(
    head: TaskHead, plan: ScenePlan, encoding: Encoding, seed: int, options: MeasureOptions
) -> dict[str, tuple[dict[str, float], dict[str, Interval]]]:
    """Return swap metrics with intervals, for pairs with a shared crop and with per-person crops."""
    faces = chosen_faces(plan, "test", seed)
    results = {}
    for name, same in (("pairs_same_window", True), ("pairs_own_window", False)):
        pairs = pair_clips(faces, encoding.spec, frames=plan.frames, seed=seed + 4, same_window=same)
        both = (clip for pair in pairs for clip in pair)
        features, rows = _encoded(name, both, encoding)
        labels = faces.labels[rows]
        predictions = head.logits(features).argmax(axis=1)
        swaps = SwapScorer(predictions[::2], predictions[1::2], labels[::2], labels[1::2])
        count = len(labels) // 2
        metrics = {"pairs": float(count), **point_metrics(swaps, count)}
        between = bootstrap_intervals(swaps, np.arange(count), seed=options.seed, resamples=options.resamples)
        results[name] = metrics, between
    return results


def category_metrics(weight: NDArray[np.float32], part: FeatureSet) -> dict[str, float]:
    """Return the area under the ROC curve of those of the 26 categories for which there are labelled faces.

    There are no labelled images of the other categories, so they are not measured.

    Args:
        weight: (26, D) text embeddings in the order of `CATEGORY_PHRASES`.
        part: Features of faces.
    """
    names = list(CATEGORY_PHRASES)
    scores = part.features.astype(np.float64) @ weight.astype(np.float64).T
    labels = part.targets[TASK.name]
    all_once = np.ones((1, len(part)))
    metrics = {
        f"{part.name}_auc_{category}": float(
            area_under_roc(scores[:, names.index(category)], labels == EKMAN.index(emotion), all_once)[0]
        )
        for category, emotion in LABELLED_CATEGORIES.items()
    }
    return {name: value for name, value in metrics.items() if not np.isnan(value)}  # left out: no such face


def swap_parts(first: Labels, second: Labels, a: Labels, b: Labels) -> dict[str, Values]:
    """Return the metrics of `swap_metrics` of each pair, in the last dimension."""
    return {
        "changed": first != second,
        "own": ((first == a).astype(float) + (second == b)) / 2,
        "other": ((first == b).astype(float) + (second == a)) / 2,
        "both_right": (first == a) & (second == b),
    }


class SwapScorer:
    """Scores the metrics of `swap_metrics` over pairs."""

    def __init__(self, first: Labels, second: Labels, a: Labels, b: Labels) -> None:
        self._parts = swap_parts(first, second, a, b)

    def __call__(self, weights: Weights) -> Metrics:
        """Return each metric, (B,), for weights (B, N)."""
        return {name: weighted_mean(values, weights) for name, values in self._parts.items()}


def _encoded(
    name: str, clips: Iterable[PersonClip], encoding: Encoding, total: int | None = None
) -> tuple[NDArray[np.float32], Labels]:
    """Return features (N, D) and rows of the faces (N,) of clips as they are rendered."""
    faces: list[int] = []

    def numbered() -> Iterator[ClipInput]:
        for row, clip in enumerate(tqdm(clips, total=total, desc=name, unit="clip")):
            faces.append(clip.face)
            yield row, clip.images, clip.patch_weights

    _, features = encode_all(encoding.encoder, numbered())
    return features, np.array(faces, np.int64)
