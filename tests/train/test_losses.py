import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from emotion_runtime.errors import EmotionError
from emotion_train import losses
from emotion_train.losses import PiecewiseLoss, sentiment_guided_contrastive_loss

Rows = list[list[float]]


def random_batch(batch: int = 16, dim: int = 512) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs behind the golden losses."""
    rng = np.random.default_rng([0, 79])
    video, text = (torch.from_numpy(rng.standard_normal((batch, dim)).astype(np.float32)) for _ in range(2))
    sentiment = torch.from_numpy((2 * rng.standard_normal((batch, 7))).astype(np.float32))
    video, text = (F.normalize(x, dim=-1).requires_grad_() for x in (video, text))
    return video, text, sentiment


def paper_loss(video: Rows, text: Rows, sentiment_logits: Rows, scale: float, beta: float) -> float:
    """Eq. 5-7 read aloud, in Python floats."""
    batch = len(video)
    s = [[math.exp(x) / sum(math.exp(y) for y in row) for x in row] for row in sentiment_logits]

    def weight(i: int, j: int) -> float:
        kl = sum(p * math.log(p / q) for p, q in zip(s[i], s[j], strict=True))
        return 0.0 if i == j else beta / kl

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    def snce(a: Rows, b: Rows) -> float:
        total = 0.0
        for i in range(batch):
            denominator = sum(math.exp(dot(a[i], b[j]) * scale - weight(i, j)) for j in range(batch))
            total -= math.log(math.exp(dot(a[i], b[i]) * scale) / denominator)
        return total

    return (snce(video, text) + snce(text, video)) / (2 * batch)


@pytest.mark.parametrize("beta", [0, 1, 10])
def test_official_direction_has_the_official_values_and_gradients(shared_data: Path, beta: float):
    golden = np.load(shared_data / "golden" / "official_seed0.npz")
    video, text, sentiment = random_batch()
    loss = sentiment_guided_contrastive_loss(
        video, text, sentiment, logit_scale=1 / 0.07, beta=beta, kl_direction="official"
    )
    loss.backward()
    assert loss.item() == pytest.approx(golden[f"loss_beta{beta}"].item(), abs=1e-5)
    for name, tensor in (("video", video), ("text", text)):
        difference = np.abs(tensor.grad.numpy() - golden[f"loss_grad_{name}_beta{beta}"])
        assert difference.max() <= 1e-5


@pytest.mark.parametrize("beta", [0.0, 0.3, 10.0])
def test_paper_direction_equals_a_loop_over_the_equations(beta: float):
    video, text, sentiment = random_batch(batch=6, dim=5)
    loss = sentiment_guided_contrastive_loss(video, text, sentiment, logit_scale=4.0, beta=beta)
    expected = paper_loss(video.tolist(), text.tolist(), sentiment.tolist(), 4.0, beta)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_directions_differ():
    video, text, sentiment = random_batch()
    paper, official = (
        sentiment_guided_contrastive_loss(
            video, text, sentiment, logit_scale=1 / 0.07, beta=1, kl_direction=direction
        )
        for direction in ("paper", "official")
    )
    assert abs(paper.item() - official.item()) > 1e-3


@pytest.mark.parametrize("kl_direction", ["paper", "official"])
def test_equal_sentiments_are_no_negatives(kl_direction: Literal["paper", "official"]):
    """With 0 and 1 feeling the same, each is as if the other were not in its denominator."""
    video, text, sentiment = random_batch(batch=3, dim=8)
    sentiment[1] = sentiment[0]
    sentiment[2] = torch.tensor([0, 0, 0, 0, 0, 0, 60.0])  # far from both: beta / KL is small
    scale = torch.tensor(5.0, requires_grad=True)
    beta = 1e-6
    loss = sentiment_guided_contrastive_loss(
        video, text, sentiment, logit_scale=scale, beta=beta, kl_direction=kl_direction
    )
    loss.backward()
    gradients = [video.grad.clone(), text.grad.clone(), scale.grad.clone()]
    video.grad = text.grad = scale.grad = None

    similarity = scale * video @ text.T
    kept = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=torch.bool)
    expected = 0.0
    for logits in (similarity, similarity.T):
        for i in range(3):
            expected = expected - (logits[i, i] - torch.logsumexp(logits[i][kept[i]], dim=0)) / 6
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for got, wanted in zip(gradients, [video.grad, text.grad, scale.grad], strict=True):
        assert torch.isfinite(got).all()
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("beta", [0, 1, 10])
def test_a_batch_of_one_mood_is_finite(beta: float):
    video, text, sentiment = random_batch()
    sentiment[:] = sentiment[0].clone()
    loss = sentiment_guided_contrastive_loss(video, text, sentiment, logit_scale=1 / 0.07, beta=beta)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(video.grad).all()
    if beta:
        assert loss.item() == pytest.approx(0, abs=1e-6)  # no negatives are left


def test_autocast_does_not_change_the_loss():
    video, text, sentiment = random_batch()
    plain = sentiment_guided_contrastive_loss(video, text, sentiment, logit_scale=1 / 0.07, beta=10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = sentiment_guided_contrastive_loss(video, text, sentiment, logit_scale=1 / 0.07, beta=10)
    assert mixed.item() == plain.item()


@pytest.mark.parametrize("kl_direction", ["paper", "official"])
@pytest.mark.parametrize("beta", [0.0, 10.0])
@pytest.mark.parametrize("piece", [1, 3, 128])
def test_pieces_add_up_to_the_loss_and_its_gradients(
    piece: int, beta: float, kl_direction: Literal["paper", "official"], monkeypatch: pytest.MonkeyPatch
):
    """Rows of two processes of unequal size, each in pieces of one row, of three, and in one piece."""
    monkeypatch.setattr(losses, "PIECE_ROWS", piece)
    video, text, sentiment = random_batch()
    sentiment[5] = sentiment[2]  # an infinite weight, across the two processes' rows
    scale = torch.tensor(1 / 0.07, requires_grad=True)
    loss = sentiment_guided_contrastive_loss(
        video, text, sentiment, logit_scale=scale, beta=beta, kl_direction=kl_direction
    )
    loss.backward()
    parts = [
        PiecewiseLoss(beta, kl_direction)(video, text, sentiment, rows=rows, scale=scale)
        for rows in (slice(0, 5), slice(5, 16))
    ]
    summed = [sum(values) for values in zip(*parts, strict=True)]
    assert float(summed[0]) == pytest.approx(loss.item(), rel=1e-6)
    for found, wanted in zip(summed[1:4], (video.grad, text.grad, scale.grad), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def test_retrieval_counts_both_directions():
    random = torch.Generator().manual_seed(0)
    video, text = (torch.randn(9, 4, generator=random) for _ in range(2))
    hits = 0
    for i in range(9):
        hits += max(range(9), key=lambda j: float(video[i] @ text[j])) == i
        hits += max(range(9), key=lambda j: float(text[i] @ video[j])) == i
    found = PiecewiseLoss(0.0, "paper")(
        video, text, torch.zeros(9, 7), rows=slice(0, 9), scale=torch.tensor(1.0)
    )
    assert found.retrieval.item() == pytest.approx(hits / 18)


def test_memory_grows_linearly_with_the_batch(monkeypatch: pytest.MonkeyPatch):
    """No tensor of a step has more elements than a piece or the features of the batch."""
    monkeypatch.setattr(losses, "PIECE_ROWS", 8)

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else (result,):
                if isinstance(tensor, Tensor):
                    self.elements = max(self.elements, tensor.numel())
            return result

    found = {}
    for batch in (512, 1024, 2048):
        inputs = random_batch(batch, dim=8)
        with Largest() as largest:
            PiecewiseLoss(10.0, "official")(*inputs, rows=slice(0, 64), scale=torch.tensor(14.0))
        found[batch] = largest.elements
    assert all(elements <= 8 * batch for batch, elements in found.items()), found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": torch.zeros(3, 4)}, r"text \(3, 4\).*expected \(B, D\)"),
        ({"sentiment_logits": torch.zeros(3, 7)}, r"sentiment_logits \(3, 7\)"),
        ({"sentiment_logits": torch.zeros(2)}, r"sentiment_logits \(2,\)"),
        ({"beta": -1}, "beta -1: expected a number >= 0"),
        ({"beta": math.nan}, "beta nan"),
        ({"kl_direction": "reverse"}, "'reverse': expected 'paper' or 'official'"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str):
    inputs = {"video": torch.ones(2, 4), "text": torch.ones(2, 4), "sentiment_logits": torch.zeros(2, 7)}
    with pytest.raises(EmotionError, match=message):
        sentiment_guided_contrastive_loss(**{"logit_scale": 1.0, "beta": 1.0, **inputs, **change})
