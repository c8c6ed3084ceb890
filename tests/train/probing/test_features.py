"""Frozen features are the model's own, row by row."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from small_model import SMALL, build

from emotion_runtime.errors import EmotionError
from emotion_train.probing.features import ClipInput, encode_all
from emotion_train.probing.torch_encoder import TorchEncoder

SIZE, PATCHES = SMALL.preprocess.size, SMALL.preprocess.patches


def clips(*pictures: int) -> list[ClipInput]:
    """A clip of as many pictures as each number says."""
    rng = np.random.default_rng(0)
    return [
        (
            row,
            rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8),
            rng.random((count, PATCHES), dtype=np.float32),
        )
        for row, count in enumerate(pictures)
    ]


def pixels(images: np.ndarray) -> torch.Tensor:
    mean, std = np.array(SMALL.preprocess.mean), np.array(SMALL.preprocess.std)
    return torch.from_numpy(((images / 255 - mean) / std).transpose(0, 3, 1, 2)).float()


def test_features_are_the_models_video_features_of_unit_length():
    """Clips of two, one and all eight pictures, out of order; batches hold one length each."""
    model = build("sap")
    given = clips(2, 8, 1, 2, 2)
    spread = {1: [0] * 8, 2: [0, 0, 0, 0, 1, 1, 1, 1], 8: list(range(8))}
    model.train()  # dropout must not act
    rows, features = encode_all(TorchEncoder(model), iter(given[::-1]), batch=2)
    assert rows.tolist() == [0, 1, 2, 3, 4]
    assert features.shape == (5, SMALL.embed_dim)
    assert features.dtype == np.float32
    for (_, images, weights), found in zip(given, features, strict=True):
        index = spread[len(images)]
        with torch.no_grad():
            frames = pixels(images)[index][None]
            video = model.eval().encode_video(frames, torch.from_numpy(weights)[index][None])[0].numpy()
        np.testing.assert_allclose(found, video / np.linalg.norm(video), atol=1e-5)


def test_image_features_pass_the_temporal_encoder_by():
    model = build("sap")
    given = clips(1, 1, 3)
    _, features = encode_all(TorchEncoder(model), given, kind="image")
    for (_, images, weights), found in zip(given, features, strict=True):
        with torch.no_grad():
            image = model.encode_frames(pixels(images[:1]), torch.from_numpy(weights[:1]))[0].numpy()
        np.testing.assert_allclose(found, image / np.linalg.norm(image), atol=1e-5)


def test_no_clips():
    with pytest.raises(EmotionError, match="there are no clips to encode"):
        encode_all(TorchEncoder(build("sap")), iter(()))


def test_a_broken_model_is_named_before_anything_is_fitted():
    model = build("sap")

    def one_good_one_bad() -> Iterator[ClipInput]:
        yield clips(2)[0]
        with torch.no_grad():
            model.backbone.visual.ln_post.weight[0] = float("nan")
        yield (1, *clips(2)[0][1:])

    with pytest.raises(EmotionError, match="the features of 1 of 2 clips are not finite: training diverged"):
        encode_all(TorchEncoder(model), one_good_one_bad(), batch=1)
