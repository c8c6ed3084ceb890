"""The evaluation protocol of each data set: what is fitted on which split, and options.

Source: paper Sec. 4.1 and 4.3, the authors' evaluation: scikit-learn's linear models on L2-normalised
features, solver sag, at most 2000 iterations, seed 2022.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from emotion_runtime.errors import EmotionError
from emotion_train.probing.features import FeatureKind

SEED = 2022
C_GRID = (0.1, 0.3, 1.0, 3.16, 10.0, 31.6)


@dataclass(frozen=True, slots=True)
class Protocol:
    """The constants of one data set.

    Attributes:
        fit: Split that the classifiers are fitted on.
        tune: Split on which temperatures are fitted, and C where it is not given.
        measured: Splits whose metrics are reported.
        c: Inverse regularisation strength; None chooses the value of `C_GRID` with the best metric on `tune`.
        features: Encoder whose features are used.
        smoothed: Whether the predictions of all films are smoothed as one series before they are scored; they
            are also scored smoothed film by film, and without smoothing.
    """

    fit: str
    tune: str
    measured: tuple[str, ...]
    c: float | None
    features: FeatureKind = "video"
    smoothed: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """All splits that are needed, each once."""
        return tuple(dict.fromkeys([self.fit, self.tune, *self.measured]))


PROTOCOLS: Mapping[str, Protocol] = {
    "bold": Protocol("train", "val", ("val",), c=3.16),  # the labels of its test split are not published
    "moviegraphs": Protocol("train", "val", ("val", "test"), c=10.0),
    "meld": Protocol("train", "dev", ("dev", "test"), c=8.0),
    "emotic": Protocol("train", "val", ("val", "test"), c=2.5, features="image"),
    "liris": Protocol("train", "test", ("test",), c=None, smoothed=True),  # regression only: nothing is tuned
    "table": Protocol("train", "val", ("val", "test"), c=None),
    "scenes": Protocol("train", "val", ("one_person", "two_or_three"), c=None),
}


def protocol_of(dataset: str) -> Protocol:
    """Return the protocol of a data set.

    Raises:
        EmotionError: There is no such data set.
    """
    if dataset not in PROTOCOLS:
        raise EmotionError(f"unknown data set {dataset!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[dataset]
