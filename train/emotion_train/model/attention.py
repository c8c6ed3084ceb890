"""Attention and the pre-norm transformer block of CLIP, which the vision and the text tower share.

Written over `scaled_dot_product_attention` and not `nn.MultiheadAttention`: queries can be fewer than keys,
keys can come from another stream, and the exported graph is plain matrix products and softmax.
Parameter names are those of `nn.MultiheadAttention`, as released weights have them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention of (N, L, width) rows.

    subject_bias: adds `subject_gain` (heads,), the strength with which each head follows the subject;
    1 at the start, at 0 the attention is the plain one.
    """

    def __init__(self, width: int, heads: int, *, subject_bias: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))  # query, key, value
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.subject_gain = nn.Parameter(torch.ones(heads)) if subject_bias else None
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)
        nn.init.zeros_(self.out_proj.bias)

    def project(self, x: Tensor, queries: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the first `queries` rows (None: all), keys, values of all; each (N, heads, rows, d)."""
        if queries is None:
            query, key, value = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        else:
            width = x.shape[-1]
            query = F.linear(x[:, :queries], self.in_proj_weight[:width], self.in_proj_bias[:width])
            key, value = F.linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, dim=-1)
        return self._split(query), self._split(key), self._split(value)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        subject: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Rows (N, Lq, width) for projected queries (N, heads, Lq, d) over keys and values (N, heads, Lk, d).

        subject: (N, 1, Lq or 1, Lk) log weights of the keys; added to the logits times `subject_gain`.
        """
        bias = None
        if subject is not None and self.subject_gain is not None:
            bias = (self.subject_gain.view(-1, 1, 1) * subject).to(query.dtype)
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(query, key, value, bias, dropout_p=dropout, is_causal=causal)
        # The copy is for export: the kernels lay their results out in different ways, and torch.export would
        # keep a view that fits only the one it saw.
        x = x.transpose(1, 2).clone(memory_format=torch.contiguous_format).flatten(2)  # (N, Lq, width)
        rows: Tensor = self.out_proj(x)
        return rows

    def _split(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        return x.reshape(rows, length, self.heads, width // self.heads).transpose(1, 2)


class Mlp(nn.Module):
    """Two linear layers with exact GELU, 4x as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        nn.init.normal_(self.c_fc.weight, std=(2 * width) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block: attention, then an MLP.

    depth: blocks of the whole tower, which sets the scale of the residual branches at the start.
    """

    def __init__(self, width: int, heads: int, *, depth: int, subject_bias: bool = False) -> None:
        super().__init__()
        self.attn = Attention(width, heads, subject_bias=subject_bias)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.ln_2 = nn.LayerNorm(width)
        # CLIP's start: each of the 2 * depth branches adds its share to a residual of unit variance.
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
        """(N, L, width) -> (N, L, width); only the first `queries` rows of it when given, which is exact.

        subject: as in `Attention.attend`.
        """
        if subject is not None:
            subject = subject[:, :, :queries]
        return self.update(x[:, :queries], self.project(x, queries), subject=subject, causal=causal)

    def project(self, x: Tensor, queries: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the normalised rows; see `Attention.project`."""
        return self.attn.project(self.ln_1(x), queries)

    def update(
        self,
        x: Tensor,
        projected: tuple[Tensor, Tensor, Tensor],
        *,
        subject: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """The rest of the block, for rows x (N, Lq, width) whose queries look at any keys and values.

        projected: queries, keys and values, as `project` gives them.
        """
        x = x + self.attn.attend(*projected, subject=subject, causal=causal)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """A tower's blocks; the towers run them themselves."""

    def __init__(self, width: int, layers: int, heads: int, *, subject_bias: bool = False) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            Block(width, heads, depth=layers, subject_bias=subject_bias) for _ in range(layers)
        )

    def blocks(self) -> tuple[Block, ...]:
        """The blocks, typed."""
        return tuple(block for block in self.resblocks if isinstance(block, Block))
