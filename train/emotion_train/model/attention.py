"""Attention of CLIP, shared by the vision, the text and the temporal encoder.

Written with `scaled_dot_product_attention` instead of `nn.MultiheadAttention`: there can be fewer queries
than keys, keys can come from another sequence, and the exported graph consists of plain matrix products and
softmax. Parameter names are those of `nn.MultiheadAttention`, as in the released weights.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_train.model.config import NO_SAAM, Saam

if TYPE_CHECKING:
    from collections.abc import Callable

# Initial logit of A in subject-aware attention masking: a tenth of the attention is shifted, so that a tower
# initialised from CLIP starts close to CLIP.
INITIAL_SHIFT_LOGIT = -2.2


def attention_shift(
    query: Tensor, key: Tensor, mask: Tensor, fraction: Tensor, *, rows: int | None = None
) -> Tensor:
    """Return what subject-aware attention masking adds to the weights of plain attention, by Eq. 2.

    Source: Eq. 2 as written, with o for the product by elements: the context has the weights S o (1 - A), and
    the subject the matrix product (S o A) U, with U of Eq. 3. Together that is S + ((S o A) U - S o A), so
    A = 0 is plain attention to the last bit.

    Args:
        query: (N, heads, L, d) of all tokens: a row of the product needs every row of U.
        key: (N, heads, L, d).
        mask: M of Eq. 4, (N, 1, L, L).
        fraction: A in [0, 1], (L, L).
        rows: Number of leading rows to return; None means all.

    Returns:
        (N, heads, rows, L); every row sums to 0.
    """
    logits = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    # hmn always sees itself and every patch sees all patches, so no row of M is -inf throughout.
    toward_subject = (logits + mask).softmax(-1)  # U
    if rows is not None:
        logits, fraction = logits[:, :, :rows], fraction[:rows]
    taken = fraction * logits.softmax(-1)  # S o A
    shift: Tensor = taken @ toward_subject - taken
    return shift.to(query.dtype)


def rowwise_shift(query: Tensor, key: Tensor, mask: Tensor, fraction: Tensor) -> Tensor:
    """Return what "saam-rowwise" adds to the weights of plain attention: another reading of Eq. 2.

    The mass that A takes from row i, sum_j A_ij S_ij, goes to the subject distribution U_i of the same row.
    The row of cls in U is plain attention, so the subject reaches cls only through the other tokens.

    Args:
        query: (N, heads, Lq, d).
        key: (N, heads, L, d).
        mask: M of Eq. 4, (N, 1, Lq, L).
        fraction: A in [0, 1], (L, L); only its first Lq rows are used.

    Returns:
        (N, heads, Lq, L); every row sums to 0.
    """
    logits = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    taken = fraction[: query.shape[2]] * logits.softmax(-1)
    toward_subject = (logits + mask).softmax(-1)
    shift: Tensor = taken.sum(-1, keepdim=True) * toward_subject - taken
    return shift.to(query.dtype)


class Attention(nn.Module):
    """Multi-head attention over sequences (N, L, width).

    Args:
        width: Size of a token.
        heads: Number of heads.
        subject_bias: Add the parameter `subject_gain` (heads,), the strength with which each head follows the
            subject. It starts at 1; at 0 this is plain attention.
        saam: Subject-aware attention masking. Adds the parameter `subject_shift` (L, L), the logits of A in
            Eq. 2, so that A stays in [0, 1].
        dropout: Probability of dropping an attention weight in training.

    Attributes:
        weights_hook: Called with the attention weights of every call of `attend`, see `weights`. They are
            computed a second time for it, since the fused kernel does not return them, so the output does not
            change. None (the default) costs nothing.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        subject_bias: bool = False,
        saam: Saam = NO_SAAM,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.saam_rowwise = saam.rowwise
        self.dropout = dropout
        self.weights_hook: Callable[[Tensor], None] | None = None
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))  # query, key, value
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.subject_gain = nn.Parameter(torch.ones(heads)) if subject_bias else None
        self.subject_shift = (
            nn.Parameter(torch.full((saam.tokens, saam.tokens), INITIAL_SHIFT_LOGIT)) if saam.tokens else None
        )
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)
        nn.init.zeros_(self.out_proj.bias)

    @property
    def needs_all_queries(self) -> bool:
        """Whether a row of the attention weights depends on the queries of all tokens (Eq. 2)."""
        return self.subject_shift is not None and not self.saam_rowwise

    def project(self, x: Tensor, queries: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Project tokens (N, L, width) to queries, keys and values.

        Args:
            x: (N, L, width).
            queries: Number of leading tokens to compute queries for; None means all.

        Returns:
            Queries (N, heads, queries, d), keys and values (N, heads, L, d).
        """
        if queries is None:
            query, key, value = self.split_heads(self.project_tokens(x))
        else:
            (query,) = self.split_heads(self.project_tokens(x[:, :queries], parts=slice(0, 1)))
            key, value = self.split_heads(self.project_tokens(x, parts=slice(1, 3)))
        return query, key, value

    def project_tokens(self, x: Tensor, parts: slice | None = None) -> Tensor:
        """Project (..., width) to (..., 3 * width): queries, keys and values, or `parts` of them."""
        if parts is None:  # not slice(0, 3): an exported layer gets its name from the whole parameter
            return F.linear(x, self.in_proj_weight, self.in_proj_bias)
        width = x.shape[-1]
        rows = slice(parts.start * width, parts.stop * width)
        return F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])

    def split_heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split projections (N, L, parts * width) into `parts` tensors (N, heads, L, d)."""
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
        rows: int | None = None,
    ) -> Tensor:
        """Sum up the values by the attention weights; the result still has to pass `out_proj`.

        Args:
            query: (N, heads, Lq, d).
            key: (N, heads, Lk, d).
            value: (N, heads, Lk, d).
            subject: (N, 1, Lq or 1, Lk). With `subject_bias`: log weights of the keys, added to the logits
                times `subject_gain`. With `saam`: M of Eq. 4, 0 where a query may look for the
                subject, otherwise -inf.
            causal: Let each query see only itself and the keys before it.
            rows: Number of leading queries whose result is returned, where `needs_all_queries`; None means
                all.

        Returns:
            (N, Lq or rows, width).
        """
        if self.weights_hook is not None:
            self.weights_hook(self.weights(query, key, subject=subject, causal=causal, rows=rows))
        bias = None
        if subject is not None and self.subject_gain is not None:
            bias = (self.subject_gain.view(-1, 1, 1) * subject).to(query.dtype)
        dropout = self.dropout if self.training else 0.0
        wanted = query if rows is None else query[:, :, :rows]
        x = F.scaled_dot_product_attention(wanted, key, value, bias, dropout_p=dropout, is_causal=causal)
        if subject is not None and self.subject_shift is not None:
            x = x + self._shift(query, key, subject, rows) @ value
        # The copy is for export: kernels lay out their results differently, and torch.export would keep a
        # view that fits only the layout it saw.
        return x.transpose(1, 2).clone(memory_format=torch.contiguous_format).flatten(2)  # (N, Lq, width)

    def _shift(self, query: Tensor, key: Tensor, mask: Tensor, rows: int | None) -> Tensor:
        if self.subject_shift is None:
            raise ValueError("attention without subject-aware masking shifts nothing")
        fraction = self.subject_shift.sigmoid()
        if self.saam_rowwise:
            return rowwise_shift(query, key, mask, fraction)
        return attention_shift(query, key, mask, fraction, rows=rows)

    def weights(
        self,
        query: Tensor,
        key: Tensor,
        *,
        subject: Tensor | None = None,
        causal: bool = False,
        rows: int | None = None,
    ) -> Tensor:
        """Return the weights by which `attend` sums up the values, without dropout.

        Args:
            query: As in `attend`.
            key: As in `attend`.
            subject: As in `attend`.
            causal: As in `attend`.
            rows: As in `attend`.

        Returns:
            (N, heads, Lq or rows, Lk); every row sums to 1.
        """
        wanted = query if rows is None else query[:, :, :rows]
        logits = wanted @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        if subject is not None and self.subject_gain is not None:
            logits = logits + self.subject_gain.view(-1, 1, 1) * subject
        if causal:
            later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
            logits = logits.masked_fill(later, -torch.inf)
        weights: Tensor = logits.softmax(-1)
        if subject is not None and self.subject_shift is not None:
            weights = weights + self._shift(query, key, subject, rows)
        return weights
