"""Evaluation during training: small probes on data that the model is not trained on."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_train.datasets import NAMES, load_dataset
from emotion_train.datasets.base import Task
from emotion_train.language.phrases import EKMAN_PHRASES
from emotion_train.model import EmotionCLIP
from emotion_train.probing.classifiers import fit_logistic
from emotion_train.probing.features import ClipInput, encode_all
from emotion_train.probing.protocol import C_GRID, SEED, Protocol, protocol_of
from emotion_train.probing.run import FitOptions, run_protocol
from emotion_train.probing.samples import Encoding, features_of
from emotion_train.probing.scorers import HEADLINE
from emotion_train.probing.torch_encoder import TorchEncoder
from emotion_train.probing.zero_shot import zero_shot_weight
from emotion_train.scenes.faces import Split, load_faces
from emotion_train.scenes.sets import person_clips
from emotion_train.training.config import Probe
from emotion_train.training.report import VALIDATION

Evaluation = Callable[[], dict[str, float]]

# Faces per evaluation on scenes: enough to see a curve rise, about half a minute on one core.
FACES: dict[Split, int] = {"train": 1000, "val": 500}
SCENES_C = 3.16


def scene_evaluation(model: EmotionCLIP, archive: Path) -> Evaluation:
    """Return a function that measures the accuracy on scenes of validation faces.

    It measures a probe that is fitted on 1,000 training faces, and zero-shot classification. The scenes are
    the same in every evaluation.

    Args:
        model: The model that is being trained.
        archive: Path of the face archive.
    """
    sets: dict[Split, tuple[list[ClipInput], NDArray[np.int64]]] = {}

    def scenes_of(split: Split) -> tuple[list[ClipInput], NDArray[np.int64]]:
        if split not in sets:
            faces = load_faces(archive, split)
            rows = np.random.default_rng(SEED).permutation(len(faces.labels))[: FACES[split]]
            clips = list(
                person_clips(faces.take(rows), model.config.preprocess, (1, 2, 3), frames=1, seed=SEED)
            )
            numbered = [(row, clip.images, clip.patch_weights) for row, clip in enumerate(clips)]
            sets[split] = numbered, np.array([clip.label for clip in clips], np.int64)
        return sets[split]

    def evaluate() -> dict[str, float]:
        features = {split: encode_all(TorchEncoder(model), scenes_of(split)[0])[1] for split in FACES}
        weight, bias = fit_logistic(features["train"], scenes_of("train")[1], c=SCENES_C, seed=SEED)
        bank = zero_shot_weight(model, EKMAN_PHRASES)
        labels = scenes_of("val")[1]
        return {
            f"{VALIDATION}probe": float(((features["val"] @ weight.T + bias).argmax(1) == labels).mean()),
            f"{VALIDATION}zero_shot": float(((features["val"] @ bank.T).argmax(1) == labels).mean()),
        }

    return evaluate


def dataset_evaluation(model: EmotionCLIP, probe: Probe, *, workers: int = 0) -> Evaluation:
    """Return a function that fits the probe of `emotion-train fit-probe` and measures it on the tuning split.

    Args:
        model: The model that is being trained.
        probe: The data set.
        workers: Processes that read images.

    Raises:
        EmotionError: The data set is unknown, its files are missing, or it has no metric of the given name.
    """
    _check_dataset(probe.dataset)
    protocol = protocol_of(probe.dataset)
    splits = dict.fromkeys((protocol.fit, protocol.tune))
    sets = {split: load_dataset(probe.dataset, Path(probe.data), split) for split in splits}
    _check_metric(probe, sets[protocol.tune].tasks, protocol.tune)
    short = Protocol(
        protocol.fit, protocol.tune, (protocol.tune,), protocol.c, protocol.features, protocol.smoothed
    )
    fitting = FitOptions((SEED,), (protocol.c,) if protocol.c else C_GRID, resamples=0)

    def evaluate() -> dict[str, float]:
        # Features of a model that is still learning are not worth keeping.
        with TemporaryDirectory() as cache, _without_messages():
            encoding = Encoding(TorchEncoder(model), "", protocol.features, Path(cache), workers)
            outcome = run_protocol(
                sets[protocol.fit].tasks,
                short,
                lambda split, _seed: features_of(sets[split], encoding),
                fitting,
            )
        return dict(
            _defined(
                (_key(f"{result.name}_{metric}"), result.metrics.get(metric, math.nan))
                for result in outcome.measured
                for metric in HEADLINE[result.task.kind]
            )
        )

    return evaluate


def _check_dataset(name: str) -> None:
    if name not in NAMES:
        why = (
            "rendered scenes have no labelled rows to read, and are measured after the run with "
            "`emotion-train fit-probe --dataset scenes`; "
            if name == "scenes"
            else ""
        )
        raise EmotionError(
            f"[probe] dataset {name!r} cannot be probed while clips are trained: {why}expected one of "
            f"{', '.join(NAMES)}"
        )


def _check_metric(probe: Probe, tasks: Sequence[Task], split: str) -> None:
    """Refuse a name that no metric will have, before an epoch of training is spent."""
    names = [
        _key(f"{split}_{metric}" if len(tasks) == 1 else f"{split}_{task.name}_{metric}")
        for task in tasks
        for metric in HEADLINE[task.kind]
    ]
    if probe.metric and probe.metric not in names:
        raise EmotionError(f"[probe] metric {probe.metric!r} is unknown: expected one of {', '.join(names)}")


def _key(name: str) -> str:
    """Return the key of a metric in the log; the set is often called `val`, which is not written twice."""
    return name if name.startswith(VALIDATION) else VALIDATION + name


def _defined(metrics: Iterator[tuple[str, float]]) -> Iterator[tuple[str, float]]:
    """Leave out metrics that are not defined: the log is strict JSON."""
    return ((name, value) for name, value in metrics if math.isfinite(value))


@contextmanager
def _without_messages() -> Iterator[None]:
    """Hide the messages of the probes, which would repeat themselves at every evaluation."""
    logger = logging.getLogger("emotion_train.probing")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
