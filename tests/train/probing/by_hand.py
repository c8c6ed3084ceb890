"""Features of a data set made one clip at a time, to compare with what the scripts make of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.datasets import load_dataset
from emotion_train.datasets.base import Dataset
from emotion_train.datasets.images import prepare_sample
from emotion_train.model import EmotionCLIP


@dataclass(frozen=True)
class Fitted:
    """A data set, and the folder of its probe with what the report says."""

    data: Path
    out: Path
    report: dict[str, Any]


def features(model: EmotionCLIP, data: Dataset, *, spec: PreprocessSpec | None = None) -> np.ndarray:
    """Video features, every clip alone and with all of its frames; image features where there is a spec."""
    own = model.config.preprocess
    rows = []
    for sample in data.samples:
        images, weights = prepare_sample(sample, spec or own)
        pixels = (images / 255 - np.array(own.mean)) / np.array(own.std)
        frames = torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float()
        with torch.no_grad():
            if spec is not None:
                row = model.encode_frames(frames, torch.from_numpy(weights))[0]
            else:
                repeat = 8 // len(frames)
                row = model.encode_video(
                    frames.repeat_interleave(repeat, dim=0)[None],
                    torch.from_numpy(weights).repeat_interleave(repeat, dim=0)[None],
                )[0]
        rows.append((row / row.norm()).numpy())
    return np.stack(rows)


def targets(data: Dataset, task: str) -> np.ndarray:
    return np.stack([sample.targets[task] for sample in data.samples])


def both(
    name: str, fitted: Fitted, split: str, model: EmotionCLIP, task: str
) -> tuple[np.ndarray, np.ndarray]:
    data = load_dataset(name, fitted.data, split)
    return features(model, data), targets(data, task)
