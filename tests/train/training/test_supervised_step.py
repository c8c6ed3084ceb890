"""Steps with the supervised term: loss and gradients of a direct computation, in any number of pieces."""

from dataclasses import replace

import pytest
import torch
from small_model import SMALL, build
from test_objective import FP32, some_pairs, without_dropout
from torch import Tensor, nn

from emotion_train.batch import ClipTextBatch
from emotion_train.losses import sentiment_guided_contrastive_loss
from emotion_train.model import EmotionCLIP
from emotion_train.model.encode import encode_clips
from emotion_train.training.objective import ContrastiveObjective, PairEncoder
from emotion_train.training.parallel import World

WEIGHT = 0.7


def classifier_of_seven() -> nn.Linear:
    torch.manual_seed(4)
    return nn.Linear(SMALL.embed_dim, 7)


def supervised_pairs() -> ClipTextBatch:
    """With soft targets that are sharp enough to have a likeliest class."""
    pairs = some_pairs()
    drawn = 2 * torch.randn(len(pairs), 7, generator=torch.Generator().manual_seed(8))
    return replace(pairs, targets=drawn.softmax(1))


def direct(
    model: EmotionCLIP, classifier: nn.Linear, pairs: ClipTextBatch
) -> tuple[float, float, dict[str, Tensor]]:
    """One forward pass, one backward pass: contrastive loss, cross-entropy of the rows, gradients of all."""
    assert pairs.targets is not None
    video = encode_clips(model, pairs.images[pairs.clip_index], pairs.patch_weights)
    video = video / video.norm(dim=1, keepdim=True)
    text = model.encode_text(pairs.text)
    contrastive = sentiment_guided_contrastive_loss(
        video,
        text / text.norm(dim=1, keepdim=True),
        pairs.sentiment,
        logit_scale=model.logit_scale.exp(),
        beta=2.0,
    )
    powers = (video @ classifier.weight.T + classifier.bias).exp()
    entropy = -(pairs.targets * (powers / powers.sum(dim=1, keepdim=True)).log()).sum(dim=1).mean()
    (contrastive + WEIGHT * entropy).backward()
    named = [*model.named_parameters(prefix="model"), *classifier.named_parameters(prefix="classifier")]
    gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}
    return contrastive.item(), entropy.item(), gradients


@pytest.mark.parametrize(("subject", "chunks"), [("shared", 1), ("shared", 3), ("shared", 7), ("sap", 3)])
def test_a_supervised_batch_in_pieces_is_the_whole_batch(subject: str, chunks: int):
    model, classifier, pairs = without_dropout(build(subject)), classifier_of_seven(), supervised_pairs()
    contrastive, entropy, expected = direct(model, classifier, pairs)
    model.zero_grad()
    classifier.zero_grad()
    encoder = PairEncoder(model, classifier=classifier).train()
    step = ContrastiveObjective(encoder, 2.0, "paper", World(), chunks, supervised=WEIGHT)
    loss, figures = step(pairs, FP32, 0)
    assert loss == pytest.approx(contrastive + WEIGHT * entropy, abs=1e-5)
    found = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert {"classifier.weight", "classifier.bias", "model.logit_scale"} <= found.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-4, msg=name)
    assert set(figures) == {"retrieval", "scale", "supervised"}


def test_the_term_changes_what_the_encoder_learns():
    """Or the equality above would hold without it."""
    model, pairs = without_dropout(build("shared")), supervised_pairs()
    gradients = []
    for weight in (0.0, WEIGHT):
        model.zero_grad()
        encoder = PairEncoder(model, classifier=classifier_of_seven() if weight else None).train()
        step = ContrastiveObjective(encoder, 2.0, "paper", World(), supervised=weight)
        step(pairs, FP32, 0)
        gradients.append(model.backbone.visual.proj.grad.clone())
    assert (gradients[1] - gradients[0]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("right", [0, 3, 7])
def test_the_figure_counts_rows_that_are_called_what_they_should_be(right: int):
    model, classifier, pairs = without_dropout(build("shared")), classifier_of_seven(), some_pairs()
    video = encode_clips(model, pairs.images[pairs.clip_index], pairs.patch_weights)
    called = classifier(video / video.norm(dim=1, keepdim=True)).argmax(1)
    wanted = torch.where(torch.arange(7) < right, called, (called + 1) % 7)
    pairs = replace(pairs, targets=0.9 * torch.eye(7)[wanted] + 0.1 / 7)
    encoder = PairEncoder(model, classifier=classifier).train()
    step = ContrastiveObjective(encoder, 2.0, "paper", World(), supervised=WEIGHT)
    with torch.enable_grad():
        _, figures = step(pairs, FP32, 0)
    assert figures["supervised"] == pytest.approx(right / 7)


def test_targets_follow_their_pairs_to_a_device_and_are_needed():
    pairs = supervised_pairs()
    assert pairs.targets is not None
    assert pairs.to(torch.device("meta")).targets.device.type == "meta"
    encoder = PairEncoder(build("shared"), classifier=classifier_of_seven()).train()
    step = ContrastiveObjective(encoder, 2.0, "paper", World(), supervised=WEIGHT)
    with pytest.raises(ValueError, match="needs a classifier, and batches with targets"):
        step(some_pairs(), FP32, 0)
