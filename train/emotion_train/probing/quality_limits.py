"""Measure with how little quality of a view a model still predicts well: the limits that a bundle states."""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.manifest import QualityLimits
from emotion_train.probing.features import ClipEncoder
from emotion_train.probing.view_features import ViewFeatures, encode_views
from emotion_train.scenes.camera import Camera
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.views import PLAIN, Condition, cut, seen_by, shrunk

KEPT = 0.75  # fraction of the accuracy on good views that is left at a limit
FACES = 500  # faces that limits are measured on
LEAST_FACES = 100  # with fewer of them, the limits would be chance

# Conditions from good to bad, by the field of `Quality` that they change.
SWEEPS: Mapping[str, Mapping[str, Condition]] = MappingProxyType(
    {
        "head_px": {f"head of {pixels} px": shrunk(pixels) for pixels in (48, 32, 24, 20, 16, 12)},
        "sharpness": {f"blur of {sigma} px": seen_by(Camera(blur=sigma)) for sigma in (2, 4, 6, 8, 11, 15)},
        "inside": {f"{inside:.0%} inside": cut(inside) for inside in (0.9, 0.8, 0.7, 0.6, 0.5)},
    }
)

_log = logging.getLogger(__name__)


def measure_limits(
    encoder: ClipEncoder,
    head: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    faces: Faces,
    *,
    seed: int,
) -> QualityLimits | None:
    """Return where `KEPT` of the accuracy on good views is left.

    Faces alone and upright are rendered smaller and smaller, more and more blurred, and cut off more and more
    by the edge of the frame. A quality that is never that harmful has the worst measured value as its limit.
    How far a head is turned cannot be rendered: the limit of `frontal` is the default.

    Args:
        encoder: The frozen model.
        head: Turns features (N, D) into probabilities of `EKMAN` (N, 7).
        faces: Validation faces; those that most people see alike are used, at most `FACES`.
        seed: Determines everything that is rendered.

    Returns:
        The limits; None with fewer than `LEAST_FACES` faces.
    """
    order = np.random.default_rng(seed).permutation(np.flatnonzero(faces.clear))
    clear = faces.by_majority().take(order[:FACES])
    if len(clear.labels) < LEAST_FACES:
        return None
    conditions = {PLAIN: Condition()}
    for sweep in SWEEPS.values():
        conditions |= sweep
    seen = encode_views(encoder, clear, conditions, seed=seed)

    def accuracy(part: ViewFeatures) -> float:
        return float((head(part.features).argmax(axis=1) == clear.labels).mean())

    plain = accuracy(seen[PLAIN])
    limits = {}
    for name, sweep in SWEEPS.items():
        curve = [(seen[key].mean_quality(name), accuracy(seen[key])) for key in (PLAIN, *sweep)]
        limits[name] = round(crossing(curve, KEPT * plain), 3)
        points = ", ".join(f"{quality:.3g}: {100 * right:.1f} %" for quality, right in curve)
        _log.info("%s: limit %.3g (right at %s)", name, limits[name], points)
    return QualityLimits(**limits, kept=KEPT)


def crossing(curve: Sequence[tuple[float, float]], least: float) -> float:
    """Return the quality at which the accuracy falls below `least`.

    Args:
        curve: Quality and accuracy, from good to bad.
        least: An accuracy.

    Returns:
        A value between those of the first point below and the point before it; the last quality if there is
        none below.
    """
    for (better, above), (worse, below) in pairwise(curve):
        if below < least:
            if above <= below:  # the first point is below already
                return better
            return worse + (better - worse) * float(np.clip((least - below) / (above - below), 0, 1))
    return curve[-1][0]
