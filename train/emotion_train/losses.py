"""Sentiment-guided contrastive loss (paper Sec. 3.4).

Captions of similar sentiment are not good negatives of each other: the closer the sentiments of two
captions, the less the pair counts in the denominator of InfoNCE.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError

KLDirection = Literal["paper", "official"]

PIECE_ROWS = 128  # rows that `PiecewiseLoss` compares with the whole batch at a time


def sentiment_guided_contrastive_loss(
    video: Tensor,
    text: Tensor,
    sentiment_logits: Tensor,
    *,
    logit_scale: Tensor | float,
    beta: float,
    kl_direction: KLDirection = "paper",
) -> Tensor:
    """Return the SNCE loss of a batch of B clips and their captions.

    Always computed in float32, also under autocast, because 1 / KL overflows half precision.

    Source: Eq. 5-7. In both directions i is the anchor: SNCE(t, v, s) uses the same w_ij, not w_ji.

    Args:
        video: (B, D), L2-normalised.
        text: (B, D), L2-normalised.
        sentiment_logits: (B, C) of the captions, from a frozen classifier; no gradient flows into them.
        logit_scale: 1 / tau, already exponentiated.
        beta: Strength of the reweighting, >= 0; 0 is plain InfoNCE.
        kl_direction: "paper" weighs the pair (i, j) by KL(s_i || s_j), "official" by KL(s_j || s_i), as in
            the code behind the released weights.

    Returns:
        The mean over the batch and both directions, a float32 scalar.

    Raises:
        EmotionError: Shapes do not match, `beta` is negative or `kl_direction` is unknown.
    """
    batch = video.shape[0]
    if video.ndim != 2 or text.shape != video.shape or sentiment_logits.shape[:-1] != (batch,):
        raise EmotionError(
            f"video {tuple(video.shape)}, text {tuple(text.shape)}, sentiment_logits "
            f"{tuple(sentiment_logits.shape)}: expected (B, D), (B, D), (B, C) with the same B and D"
        )
    weights = negative_weights(sentiment_logits, beta=beta, kl_direction=kl_direction)
    total, _ = _loss_of_rows(video, text, weights, slice(0, batch), logit_scale)
    return total / batch


class LossGradients(NamedTuple):
    """The part of some rows in the loss of a batch of B pairs, with its gradients.

    Attributes:
        loss: Scalar; the parts of all rows sum to the loss.
        video: (B, D), gradient by all clips.
        text: (B, D), gradient by all captions.
        scale: Scalar, gradient by 1 / tau.
        retrieval: Scalar; the parts of all rows sum to the fraction of rows whose own partner is the nearest
            of the batch, averaged over both directions.
    """

    loss: Tensor
    video: Tensor
    text: Tensor
    scale: Tensor
    retrieval: Tensor


class PiecewiseLoss(NamedTuple):
    """The loss of a batch with its gradients, of which each process computes the part of its own rows.

    The matrices (B, B) never exist: rows are taken in pieces, and the gradients of a piece are added up
    before the next is computed. So memory grows linearly with the batch.

    Attributes:
        beta: As in `sentiment_guided_contrastive_loss`.
        kl_direction: As in `sentiment_guided_contrastive_loss`.
    """

    beta: float
    kl_direction: KLDirection

    def __call__(
        self,
        video: Tensor,
        text: Tensor,
        sentiment_logits: Tensor,
        *,
        rows: slice,
        scale: Tensor,
        scaled: Callable[[Tensor], Tensor] = lambda loss: loss,
    ) -> LossGradients:
        """Return the part of some rows.

        Args:
            video: (B, D), L2-normalised, of all processes.
            text: (B, D), L2-normalised.
            sentiment_logits: (B, C).
            rows: The rows to compute as anchors.
            scale: 1 / tau, a scalar.
            scaled: Scales a loss before it is differentiated, for half precision.
        """
        batch = len(video)
        leaves = [tensor.detach().float().requires_grad_() for tensor in (video, text, scale)]
        gradients = [torch.zeros_like(leaf) for leaf in leaves]
        loss, retrieval = torch.zeros_like(scale), torch.zeros_like(scale)
        for start in range(rows.start, rows.stop, PIECE_ROWS):
            part = slice(start, min(start + PIECE_ROWS, rows.stop))
            weights = negative_weights(
                sentiment_logits, beta=self.beta, kl_direction=self.kl_direction, rows=part
            )
            total, hits = _loss_of_rows(leaves[0], leaves[1], weights, part, leaves[2])
            of_part = torch.autograd.grad(scaled(total / batch), leaves)
            gradients = [summed + more for summed, more in zip(gradients, of_part, strict=True)]
            loss += total.detach() / batch
            retrieval += hits / batch
        by_video, by_text, by_scale = gradients
        return LossGradients(loss, by_video, by_text, by_scale, retrieval)


def _loss_of_rows(
    video: Tensor, text: Tensor, weights: Tensor, rows: slice, scale: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Return the sum of the losses of R rows, and how many of them find their own partner.

    Args:
        video: (B, D).
        text: (B, D).
        weights: (R, B), see `negative_weights`.
        rows: The R rows.
        scale: 1 / tau.

    Returns:
        Two scalars, each averaged over both directions.
    """
    own = torch.arange(rows.start, rows.stop, device=video.device)
    total, hits = torch.zeros((), device=video.device), torch.zeros((), device=video.device)
    with torch.autocast(video.device.type, enabled=False):
        for anchors, others in ((video.float(), text.float()), (text.float(), video.float())):
            similarity = scale * anchors[rows] @ others.T  # (R, B)
            total = total + F.cross_entropy(similarity - weights, own, reduction="sum") / 2
            with torch.no_grad():
                hits += (similarity.argmax(dim=1) == own).sum() / 2
    return total, hits


@torch.no_grad()
def negative_weights(
    sentiment_logits: Tensor, *, beta: float, kl_direction: KLDirection = "paper", rows: slice | None = None
) -> Tensor:
    """Return `w_ij = beta / KL(s_i || s_j)` off the diagonal and 0 on it, to be subtracted from the logits.

    Source: Eq. 6.

    Args:
        sentiment_logits: (B, C).
        beta: Strength of the reweighting, >= 0.
        kl_direction: As in `sentiment_guided_contrastive_loss`.
        rows: The R rows i to compute; None means all B.

    Returns:
        (R, B) float32 in [0, inf]. Equal sentiments give inf, which removes the pair from the softmax and
        from the gradient.

    Raises:
        EmotionError: `beta` is negative or `kl_direction` is unknown.
    """
    if not beta >= 0:
        raise EmotionError(f"beta {beta}: expected a number >= 0; 0 turns the sentiment guidance off")
    if kl_direction not in ("paper", "official"):
        raise EmotionError(f"kl_direction {kl_direction!r}: expected 'paper' or 'official'")
    batch = len(sentiment_logits)
    rows = rows or slice(0, batch)
    count = rows.stop - rows.start
    if beta == 0:  # below, equal sentiments would be 0 / 0
        return torch.zeros(count, batch, device=sentiment_logits.device)
    # In double precision, because the divergence of similar sentiments is a small difference of large sums.
    log_p = F.log_softmax(sentiment_logits.double(), dim=-1)  # (B, C)
    p = log_p.exp()
    negative_entropy = (p * log_p).sum(dim=-1)  # (B,)
    if kl_direction == "paper":
        divergence = negative_entropy[rows, None] - p[rows] @ log_p.T  # (R, B): KL(s_i || s_j)
    else:
        divergence = negative_entropy - log_p[rows] @ p.T  # (R, B): KL(s_j || s_i)
    weights = beta / divergence.clamp_(min=0)  # rounding can make equal sentiments negative
    own = torch.arange(count, device=weights.device)
    weights[own, own + rows.start] = 0
    return weights.float()
