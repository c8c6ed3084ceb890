"""Convert sentences to token ids of CLIP's byte-pair vocabulary."""

from functools import lru_cache
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer


def tokenize(texts: list[str], context_length: int = 77) -> Tensor:
    """Return token ids (B, context_length) int64: start 49406, the sentence, end 49407, zeros.

    A sentence that is too long is truncated and still ends with the end token, as in CLIP.
    """
    tokens: Tensor = _clip_tokenizer()(texts, context_length)
    return tokens


@lru_cache(maxsize=1)  # reading the vocabulary takes 0.1 s
def _clip_tokenizer() -> "SimpleTokenizer":
    from open_clip.tokenizer import SimpleTokenizer  # noqa: PLC0415 (seconds to import, needed by training only)

    return SimpleTokenizer()
