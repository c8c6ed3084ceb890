"""The authors' pre-training written a second time, from its description: model, loss, optimizer and rates.

It is slow and plain, and uses nothing of `emotion_train`, so that a mistake there cannot hide here. Weights
are a dict of float64 tensors with the names of the released checkpoint.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]

BETA1, BETA2, EPS, DECAY = 0.98, 0.9, 1e-6, 0.1
WARMUP_START, LEAST_RATE = 1e-5, 1e-10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
LARGEST_SCALE = math.log(100)


@dataclass(frozen=True)
class Sizes:
    """What the shapes of the weights do not show."""

    patch: int
    vision_layers: int
    vision_heads: int
    temporal_layers: int
    temporal_heads: int
    text_layers: int
    text_heads: int


# --- the model


def norm(x: Tensor, w: Weights, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def attention(x: Tensor, w: Weights, name: str, heads: int, *, causal: bool = False) -> Tensor:
    """(N, L, width) to (N, L, width), head by head."""
    size = x.shape[-1] // heads
    q, k, v = (x @ w[f"{name}.in_proj_weight"].T + w[f"{name}.in_proj_bias"]).chunk(3, dim=-1)
    hidden = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)
    if causal:
        hidden += torch.full_like(hidden, -math.inf).triu(1)
    parts = []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        logits = q[..., own] @ k[..., own].transpose(1, 2) / math.sqrt(size) + hidden
        parts.append(logits.softmax(-1) @ v[..., own])
    return linear(torch.cat(parts, dim=-1), w, f"{name}.out_proj")


def clip_block(x: Tensor, w: Weights, name: str, heads: int, *, causal: bool = False) -> Tensor:
    x = x + attention(norm(x, w, f"{name}.ln_1"), w, f"{name}.attn", heads, causal=causal)
    hidden = gelu(linear(norm(x, w, f"{name}.ln_2"), w, f"{name}.mlp.c_fc"))
    return x + linear(hidden, w, f"{name}.mlp.c_proj")


def encode_frames(images: Tensor, patch_weights: Tensor, w: Weights, sizes: Sizes) -> Tensor:
    """Encode images (N, S, S, 3) uint8 and (N, G) to (N, D): subject-aware prompting."""
    pixels = (images.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    grid = F.conv2d(pixels.permute(0, 3, 1, 2), w["backbone.visual.conv1.weight"], stride=sizes.patch)
    patches = grid.flatten(2).transpose(1, 2)
    positions = w["backbone.visual.positional_embedding"]
    cls = w["backbone.visual.class_embedding"].expand(len(images), 1, -1)
    prompt = (patch_weights.double() @ positions[1:])[:, None]
    x = torch.cat([torch.cat([cls, patches], dim=1) + positions, prompt], dim=1)
    x = norm(x, w, "backbone.visual.ln_pre")
    for layer in range(sizes.vision_layers):
        x = clip_block(x, w, f"backbone.visual.transformer.resblocks.{layer}", sizes.vision_heads)
    return norm(x[:, 0], w, "backbone.visual.ln_post") @ w["backbone.visual.proj"]


def encode_temporal(embeddings: Tensor, w: Weights, sizes: Sizes) -> Tensor:
    """(B, T, D) to (B, D): post-norm layers, and a residual from the input without positions."""
    x = embeddings + w["visual_head.frame_position_embedding.weight"]
    for layer in range(sizes.temporal_layers):
        name = f"visual_head.fusion_layer.layers.{layer}"
        x = norm(x + attention(x, w, f"{name}.self_attn", sizes.temporal_heads), w, f"{name}.norm1")
        hidden = linear(gelu(linear(x, w, f"{name}.linear1")), w, f"{name}.linear2")
        x = norm(x + hidden, w, f"{name}.norm2")
    return (norm(x, w, "visual_head.fusion_layer.norm") + embeddings).mean(1)


def encode_text(tokens: Tensor, w: Weights, sizes: Sizes) -> Tensor:
    x = w["backbone.token_embedding.weight"][tokens] + w["backbone.positional_embedding"]
    for layer in range(sizes.text_layers):
        x = clip_block(x, w, f"backbone.transformer.resblocks.{layer}", sizes.text_heads, causal=True)
    at_end = norm(x, w, "backbone.ln_final")[torch.arange(len(tokens)), tokens.argmax(1)]
    return at_end @ w["backbone.text_projection"]


# --- the loss


def contrastive_loss(video: Tensor, text: Tensor, sentiment: Tensor, scale: Tensor, beta: float) -> Tensor:
    """Eq. 5-7 as the released code has them: KL(s_j || s_i) at (i, j), the same matrix in both directions."""
    count = len(video)
    video, text = video / video.norm(dim=1, keepdim=True), text / text.norm(dim=1, keepdim=True)
    logits = scale.exp() * video @ text.T
    p = sentiment.double().softmax(-1)
    weight = torch.zeros(count, count, dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            if i != j:
                weight[i, j] = beta / (p[j] * (p[j] / p[i]).log()).sum().abs()
    total = torch.zeros((), dtype=torch.float64)
    for i in range(count):
        total = total - (logits - weight)[i].log_softmax(0)[i] - (logits.T - weight)[i].log_softmax(0)[i]
    return total / (2 * count)


# --- the optimizer


def group_of(name: str, tensor: Tensor) -> tuple[str, float]:
    """Return the name of the peak rate of a parameter, and its weight decay."""
    if name == "logit_scale":
        return "scale", 0.0
    gain_or_bias = tensor.ndim < 2
    part = "head" if name.startswith("visual_head.") else "backbone"
    return f"{part}_{'vectors' if gain_or_bias else 'matrices'}", 0.0 if gain_or_bias else DECAY


def rate(step: int, peak: float, *, epoch: int, epochs: int, warmup: int) -> float:
    """Return the rate of a step: the cosine of its epoch, or the line up to where the warm-up ends."""

    def of_epoch(number: int) -> float:
        return LEAST_RATE + (peak - LEAST_RATE) * (1 + math.cos(math.pi * number / epochs)) / 2

    if step >= warmup:
        return of_epoch(step // epoch)
    done = step / warmup
    return WARMUP_START * peak * (1 - done) + of_epoch(warmup // epoch) * done


class AdamW:
    """Decoupled weight decay, then Adam's step with bias correction."""

    def __init__(self, weights: Weights) -> None:
        self.mean = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
        self.square = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
        self.steps = 0

    @torch.no_grad()
    def step(self, weights: Weights, gradients: Weights, rates: dict[str, float]) -> None:
        self.steps += 1
        for name, tensor in weights.items():
            group, decay = group_of(name, tensor)
            lr, gradient = rates[group], gradients[name]
            self.mean[name] = BETA1 * self.mean[name] + (1 - BETA1) * gradient
            self.square[name] = BETA2 * self.square[name] + (1 - BETA2) * gradient**2
            mean = self.mean[name] / (1 - BETA1**self.steps)
            square = self.square[name] / (1 - BETA2**self.steps)
            tensor.mul_(1 - lr * decay).sub_(lr * mean / (square.sqrt() + EPS))
        weights["logit_scale"].clamp_(0, LARGEST_SCALE)
