"""Train the variants of a comparison, and measure each on a labelled data set and on clips held out."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from emotion_runtime.bundle import sha256_of
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_train.checkpoint import save_checkpoint
from emotion_train.clips.batches import ShardBatches
from emotion_train.clips.reader import ShardSet
from emotion_train.datasets import load_dataset
from emotion_train.datasets.base import Dataset
from emotion_train.datasets.table import splits_of
from emotion_train.losses import PiecewiseLoss
from emotion_train.model import EmotionCLIP
from emotion_train.pretrained import read_checkpoint
from emotion_train.probing.protocol import C_GRID, SEED, Protocol, protocol_of
from emotion_train.probing.run import FitOptions, ProtocolResult, run_protocol
from emotion_train.probing.samples import Encoding, features_of
from emotion_train.probing.torch_encoder import TorchEncoder
from emotion_train.reproduce.variants import WHOLE, Scale, Variant, config_of
from emotion_train.training.config_files import model_config
from emotion_train.training.objective import Encoded, Execution
from emotion_train.training.parallel import World
from emotion_train.training.run import CHECKPOINT, Run

_MEASURED = "measured.json"
_HELD_OUT_BATCH = 64
RANKS = (1, 5, 10)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What all variants share.

    Attributes:
        shards: Clips to train on.
        held_out: Clips for retrieval and loss; None without.
        dataset: Name of the labelled data set.
        labelled: Its folder or file.
        scale: See `config_of`.
        out: Folder of the runs.
        resamples: Of the intervals.
    """

    shards: Path
    held_out: Path | None
    dataset: str
    labelled: Path
    scale: Scale
    out: Path
    resamples: int


def train_and_measure(plan: Plan, variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """Return a row of metrics for each variant; what is finished is not run again.

    A variant is measured again when the data or the number of resamples are others; a run on other shards is
    refused.

    Returns:
        Rows with `name`, `title`, `paper`, `inputs`, `metrics`, `intervals` and `held_out`.

    Raises:
        EmotionError: Data are missing or invalid, a run cannot be continued, or a result is corrupt.
    """
    labelled_sets(plan.dataset, plan.labelled)  # mistakes surface before the first training
    inputs = _inputs(plan)
    rows = []
    for variant in variants:
        path = plan.out / variant.name / _MEASURED
        row = _measured(path, inputs)
        if row is None:
            _log.info("%s (%s)", variant.title, variant.name)
            model = trained(plan, variant)
            found = probe(model, plan.dataset, plan.labelled, plan.resamples)
            held_out = held_out_metrics(model, plan.held_out) if plan.held_out else {}
            row = {"inputs": inputs, **metrics_of(found), "held_out": held_out}
            write_atomically(path, json.dumps(row, indent=2))
        rows.append({"name": variant.name, "title": variant.title, "paper": list(variant.paper), **row})
    return rows


def _inputs(plan: Plan) -> dict[str, Any]:
    """Return what the metrics depend on, besides the variant."""
    return {
        "shards": ShardSet.open(str(plan.shards)).fingerprint,
        "held_out": ShardSet.open(str(plan.held_out)).fingerprint if plan.held_out else None,
        "dataset": plan.dataset,
        "labelled": sha256_of(plan.labelled) if plan.labelled.is_file() else str(plan.labelled.resolve()),
        "resamples": plan.resamples,
    }


def _measured(path: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the metrics of a finished variant; None without them, or if they are of other inputs."""
    if not path.is_file():
        return None
    try:
        stored: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise EmotionError(f"{path} is corrupt ({error}): delete it, to measure the variant again") from error
    return stored if stored.get("inputs") == inputs else None


def trained(plan: Plan, variant: Variant) -> EmotionCLIP:
    """Train a variant, or go on where it was stopped."""
    out = plan.out / variant.name
    start = str(_tiny_start(plan)) if plan.scale == "tiny" else None
    config = config_of(variant, plan.scale, start)
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    resume = (out / CHECKPOINT).exists()
    sizes = model_config(config.preset, config.model)
    run = Run(config, sizes, data=str(plan.shards), out=out, world=World(device=device), resume=resume)
    run.train()
    return run.model.eval()


def whole_model(plan: Plan) -> Path:
    """Return the checkpoint of the paper's own model, which is trained to its end if it is not yet."""
    trained(plan, WHOLE)
    return plan.out / WHOLE.name / CHECKPOINT


def _tiny_start(plan: Plan) -> Path:
    """Write the random weights that stand for CLIP's at the scale "tiny"."""
    path = plan.out / "start.pt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        config = config_of(WHOLE, "tiny", str(path))
        torch.manual_seed(config.seed)
        model = EmotionCLIP(model_config(config.preset, config.model))
        save_checkpoint(path, config=model.config, state={"model": model.state_dict()})
    return path


def labelled_sets(dataset: str, data: Path) -> tuple[Protocol, dict[str, Dataset]]:
    """Return the protocol of a data set, and the set of each of its splits.

    Raises:
        EmotionError: A file is missing, or has another layout.
    """
    protocol = protocol_of(dataset)
    if dataset == "table":  # one's own may lack a split for the test
        splits = splits_of(data)
        protocol = replace(protocol, measured=tuple(name for name in protocol.measured if name in splits))
    return protocol, {split: load_dataset(dataset, data, split) for split in protocol.splits}


def probe(model: EmotionCLIP, dataset: str, data: Path, resamples: int) -> ProtocolResult:
    """Fit and measure a data set's probe by the paper's protocol."""
    protocol, sets = labelled_sets(dataset, data)
    with TemporaryDirectory() as cache:
        encoding = Encoding(TorchEncoder(model), "", protocol.features, Path(cache), 0)
        return run_protocol(
            sets[protocol.fit].tasks,
            protocol,
            lambda split, _seed: features_of(sets[split], encoding),
            FitOptions((SEED,), (protocol.c,) if protocol.c else C_GRID, resamples),
        )


def metrics_of(result: ProtocolResult) -> dict[str, Any]:
    """Return metrics and 95 % intervals by `(set, metric)` written as `set metric`."""
    metrics, intervals = {}, {}
    for head in result.measured:
        for metric, value in head.metrics.items():
            metrics[f"{head.name} {metric}"] = value if np.isfinite(value) else None
            if metric in head.intervals:
                intervals[f"{head.name} {metric}"] = list(head.intervals[metric])
    return {"metrics": metrics, "intervals": intervals}


@torch.no_grad()
def held_out_metrics(model: EmotionCLIP, shards: Path) -> dict[str, float]:
    """Return the loss without reweighting, and how often a clip's own sentence is among the nearest.

    The clips are cut as in training, with one seed, and all are compared with all.

    Returns:
        "loss", the mean over batches of 64; "clips"; and for k in 1, 5, 10 "video_to_text_r@k" and
        "text_to_video_r@k".
    """
    opened = ShardSet.open(str(shards))
    batch = min(_HELD_OUT_BATCH, len(opened))
    frames = model.config.clip_frames
    batches = ShardBatches(opened, model.config.preprocess, seed=SEED, batch=batch, frames=frames)
    encoder = Execution().encoder(model).eval()
    device = model.logit_scale.device
    parts: list[Encoded] = []
    losses = []
    for index in range(batches.steps_per_epoch):
        pairs = batches[index].to(device)
        parts.append(encoder(pairs.images, pairs.clip_index, pairs.patch_weights, pairs.text))
        with torch.enable_grad():
            part = PiecewiseLoss(0.0, "paper")(
                parts[-1].video,
                parts[-1].text,
                pairs.sentiment,
                rows=slice(0, batch),
                scale=parts[-1].scale,
            )
        losses.append(part.loss.item())
    whole = Encoded.join(parts)
    found = {"loss": float(np.mean(losses)), "clips": float(len(whole.video))}
    for name, one, other in (
        ("video_to_text", whole.video, whole.text),
        ("text_to_video", whole.text, whole.video),
    ):
        ranks = ranks_of_own(one, other)
        found |= {f"{name}_r@{k}": (ranks < k).float().mean().item() for k in RANKS}
    return found


def ranks_of_own(one: Tensor, other: Tensor) -> Tensor:
    """Return how many rows of `other` are nearer to each row of `one` than its own partner, (N,) int64."""
    own = (one * other).sum(dim=1)
    ranks = []
    for start in range(0, len(one), 1024):  # so that memory is linear
        similarity = one[start : start + 1024] @ other.T
        nearer = similarity > own[start : start + 1024, None]
        places = torch.arange(len(similarity), device=one.device)
        nearer[places, places + start] = False  # its own, by another order of summation
        ranks.append(nearer.sum(dim=1))
    return torch.cat(ranks)


def model_at(checkpoint: Path) -> EmotionCLIP:
    """Return the model of a checkpoint.

    Raises:
        EmotionError: There is no such file, or it is not a checkpoint.
    """
    return read_checkpoint(checkpoint).model.eval()
