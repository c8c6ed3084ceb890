"""Sentiment-guided contrastive loss (paper Sec. 3.4).

Captions of similar sentiment are not good negatives of each other: the closer the sentiments of two
captions, the less the pair counts in the denominator of InfoNCE.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError

KLDirection = Literal["paper", "official"]


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
    with torch.autocast(video.device.type, enabled=False):
        similarity = logit_scale * video.float() @ text.float().T  # (B, B): video i, text j
        weights = negative_weights(sentiment_logits, beta=beta, kl_direction=kl_direction)
        target = torch.arange(batch, device=video.device)
        video_to_text = F.cross_entropy(similarity - weights, target)
        text_to_video = F.cross_entropy(similarity.T - weights, target)
        return (video_to_text + text_to_video) / 2


@torch.no_grad()
def negative_weights(sentiment_logits: Tensor, *, beta: float, kl_direction: KLDirection = "paper") -> Tensor:
    """Return `w_ij = beta / KL(s_i || s_j)` off the diagonal and 0 on it, to be subtracted from the logits.

    Source: Eq. 6.

    Args:
        sentiment_logits: (B, C).
        beta: Strength of the reweighting, >= 0.
        kl_direction: As in `sentiment_guided_contrastive_loss`.

    Returns:
        (B, B) float32 in [0, inf]. Equal sentiments give inf, which removes the pair from the softmax and
        from the gradient.

    Raises:
        EmotionError: `beta` is negative or `kl_direction` is unknown.
    """
    if not beta >= 0:
        raise EmotionError(f"beta {beta}: expected a number >= 0; 0 turns the sentiment guidance off")
    if kl_direction not in ("paper", "official"):
        raise EmotionError(f"kl_direction {kl_direction!r}: expected 'paper' or 'official'")
    if beta == 0:  # below, equal sentiments would be 0 / 0
        return torch.zeros(len(sentiment_logits), len(sentiment_logits), device=sentiment_logits.device)
    # In double precision, because the divergence of similar sentiments is a small difference of large sums.
    log_p = F.log_softmax(sentiment_logits.double(), dim=-1)  # (B, C)
    p = log_p.exp()
    divergence = (p * log_p).sum(dim=-1, keepdim=True) - p @ log_p.T  # (B, B): KL(s_i || s_j)
    if kl_direction == "official":
        divergence = divergence.T
    weights = beta / divergence.clamp(min=0)  # rounding can make equal sentiments negative
    return weights.fill_diagonal_(0).float()
