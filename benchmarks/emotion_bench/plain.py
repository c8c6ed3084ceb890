"""The model as one would export it without optimising for speed: the baseline of `bench_encoder.py`.

It takes one normalised image and one full-size mask per person; all tokens of all people go through all
blocks, with an attention mask. It is the same function as the frame encoder of a bundle, with the same
weights.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_train.model import EmotionCLIP
from emotion_train.model.attention import Attention
from emotion_train.model.vision import person_token_bias, subject_log_weights


class PlainFrameEncoder(nn.Module):
    """Turns an image and a mask per person into an embedding each."""

    def __init__(self, model: EmotionCLIP) -> None:
        super().__init__()
        self.vision = model.backbone.visual
        self.patch = model.config.preprocess.patch

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """(P, 3, S, S) float32 normalised, (P, S, S) float32 in {0, 1} -> (P, D) float32."""
        vision = self.vision
        weights = F.avg_pool2d(masks.unsqueeze(1), self.patch).flatten(1)  # (P, G)
        grid = vision.conv1(images) if vision.stem is None else vision.stem(images)
        patches = grid.flatten(2).transpose(1, 2) + vision.positional_embedding[1:]  # (P, G, width)
        cls = (vision.class_embedding + vision.positional_embedding[0]).expand(patches.shape[0], 1, -1)
        prompt = (weights @ vision.positional_embedding[1:]).unsqueeze(1)
        x = vision.ln_pre(torch.cat([cls, patches, prompt], dim=1))  # (P, L, width), L = G + 2
        for block in vision.transformer.blocks():
            x = x + _attend(block.attn, block.ln_1(x), self._logits(block.attn, weights))
            x = x + block.mlp(block.ln_2(x))
        embeddings: Tensor = vision.ln_post(x[:, 0]) @ vision.proj
        return embeddings

    def _logits(self, attention: Attention, weights: Tensor) -> Tensor | None:
        """Return what is added to the attention logits, (P or 1, heads or 1, L, L), or None."""
        added = None
        if attention.subject_gain is not None:
            bias = person_token_bias(subject_log_weights(weights))  # (P, 1, L, L)
            added = attention.subject_gain.view(-1, 1, 1) * bias
        if self.vision.subject == "shared":  # patches see patches only
            length = weights.shape[1] + 2
            hidden = torch.zeros(length, length)
            hidden[1:-1, [0, -1]] = -torch.inf
            added = hidden[None, None] if added is None else added + hidden
        return added


def _attend(attention: Attention, x: Tensor, added: Tensor | None) -> Tensor:
    query, key, value = attention.project(x)
    rows = F.scaled_dot_product_attention(query, key, value, added)
    out: Tensor = attention.out_proj(rows.transpose(1, 2).flatten(2))
    return out
