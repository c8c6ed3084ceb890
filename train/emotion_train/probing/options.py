"""Open the checkpoint and the data set of a probe, and describe them for a report."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_runtime.bundle import Bundle
from emotion_runtime.errors import EmotionError
from emotion_train.datasets import load_dataset
from emotion_train.datasets.base import Task
from emotion_train.datasets.table import Columns
from emotion_train.probing.bootstrap import LEVEL, RESAMPLES
from emotion_train.probing.calibration import BINS
from emotion_train.probing.classifiers import MAX_ITER, RIDGE_ALPHA, SOLVER
from emotion_train.probing.encoders import BundleEncoder
from emotion_train.probing.features import FeatureKind
from emotion_train.probing.protocol import SEED, Protocol, protocol_of
from emotion_train.probing.run import ProtocolResult, SetLoader
from emotion_train.probing.samples import Encoding, features_of

if TYPE_CHECKING:
    import torch

    from emotion_train.pretrained import Checkpoint
    from emotion_train.probing.scene_probe import ScenePlan

AUTO_DEVICE = "auto"
MAX_SEED = 2**31  # scikit-learn takes twice as much, so there is room for --seeds


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """Which data and features a probe uses; the options that fitting and measuring share.

    Attributes:
        dataset: Name of the data set, see `protocol.PROTOCOLS`.
        data: Folder of the data set, or the file of a table.
        checkpoint: Of `emotion-train pretrain`, or the released .pt file; None for a bundle.
        bundle: Name or folder of a bundle, whose ONNX graphs compute the features; None for a checkpoint.
        splits: Splits to measure on; empty uses those of the protocol.
        features: Kind of feature; None uses that of the protocol.
        cache: Folder of stored features; None uses `features` beside the checkpoint.
        workers: Processes that read images.
        device: Torch device that computes the features; "auto": CUDA where there is a GPU, else the CPU.
        resamples: Number of bootstrap resamples.
        seed: Of everything random.
        frames: For scenes, frames that are encoded of each test clip.
        train_faces: For scenes, number of clips the probe is fitted on.
        test_faces: For scenes, number of validation and of test faces; None uses all.
        votes: For scenes, weight of the votes against the label in what the probe is fitted on.
        columns: For a table, names of its columns.
    """

    dataset: str
    data: Path
    checkpoint: Path | None = None
    bundle: str | None = None
    splits: tuple[str, ...] = ()
    features: FeatureKind | None = None
    cache: Path | None = None
    workers: int = 0
    device: str = AUTO_DEVICE
    resamples: int = RESAMPLES
    seed: int = SEED
    frames: int = 8
    train_faces: int = 12000
    test_faces: int | None = None
    votes: float = 1.0
    columns: Columns = field(default_factory=Columns)

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range."""
        for name in ("frames", "train_faces", "test_faces", "resamples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise EmotionError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
        if not 0 <= self.seed <= MAX_SEED:
            raise EmotionError(f"--seed {self.seed}: expected 0 to {MAX_SEED}")
        if not 0 <= self.votes <= 1:
            raise EmotionError(f"--votes {self.votes:g}: expected a number from 0 to 1")
        if (self.checkpoint is None) == (self.bundle is None):
            raise EmotionError("expected either --checkpoint or --bundle")
        if self.workers < 0:
            raise EmotionError(f"--workers {self.workers}: expected 0 or more")


@dataclass(frozen=True, slots=True)
class ProbeSetup:
    """An open model and data set.

    Attributes:
        model: The checkpoint or the bundle.
        encoding: How its features are computed.
        protocol: Which split is for what.
        tasks: What can be predicted.
        load_set: Returns the features of a split for a seed.
        plan: How scenes are rendered; None for other data sets.
    """

    model: "Checkpoint | Bundle"
    encoding: Encoding
    protocol: Protocol
    tasks: tuple[Task, ...]
    load_set: SetLoader
    plan: "ScenePlan | None"

    @property
    def sha256(self) -> str:
        """Hash of the checkpoint, of the model or of the one that the bundle was exported from."""
        if isinstance(self.model, Bundle):
            return self.model.manifest.checkpoint_sha256
        return self.model.sha256

    @property
    def checkpoint(self) -> "Checkpoint":
        """The model, where only a checkpoint will do."""
        if isinstance(self.model, Bundle):
            raise EmotionError("a bundle has no text tower and no torch model: give --checkpoint")
        return self.model

    @property
    def preset(self) -> str:
        """Name of the model's preset."""
        return self.model.manifest.preset if isinstance(self.model, Bundle) else self.model.preset


def open_setup(options: ProbeOptions, *, fitting: bool = False) -> ProbeSetup:
    """Open the model and the data set.

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
    model, encoding = (
        _open_bundle(options, protocol) if options.bundle else _open_checkpoint(options, protocol)
    )
    if options.dataset == "scenes":
        return _scenes(options, model, encoding, protocol)
    columns = options.columns if options.dataset == "table" else None
    needed = protocol.splits if fitting else protocol.measured
    sets = {split: load_dataset(options.dataset, options.data, split, columns) for split in needed}
    features = cache(lambda split: features_of(sets[split], encoding))
    tasks = sets[protocol.measured[0]].tasks
    return ProbeSetup(model, encoding, protocol, tasks, lambda split, _: features(split), None)


def _open_checkpoint(options: ProbeOptions, protocol: Protocol) -> "tuple[Checkpoint, Encoding]":
    from emotion_train.pretrained import read_checkpoint  # noqa: PLC0415 - imports torch
    from emotion_train.probing.torch_encoder import TorchEncoder  # noqa: PLC0415 - imports torch

    if options.checkpoint is None:
        raise ValueError("neither a checkpoint nor a bundle")
    checkpoint = read_checkpoint(options.checkpoint)
    checkpoint.model.to(_device(options.device))
    folder = options.cache or options.checkpoint.parent / "features"
    encoder = TorchEncoder(checkpoint.model)
    return checkpoint, Encoding(encoder, checkpoint.sha256, protocol.features, folder, options.workers)


def _open_bundle(options: ProbeOptions, protocol: Protocol) -> tuple[Bundle, Encoding]:
    if options.device not in (AUTO_DEVICE, "cpu"):
        raise EmotionError(
            f"--device {options.device} with --bundle: its graphs run on the CPU here, leave it out"
        )
    encoder = BundleEncoder(options.bundle or "")
    manifest = encoder.bundle.manifest
    # The graphs are checked against the checkpoint, but a bundle can be edited: key features by the graphs.
    hashes = "".join(graph.sha256 for _, graph in sorted(manifest.graphs.items()))
    sha256 = hashlib.sha256(hashes.encode()).hexdigest()
    folder = options.cache or Path("runs") / "features"
    return encoder.bundle, Encoding(encoder, sha256, protocol.features, folder, options.workers)


def _scenes(
    options: ProbeOptions, model: "Checkpoint | Bundle", encoding: Encoding, protocol: Protocol
) -> ProbeSetup:
    from emotion_train.probing import scene_probe as scenes  # noqa: PLC0415 - imports torch
    from emotion_train.scenes.faces import FACES_FILE  # noqa: PLC0415

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
        options.votes,
    )
    load_set = cache(lambda name, seed: scenes.scene_set(name, plan, encoding, seed))
    return ProbeSetup(model, encoding, protocol, (scenes.TASK,), load_set, plan)


def _device(name: str) -> "torch.device":
    import torch  # noqa: PLC0415 - not needed for a bundle

    if name == AUTO_DEVICE:
        name = "cuda" if torch.cuda.is_available() else "cpu"
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
    origin = {"checkpoint": options.checkpoint.name} if options.checkpoint else {"bundle": options.bundle}
    return {
        **origin,
        "checkpoint_sha256": setup.sha256,
        "preset": setup.preset,
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
