"""The released model: its outputs are those of the official code, with weights computed by a formula."""

import importlib.util
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from emotion_runtime.preprocess import center_window, crop, patch_weights
from emotion_train.checkpoint import load_official
from emotion_train.model import PRESETS, EmotionCLIP

TOLERANCE = 2e-4
SPEC = PRESETS["vit-b-32"].preprocess


@dataclass(frozen=True)
class Golden:
    formulas: ModuleType
    outputs: Mapping[str, NDArray[np.generic]]
    layout: Mapping[str, list[int]]

    def image(self) -> NDArray[np.uint8]:
        return self.formulas.image(*self.outputs["image_seed_h_w"].tolist())

    def normalised_crop(self) -> Tensor:
        """Return (3, 224, 224), computed from the formula and not by our preprocessing."""
        pixels = torch.tensor(self.outputs["crop_uint8"]).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        return (pixels - mean) / std

    def masks(self) -> Tensor:
        """Return (4, 224, 224) of 0 and 1: the boxes drawn on the resized image, then cropped."""
        _, height, width = self.outputs["image_seed_h_w"].tolist()
        resized_h, resized_w, top, left = self.outputs["resized_h_w_top_left"].tolist()
        ratio = min(width / resized_w, height / resized_h)
        masks = torch.zeros(4, resized_h, resized_w)
        for mask, box in zip(masks, self.outputs["boxes_xyxy"].tolist(), strict=True):
            x1, y1 = (max(math.floor(v / ratio), 0) for v in box[:2])
            x2, y2 = (max(math.ceil(v / ratio), 0) for v in box[2:])
            mask[y1:y2, x1:x2] = 1
        return masks[:, top : top + 224, left : left + 224]


@pytest.fixture(scope="module")
def golden(shared_data: Path) -> Golden:
    folder = shared_data / "golden"
    spec = importlib.util.spec_from_file_location("golden", folder / "golden.py")
    assert spec is not None
    assert spec.loader is not None
    formulas = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(formulas)
    layout = json.loads((folder / "official_state_dict.json").read_text())
    return Golden(formulas, np.load(folder / "official_seed0.npz"), layout)


@pytest.fixture(scope="module")
def model(golden: Golden) -> EmotionCLIP:
    model = EmotionCLIP(PRESETS["vit-b-32"]).eval()
    weights = {
        name: torch.from_numpy(np.asarray(golden.formulas.weight(name, tuple(shape))))
        for name, shape in golden.layout.items()
    }
    load_official(model, weights)
    return model.requires_grad_(requires_grad=False)


def report(name: str, difference: NDArray[np.generic]) -> None:
    """Print a difference; `pytest -rP` shows it."""
    print(f"{name}: max {difference.max():.2e}, mean {difference.mean():.2e}")  # noqa: T201


def assert_close(name: str, ours: Tensor, theirs: NDArray[np.generic]) -> None:
    difference = np.abs(ours.numpy() - theirs)
    report(name, difference)
    assert difference.shape == theirs.shape
    assert difference.max() <= TOLERANCE


def average_pooled(masks: Tensor) -> Tensor:
    """Average (N, 224, 224) over patches to (N, 49)."""
    return torch.nn.functional.avg_pool2d(masks[:, None], 32).flatten(1)


def test_crop(golden: Golden):
    image = golden.image()
    ours = crop(image, center_window(*image.shape[:2], SPEC), SPEC).astype(int)
    difference = np.abs(ours - golden.outputs["crop_uint8"])
    report("crop, grey levels", difference)
    assert difference.max() <= 1
    assert difference.mean() <= 0.002


def test_patch_weights(golden: Golden):
    window = center_window(*golden.image().shape[:2], SPEC)
    ours = np.stack([patch_weights(box, window, SPEC) for box in golden.outputs["boxes_xyxy"].tolist()])
    theirs = golden.outputs["patch_weights"]
    assert np.abs(ours - theirs).max() <= 1e-6
    assert np.abs(average_pooled(golden.masks()).numpy() - theirs).max() <= 1e-6


def test_frame_features(golden: Golden, model: EmotionCLIP):
    images = golden.normalised_crop()[None]
    weights = torch.tensor(golden.outputs["patch_weights"])
    alone = model.encode_frames(images.expand(4, -1, -1, -1), weights)
    together = model.encode_people(images, torch.zeros(4, dtype=torch.int64), weights)
    assert_close("frame features", alone, golden.outputs["frame_features"])
    assert_close("frame features, one image", together, golden.outputs["frame_features"])


def test_frame_features_without_subject(golden: Golden, model: EmotionCLIP):
    ours = model.encode_frames(golden.normalised_crop()[None], torch.zeros(1, 49))
    assert_close("frame features, no subject", ours, golden.outputs["frame_features_no_subject"])


def test_video_features(golden: Golden, model: EmotionCLIP):
    image, masks = golden.normalised_crop(), golden.masks()
    images = torch.stack([image.roll(8 * t, dims=-1) for t in range(8)])  # (8, 3, 224, 224)
    weights = torch.stack([average_pooled(masks.roll(8 * t, dims=-1)) for t in range(8)], dim=1)  # (4, 8, 49)
    ours = model.encode_video(images.expand(4, -1, -1, -1, -1), weights)
    assert_close("video features", ours, golden.outputs["video_features"])


def test_temporal_output(golden: Golden, model: EmotionCLIP):
    embeddings = np.random.default_rng([0, 77]).standard_normal((3, 8, 512)).astype(np.float32)
    ours = model.encode_temporal(torch.from_numpy(embeddings))
    assert_close("temporal output", ours, golden.outputs["temporal_output"])


def test_text_features(golden: Golden, model: EmotionCLIP):
    ours = model.encode_text(torch.tensor(golden.outputs["text_tokens"]))
    assert_close("text features", ours, golden.outputs["text_features"])
