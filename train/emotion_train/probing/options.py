"""Open the checkpoint and the data set of a probe, and describe them for a report."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from emotion_runtime.errors import EmotionError
from emotion_train.datasets import load_dataset
from emotion_train.datasets.base import Task
from emotion_train.datasets.table import Columns
from emotion_train.pretrained import Checkpoint, read_checkpoint
from emotion_train.probing import scene_probe as scenes
from emotion_train.probing.bootstrap import LEVEL, RESAMPLES
from emotion_train.probing.calibration import BINS
from emotion_train.probing.classifiers import MAX_ITER, RIDGE_ALPHA, SOLVER
from emotion_train.probing.features import FeatureKind
from emotion_train.probing.protocol import SEED, Protocol, protocol_of
from emotion_train.probing.run import ProtocolResult, SetLoader
from emotion_train.probing.samples import Encoding, features_of
from emotion_train.scenes.faces import FACES_FILE


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """Which data and features a probe uses; the options that fitting and measuring share.

    Attributes:
        dataset: Name of the data set, see `protocol.PROTOCOLS`.
        data: Folder of the data set, or the file of a table.
        checkpoint: Of `emotion-train pretrain`, or the released .pt file.
        splits: Splits to measure on; empty uses those of the protocol.
        features: Kind of feature; None uses that of the protocol.
        cache: Folder of stored features; None uses `features` beside the checkpoint.
        workers: Processes that read images.
        device: Torch device that computes the features.
        resamples: Number of bootstrap resamples.
        seed: Of everything random.
        frames: For scenes, frames that are encoded of each test clip.
        train_faces: For scenes, number of clips the probe is fitted on.
        test_faces: For scenes, number of validation and of test faces; None uses all.
        columns: For a table, names of its columns.
    """

    dataset: str
    data: Path
    checkpoint: Path
    splits: tuple[str, ...] = ()
    features: FeatureKind | None = None
    cache: Path | None = None
    workers: int = 0
    device: str = "cpu"
    resamples: int = RESAMPLES
    seed: int = SEED
    frames: int = 8
    train_faces: int = 12000
    test_faces: int | None = None
    columns: Columns = field(default_factory=Columns)

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range."""
        for name in ("frames", "train_faces", "test_faces", "resamples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise EmotionError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
        if self.workers < 0:
            raise EmotionError(f"--workers {self.workers}: expected 0 or more")


@dataclass(frozen=True, slots=True)
class ProbeSetup:
    """An open checkpoint and data set.

    Attributes:
        checkpoint: The model.
        encoding: How its features are computed.
        protocol: Which split is for what.
        tasks: What can be predicted.
        load_set: Returns the features of a split for a seed.
        plan: How scenes are rendered; None for other data sets.
    """

    checkpoint: Checkpoint
    encoding: Encoding
    protocol: Protocol
    tasks: tuple[Task, ...]
    load_set: SetLoader
    plan: scenes.ScenePlan | None


def open_setup(options: ProbeOptions, *, fitting: bool = False) -> ProbeSetup:
    """Open the checkpoint and the data set.

    The lists of all splits are read before the first image of any is encoded.

    Args:
        options: Which ones.
        fitting: Whether the splits that are fitted on are needed as well.

    Raises:
        EmotionError: One of them is missing or corrupt, or the device cannot be used.
    """
    protocol = protocol_of(options.dataset)
    if options.splits:
        protocol = replace(protocol, measured=tuple(dict.fromkeys(options.splits)))
    if options.features:
        protocol = replace(protocol, features=options.features)
    checkpoint = read_checkpoint(options.checkpoint)
    checkpoint.model.to(_device(options.device))
    folder = options.cache or options.checkpoint.parent / "features"
    encoding = Encoding(checkpoint.model, checkpoint.sha256, protocol.features, folder, options.workers)
    if options.dataset == "scenes":
        return _scenes(options, checkpoint, encoding, protocol)
    columns = options.columns if options.dataset == "table" else None
    needed = protocol.splits if fitting else protocol.measured
    sets = {split: load_dataset(options.dataset, options.data, split, columns) for split in needed}
    features = cache(lambda split: features_of(sets[split], encoding))
    tasks = sets[protocol.measured[0]].tasks
    return ProbeSetup(checkpoint, encoding, protocol, tasks, lambda split, _: features(split), None)


def _scenes(
    options: ProbeOptions, checkpoint: Checkpoint, encoding: Encoding, protocol: Protocol
) -> ProbeSetup:
    unknown = [name for name in protocol.splits if name not in scenes.SETS]
    if unknown:
        raise EmotionError(
            f"unknown set {', '.join(unknown)} of scenes: choose from {', '.join(scenes.SETS)}"
        )
    if protocol.features != "video":
        raise EmotionError("scenes are clips: expected --features video")
    plan = scenes.ScenePlan(
        options.data / FACES_FILE,
        options.frames,
        {"train": options.train_faces, "val": options.test_faces, "test": options.test_faces},
    )
    load_set = cache(lambda name, seed: scenes.scene_set(name, plan, encoding, seed))
    return ProbeSetup(checkpoint, encoding, protocol, (scenes.TASK,), load_set, plan)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: raised by a build without CUDA
        reason = str(error).splitlines()[0]
        raise EmotionError(
            f"--device {name} cannot be used ({reason}): use --device cpu, or fix its driver"
        ) from error
    return device


def describe(setup: ProbeSetup, options: ProbeOptions) -> dict[str, Any]:
    """Return where features come from and how they are measured, for a report."""
    spec = setup.encoding.spec
    return {
        "checkpoint": options.checkpoint.name,
        "checkpoint_sha256": setup.checkpoint.sha256,
        "preset": setup.checkpoint.preset,
        "features": f"{setup.encoding.kind}, L2-normalised",
        "window": f"{spec.window}, {spec.size} px",
        "intervals": (
            f"the middle {100 * LEVEL:.0f} % of {options.resamples} bootstrap resamples of whole groups, "
            f"seed {options.seed}"
        ),
        "calibration_error": f"{BINS} equal bins",
    }


def describe_fit(setup: ProbeSetup, seeds: Sequence[int], result: ProtocolResult) -> dict[str, Any]:
    """Return how heads were fitted, for a report."""
    return {
        "fitted_on": setup.protocol.fit,
        "temperature_from": setup.protocol.tune,
        "classifiers": (
            f"scikit-learn {version('scikit-learn')}: logistic regression ({SOLVER}, at most {MAX_ITER} "
            f"iterations), one against the rest for several labels; ridge, alpha {RIDGE_ALPHA:g}, for values"
        ),
        "c": {head.task.name: head.c for head in result.heads if head.c is not None},
        "seeds": list(seeds),
    }
