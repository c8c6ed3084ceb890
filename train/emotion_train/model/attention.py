"""Attention and the pre-norm transformer block of CLIP, which the vision and the text tower share.

Written over `scaled_dot_product_attention` and not `nn.MultiheadAttention`: queries can be fewer than keys,
keys can come from another stream, and the exported graph is plain matrix products and softmax.
Parameter names are those of `nn.MultiheadAttention`, as released weights have them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# Logit of A at the start of subject-aware attention masking: a tenth of the attention is shifted, so that a
# tower that starts from CLIP starts close to it.
SHIFT_START = -2.2


def attention_shift(query: Tensor, key: Tensor, mask: Tensor, share: Tensor) -> Tensor:
    """What subject-aware masking adds to the weights of plain attention, (N, heads, Lq, Lk); rows sum to 0.

    mask: M, (N, 1, Lq, Lk). share: A in [0, 1], (L, L), of which the first Lq rows count.
    Source: Eq. 2 read elementwise: of the weights S the context keeps (1 - A) * S, and the mass taken from
    row i, sum_j A_ij S_ij, goes to the subject distribution U_i (Eq. 3). That is S + (mass * U - A * S), so
    that A = 0 is plain attention to the last bit.
    """
    logits = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    taken = share[: query.shape[2]] * logits.softmax(-1)  # A * S
    # hmn always sees itself and every patch all patches, so no row of M is -inf throughout.
    toward_subject = (logits + mask).softmax(-1)  # U
    shift: Tensor = taken.sum(-1, keepdim=True) * toward_subject - taken
    return shift.to(query.dtype)


class Attention(nn.Module):
    """Multi-head attention of (N, L, width) rows.

    subject_bias: adds `subject_gain` (heads,), the strength with which each head follows the subject;
    1 at the start, at 0 the attention is the plain one.
    saam_tokens: length L of the sequence for subject-aware attention masking, 0 without it; adds
    `subject_shift` (L, L), the logits of A in Eq. 2, so that A lies in [0, 1] whatever is learned.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        subject_bias: bool = False,
        saam_tokens: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))  # query, key, value
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.subject_gain = nn.Parameter(torch.ones(heads)) if subject_bias else None
        self.subject_shift = (
            nn.Parameter(torch.full((saam_tokens, saam_tokens), SHIFT_START)) if saam_tokens else None
        )
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)
        nn.init.zeros_(self.out_proj.bias)

    def project(self, x: Tensor, queries: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the first `queries` rows (None: all), keys, values of all; each (N, heads, rows, d)."""
        if queries is None:
            query, key, value = self.split(self.project_rows(x))
        else:
            (query,) = self.split(self.project_rows(x[:, :queries], parts=slice(0, 1)))
            key, value = self.split(self.project_rows(x, parts=slice(1, 3)))
        return query, key, value

    def project_rows(self, x: Tensor, parts: slice | None = None) -> Tensor:
        """Rows (..., width) -> (..., 3 * width): queries, keys and values, or only `parts` of the three."""
        if parts is None:  # not a slice of all: an exported layer is called by its parameters
            return F.linear(x, self.in_proj_weight, self.in_proj_bias)
        width = x.shape[-1]
        rows = slice(parts.start * width, parts.stop * width)
        return F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, L, parts * width) -> as many tensors (N, heads, L, d)."""
        rows, length, size = x.shape
        width = self.in_proj_weight.shape[1]
        by_head = x.reshape(rows, length, self.heads * (size // width), width // self.heads)
        return torch.split(by_head.transpose(1, 2), self.heads, dim=1)

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

        They still have to pass `out_proj`.

        subject: (N, 1, Lq or 1, Lk). With `subject_bias`: log weights of the keys, added to the logits times
        `subject_gain`. With `saam_tokens`: M of Eq. 4, 0 where a query may look for the subject, else -inf.
        """
        bias = None
        if subject is not None and self.subject_gain is not None:
            bias = (self.subject_gain.view(-1, 1, 1) * subject).to(query.dtype)
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(query, key, value, bias, dropout_p=dropout, is_causal=causal)
        if subject is not None and self.subject_shift is not None:
            x = x + attention_shift(query, key, subject, self.subject_shift.sigmoid()) @ value
        # The copy is for export: the kernels lay their results out in different ways, and torch.export would
        # keep a view that fits only the one it saw.
        return x.transpose(1, 2).clone(memory_format=torch.contiguous_format).flatten(2)  # (N, Lq, width)


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
    subject_bias, saam_tokens: of its attention. `recompute`: trade time for memory in training, by
    computing the block again in the backward pass instead of keeping what is inside of it.
    """

    def __init__(
        self, width: int, heads: int, *, depth: int, subject_bias: bool = False, saam_tokens: int = 0
    ) -> None:
        super().__init__()
        self.recompute = False
        self.attn = Attention(width, heads, subject_bias=subject_bias, saam_tokens=saam_tokens)
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

        def whole(x: Tensor) -> Tensor:
            projected = self.attn.project(self.ln_1(x), queries)
            return self.add(x[:, :queries], self.attn.attend(*projected, subject=subject, causal=causal))

        return self.in_training(whole, x)

    def in_training(self, part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`part(x)`, a part of the block, computed again in the backward pass where `recompute` says so."""
        if not (self.recompute and torch.is_grad_enabled()):
            return part(x)
        out: Tensor = checkpoint(part, x, use_reentrant=False)
        return out

    def add(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block, for rows x (..., width) and what `attn.attend` made for them."""
        x = x + self.attn.out_proj(attended)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """A tower's blocks; the towers run them themselves.

    saam: sequence length and number of leading blocks with subject-aware attention masking.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        *,
        subject_bias: bool = False,
        saam: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        tokens, masked = saam
        self.resblocks = nn.ModuleList(
            Block(
                width,
                heads,
                depth=layers,
                subject_bias=subject_bias,
                saam_tokens=tokens if number < masked else 0,
            )
            for number in range(layers)
        )

    def blocks(self) -> tuple[Block, ...]:
        """The blocks, typed."""
        return tuple(block for block in self.resblocks if isinstance(block, Block))
