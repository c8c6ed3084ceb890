"""Batches of augmented, tinted face crops for the warm-up of the stem."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from emotion_train.scenes.camera import downsampled, light_gradient, with_gamma
from emotion_train.scenes.faces import Faces, FaceSampler


class AlignedFaces(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A map-style data set of batches.

    Item i, which depends only on (seed, i), is images (B, size, size, 3) uint8 RGB and the votes
    (B, 7) float32 on these faces.

    Args:
        faces: Faces to draw from, see `FaceSampler`.
        seed: Seed of all batches.
        batch: B, faces per batch.
        size: Side of the images, pixels.
    """

    def __init__(self, faces: Faces, *, seed: int, batch: int, size: int) -> None:
        self.faces, self.seed, self.batch, self.size = faces, seed, batch, size
        self.sampler = FaceSampler(faces.votes)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([self.seed, index])
        rows = self.sampler.draw(rng, self.batch)
        images = np.stack([_augment(rng, self.faces.images[row], self.size) for row in rows])
        return torch.from_numpy(images), torch.from_numpy(self.faces.votes[rows])


def _augment(rng: np.random.Generator, face: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Turn a (48, 48) greyscale face into a (size, size, 3) uint8 RGB image as a camera might take it.

    The face is rotated, moved, scaled, narrowed, flipped, lit unevenly and tinted, and sometimes blurred,
    of low resolution, noisy or partly occluded.
    """
    half = face.shape[0] / 2 - 0.5
    zoom = size / face.shape[0] * rng.uniform(0.75, 1.25)
    degrees = rng.uniform(-45, 45) if rng.random() < 0.25 else rng.normal(0, 10)
    turn = cv2.getRotationMatrix2D((half, half), float(degrees), zoom)
    turn[0] *= rng.uniform(0.87, 1.08)
    turn[:, 2] = size / 2 - turn[:, :2] @ [half, half] + rng.normal(0, 0.04 * size, 2)
    if rng.random() < 0.5:
        face = np.ascontiguousarray(face[:, ::-1])
    pixels = face.astype(np.float32)
    if rng.random() < 0.25:
        pixels = downsampled(pixels, float(rng.uniform(0.25, 0.8)))
    grey = np.asarray(cv2.warpAffine(pixels, turn, (size, size), borderMode=cv2.BORDER_REPLICATE), np.float32)
    if rng.random() < 0.2:
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), float(rng.uniform(0.4, 2.0))), np.float32)
    if rng.random() < 0.3:
        grey = with_gamma(grey, float(rng.uniform(0.6, 1.7)))
    grey = grey * rng.uniform(0.45, 1.4) + rng.uniform(-25, 25)
    if rng.random() < 0.3:
        across, down = rng.uniform(-0.45, 0.45, 2).tolist()
        grey = grey * light_gradient((across, down), grey.shape)
    image = grey[..., None] * rng.uniform(0.75, 1.15, 3).astype(np.float32)
    if rng.random() < 0.3:
        image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(1, 14))
    if rng.random() < 0.3:
        x, y = rng.integers(0, size, 2)
        w, h = rng.integers(size // 8, size // 2, 2)
        image[y : y + h, x : x + w] = rng.uniform(0, 255, 3)
    if rng.random() < 0.2:
        image[_half(rng, size)] = rng.uniform(0, 255, 3)
    return np.clip(image, 0, 255).astype(np.uint8)


def _half(rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """Draw a part (size, size) that a straight edge near the middle cuts off, up to a half of the image."""
    angle = rng.uniform(0, 2 * np.pi)
    down, across = np.mgrid[0:size, 0:size] / size - 0.5
    return np.asarray(across * np.cos(angle) + down * np.sin(angle) > rng.uniform(0.0, 0.3))
