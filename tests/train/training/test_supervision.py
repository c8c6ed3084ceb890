"""What each face should be called: the formula of the targets, and the stem's second opinion."""

import copy
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_model import SMALL, build
from torch import nn

from emotion_train.model import EmotionCLIP
from emotion_train.scenes.faces import Faces
from emotion_train.training.supervision import Supervision, stem_predictions

# Patches of grey, so that faces differ after pooling.
PATCHES = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
FACES = Faces.of_labels(PATCHES.repeat(12, 1).repeat(12, 2), np.array([0, 3, 6, 3, 1]))
Classifier = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.fixture
def model() -> EmotionCLIP:
    """With statistics unlike those of any batch."""
    model = build("shared", stem="conv", subject_bias=True)
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.5)
            module.running_var.uniform_(0.3, 3)
    return model


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(2)
    return nn.Linear(SMALL.vision_width, 7)


# --- targets


def test_targets_are_smoothed_labels():
    supervision = Supervision(4, 5)
    supervision.set_targets(FACES, None, 0.0)
    expected = np.full((5, 7), 0.1 / 7)
    for row, label in enumerate((0, 3, 6, 3, 1)):
        expected[row, label] += 0.9
    np.testing.assert_allclose(supervision.targets.numpy(), expected, atol=1e-7)
    np.testing.assert_allclose(supervision.targets.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_share_of_them_gives_way_to_the_answers(share: float):
    answers = softmax(2 * np.random.default_rng(1).standard_normal((5, 7)))
    supervision = Supervision(4, 5)
    supervision.set_targets(FACES, torch.from_numpy(answers).float(), share)
    labels = np.eye(7)[FACES.labels]
    expected = (1 - share) * (0.9 * labels + 0.1 / 7) + share * answers
    np.testing.assert_allclose(supervision.targets.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(supervision.targets.sum(1), 1, atol=1e-6)


def test_targets_lie_in_the_state_and_do_not_learn():
    supervision, other = Supervision(4, 5), Supervision(4, 5)
    supervision.set_targets(FACES, None, 0.0)
    other.load_state_dict(supervision.state_dict())
    assert torch.equal(other.targets, supervision.targets)
    assert {name for name, _ in supervision.named_parameters()} == {"linear.weight", "linear.bias"}


def test_logits_are_cosines_made_sharper():
    supervision = Supervision(6, 1)
    video = nn.functional.normalize(torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    weight, bias = (p.detach().numpy().astype(np.float64) for p in supervision.linear.parameters())
    expected = 16 * video.numpy().astype(np.float64) @ weight.T + bias
    np.testing.assert_allclose(supervision(video).detach().numpy(), expected, atol=1e-5)


# --- the stem's answers


@torch.no_grad()
def seen_by(model: EmotionCLIP, head: nn.Linear, face: NDArray[np.uint8]) -> NDArray[np.float64]:
    """One face alone: resized by OpenCV, normalised and pooled by NumPy."""
    spec = model.config.preprocess
    stem = copy.deepcopy(model.backbone.visual.stem).eval()
    grey = np.rint(cv2.resize(face.astype(np.float32), (64, 64), interpolation=cv2.INTER_LINEAR))
    pixels = (grey[..., None] / 255 - np.array(spec.mean)) / np.array(spec.std)
    maps = stem(torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float())[0].double().numpy()
    pooled = maps.reshape(len(maps), -1).mean(axis=1)
    logits = head.weight.double().numpy() @ pooled + head.bias.double().numpy()
    return softmax(logits)


def expected_answers(model: EmotionCLIP, head: nn.Linear) -> NDArray[np.float64]:
    return np.stack(
        [(seen_by(model, head, face) + seen_by(model, head, face[:, ::-1])) / 2 for face in FACES.images]
    )


@pytest.mark.parametrize("batch", [1, 2, 256])
def test_answers_are_the_mean_of_a_face_and_its_mirror(model: EmotionCLIP, head: nn.Linear, batch: int):
    answers = stem_predictions(model, head, FACES, batch=batch)
    expected = expected_answers(model, head)
    assert answers.shape == (5, 7)
    assert (answers.device.type, answers.dtype) == ("cpu", torch.float32)
    np.testing.assert_allclose(answers.numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 5e-3  # else any face's would do
    one_way = np.stack([seen_by(model, head, face) for face in FACES.images])
    assert np.abs(one_way - expected).max() > 1e-3  # else the mirror would not be seen


@pytest.mark.parametrize("training", [True, False])
def test_the_stem_answers_in_eval_mode_and_stays_as_it_was(
    model: EmotionCLIP, head: nn.Linear, *, training: bool
):
    expected = expected_answers(model, head)
    model.train(training)
    before = copy.deepcopy(model.state_dict())
    answers = stem_predictions(model, head, FACES)
    np.testing.assert_allclose(answers.numpy(), expected, atol=2e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    stem = model.backbone.visual.stem
    assert stem is not None
    assert {module.training for module in stem.modules()} == {training}
    assert not any(p.grad is not None for p in model.parameters())


def test_targets_from_answers_may_be_trained_on(model: EmotionCLIP, head: nn.Linear):
    """What was computed without gradients must not get into the way of those of a step."""
    supervision = Supervision(4, 5)
    supervision.set_targets(FACES, stem_predictions(model, head, FACES), 0.5)
    video = torch.randn(5, 4, requires_grad=True)
    nn.functional.cross_entropy(supervision(video), supervision.targets[[0, 1, 2, 3, 4]]).backward()
    assert video.grad is not None


def test_a_model_without_a_stem_has_no_answers(head: nn.Linear):
    with pytest.raises(ValueError, match="without a stem"):
        stem_predictions(build("sap"), head, FACES)
