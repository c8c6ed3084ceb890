"""Predict the votes on each training face with networks that were trained on the other faces.

Ten votes are a noisy picture of what people see: of two faces that look alike one gets six votes for sadness,
the other four. A network that never saw a face, but tens of thousands of others with their votes, adds what
it has learned from those. Votes mixed with such predictions are better targets for a small model.
"""

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_train.language.labels import EKMAN
from emotion_train.model.stem import ResidualBlock
from emotion_train.scenes.faces import Faces
from emotion_train.training.optim import Schedule, parameter_groups
from emotion_train.training.precision import Precision


@dataclass(frozen=True, slots=True)
class CrossFit:
    """How the networks are trained.

    Attributes:
        folds: Number of networks; each predicts one part of the faces and is trained on the others.
        epochs: Passes over the faces.
        batch: Faces per step.
        lr: Peak learning rate.
        channels: Channels of the four stages.
        seed: Of everything random.
    """

    folds: int
    epochs: int
    batch: int = 256
    lr: float = 2e-3
    channels: tuple[int, int, int, int] = (64, 128, 256, 384)
    seed: int = 0


class FaceNetwork(nn.Sequential):
    """A residual network that maps grey faces (B, 1, 48, 48) float32, about -1 to 1, to logits (B, 7)."""

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        layers: list[nn.Module] = []
        inputs, stride = 1, 1
        for outputs in channels:
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                ResidualBlock(outputs),
                ResidualBlock(outputs),
            ]
            inputs, stride = outputs, 2
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.4), nn.Linear(inputs, len(EKMAN))]
        super().__init__(*layers, *pooled)
        self.to(memory_format=torch.channels_last)


def cross_fitted_votes(
    faces: Faces, settings: CrossFit, device: torch.device, report: Callable[[str], None]
) -> NDArray[np.float32]:
    """Return the votes on every face as a network predicts them that was not trained on it, (N, 7) float32.

    Args:
        faces: The training faces.
        settings: How the networks are trained.
        device: Where they are trained, with matrix products in bfloat16.
        report: Is told how each network does on the faces that it did not see.

    Raises:
        EmotionError: There are fewer faces than folds.
    """
    count = len(faces.labels)
    if not 2 <= settings.folds <= count:
        raise EmotionError(f"{settings.folds} folds of {count} faces: expected 2 or more, and a face in each")
    part = np.random.default_rng(settings.seed).permutation(count) % settings.folds
    predicted = np.zeros((count, len(EKMAN)), np.float32)
    for fold in range(settings.folds):
        torch.manual_seed(settings.seed * 1000 + fold)
        network = _trained(faces.take(np.flatnonzero(part != fold)), settings, device)
        unseen = faces.take(np.flatnonzero(part == fold))
        predicted[part == fold] = probabilities(network, unseen.images, device)
        right = predicted[part == fold].argmax(axis=1) == unseen.majority
        report(
            f"network {fold + 1} of {settings.folds}: {100 * right.mean():.1f} % of {len(right)} faces that "
            f"it never saw as the majority says, {100 * right[unseen.clear].mean():.1f} % where it is clear"
        )
    return predicted


@torch.inference_mode()
def probabilities(
    network: nn.Module, images: NDArray[np.uint8], device: torch.device, batch: int = 1024
) -> NDArray[np.float32]:
    """Return a network's mean prediction (N, 7) for images (N, 48, 48) uint8 and their mirror images."""
    network.eval()
    parts = []
    for start in range(0, len(images), batch):
        pixels = _pixels(images[start : start + batch], device)
        parts.append((network(pixels).softmax(1) + network(pixels.flip(3)).softmax(1)) / 2)
    return np.asarray(torch.cat(parts).float().cpu().numpy(), np.float32)


def save_predictions(path: Path, faces: Faces, predicted: NDArray[np.float32]) -> None:
    """Write predictions (N, 7) for the training faces to a file that names these faces by a hash."""
    content = BytesIO()
    np.savez(content, predictions=predicted, faces=np.array(_hash(faces)))
    write_atomically(path, content.getvalue())


def load_predictions(path: Path, faces: Faces) -> NDArray[np.float32]:
    """Read the predictions (N, 7) for the training faces that `save_predictions` wrote.

    Raises:
        EmotionError: The file is missing, has another format, or is about other faces.
    """
    try:
        with np.load(path) as file:
            predicted, of = np.asarray(file["predictions"], np.float32), str(file["faces"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise EmotionError(
            f"predictions {path} cannot be read ({error}): expected a file of `emotion-train predict-votes`"
        ) from error
    if of != _hash(faces) or predicted.shape != faces.votes.shape:
        raise EmotionError(
            f"predictions {path} are about other faces than those of the data: make them again with "
            "`emotion-train predict-votes`"
        )
    return predicted


def _trained(faces: Faces, settings: CrossFit, device: torch.device) -> FaceNetwork:
    precision = Precision("bf16", device)
    network = FaceNetwork(settings.channels).to(device).train()
    images = torch.from_numpy(faces.images).to(device)
    votes = torch.from_numpy(faces.votes).to(device)
    steps = settings.epochs * max(len(images) // settings.batch, 1)
    schedule = Schedule(steps, warmup=min(200, steps // 4 + 1))
    optimizer = torch.optim.AdamW(
        parameter_groups(network.named_parameters(), lr=settings.lr, weight_decay=0.1)
    )
    order = torch.empty(0, dtype=torch.int64, device=device)
    for step in range(steps):
        if len(order) < settings.batch:
            order = torch.cat([order, torch.randperm(len(images), device=device)])
        rows, order = order[: settings.batch], order[settings.batch :]
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step, group["peak_lr"])
        with precision.autocast():
            logits = network(_augmented(images[rows]))
        loss = F.cross_entropy(logits.float(), votes[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        precision.step(optimizer, 5.0)
    return network


def _augmented(images: Tensor) -> Tensor:
    """Turn, move, scale, mirror, light and partly hide faces (B, 48, 48) uint8; (B, 1, 48, 48) float32."""
    count, device = len(images), images.device

    def normal(sigma: float) -> Tensor:
        return torch.randn(count, device=device) * sigma

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, device=device) * (high - low) + low

    angle, zoom = normal(0.17), uniform(0.8, 1.2)
    mirror = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    sin, cos = angle.sin() * zoom, angle.cos() * zoom
    rows = [
        torch.stack([cos * mirror, -sin, normal(0.06)], 1),
        torch.stack([sin * mirror, cos, normal(0.06)], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [count, 1, 48, 48], align_corners=False)
    pixels = images[:, None].float() / 127.5 - 1
    pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    column = (slice(None), None, None, None)
    pixels = pixels * uniform(0.6, 1.4)[column] + normal(0.2)[column]
    pixels = pixels + torch.randn_like(pixels) * uniform(0, 0.1)[column]
    place = torch.linspace(-1, 1, 48, device=device)
    across = (place - uniform(-1, 1)[:, None]).abs() < uniform(0.0, 0.5)[:, None]  # (B, 48)
    down = (place - uniform(-1, 1)[:, None]).abs() < uniform(0.0, 0.5)[:, None]
    hidden = (down[:, :, None] & across[:, None, :])[:, None]
    return torch.where(hidden, uniform(-1, 1)[column], pixels).contiguous(memory_format=torch.channels_last)


def _pixels(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    pixels = torch.from_numpy(images).to(device)[:, None].float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def _hash(faces: Faces) -> str:
    return hashlib.sha256(faces.images.tobytes()).hexdigest()
