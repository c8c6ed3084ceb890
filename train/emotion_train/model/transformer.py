"""The pre-norm transformer block of CLIP, shared by the vision and the text tower.

Parameter names are those of the released weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from emotion_train.model.attention import Attention
from emotion_train.model.config import NO_SAAM, Activation, Saam


class Mlp(nn.Module):
    """Two linear layers with GELU or its approximation by a sigmoid; the hidden layer is 4 times as wide."""

    def __init__(self, width: int, activation: Activation = "gelu") -> None:
        super().__init__()
        self.activation = activation
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        nn.init.normal_(self.c_fc.weight, std=(2 * width) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        hidden = self.c_fc(x)
        active = hidden * (1.702 * hidden).sigmoid() if self.activation == "quick_gelu" else F.gelu(hidden)
        out: Tensor = self.c_proj(active)
        return out


class Block(nn.Module):
    """Pre-norm transformer block: attention, then an MLP.

    Args:
        width: Size of a token.
        heads: Number of attention heads.
        depth: Number of blocks in the whole tower; it sets the initial scale of the residual branches.
        subject_bias: See `Attention`.
        saam: See `Attention`.
        activation: Of the MLP.

    Attributes:
        recompute: Save memory in training by running the block again in the backward pass instead of keeping
            its activations.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        depth: int,
        subject_bias: bool = False,
        saam: Saam = NO_SAAM,
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        self.recompute = False
        self.attn = Attention(width, heads, subject_bias=subject_bias, saam=saam)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = Mlp(width, activation)
        self.ln_2 = nn.LayerNorm(width)
        # CLIP's initialisation: 2 * depth branches together add up to a residual of unit variance.
        residual_std = width**-0.5 * (2 * depth) ** -0.5
        nn.init.normal_(self.attn.out_proj.weight, std=residual_std)
        nn.init.normal_(self.mlp.c_proj.weight, std=residual_std)

    def forward(
        self,
        x: Tensor,
        *,
        queries: int | None = None,
        subject: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Run the block on (N, L, width).

        Args:
            x: (N, L, width).
            queries: Compute only this many leading tokens of the result; the result is the same. None means
                all.
            subject: As in `Attention.attend`.
            causal: As in `Attention.attend`.

        Returns:
            (N, L, width), or (N, queries, width).
        """
        needs_all = subject is not None and self.attn.needs_all_queries
        if subject is not None and not needs_all:
            subject = subject[:, :, :queries]

        def block(x: Tensor) -> Tensor:
            query, key, value = self.attn.project(self.ln_1(x), None if needs_all else queries)
            rows = queries if needs_all else None
            attended = self.attn.attend(query, key, value, subject=subject, causal=causal, rows=rows)
            return self.add_residuals(x[:, :queries], attended)

        return self.maybe_recompute(block, x)

    def maybe_recompute(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return `function(x)`; with `recompute`, the backward pass computes it again."""
        if not (self.recompute and torch.is_grad_enabled()):
            return function(x)
        out: Tensor = checkpoint(function, x, use_reentrant=False)
        return out

    def add_residuals(self, x: Tensor, attended: Tensor) -> Tensor:
        """Finish the block, given its input x (..., width) and the result of `attn.attend` for x."""
        x = x + self.attn.out_proj(attended)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """The blocks of a tower. It has no `forward`: each tower runs the blocks in its own way.

    Args:
        width: Size of a token.
        layers: Number of blocks.
        heads: Number of attention heads.
        subject_bias: See `Attention`.
        saam: Subject-aware attention masking of its leading blocks.
        activation: Of the MLPs.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        *,
        subject_bias: bool = False,
        saam: Saam = NO_SAAM,
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            Block(
                width,
                heads,
                depth=layers,
                subject_bias=subject_bias,
                saam=saam if layer < saam.layers else NO_SAAM,
                activation=activation,
            )
            for layer in range(layers)
        )

    def blocks(self) -> tuple[Block, ...]:
        """Return the blocks as `Block`; iterating over a ModuleList gives `Module` to a type checker."""
        return tuple(block for block in self.resblocks if isinstance(block, Block))
