"""Export the text tower as a graph of its own, for computing sentence embeddings without torch.

A bundle does not need it: its zero-shot head contains the embeddings of the sentences of its classes.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from emotion_export.folder import atomic_path
from emotion_export.graphs import GraphSource
from emotion_export.onnx import write_graph
from emotion_export.parity import TOLERANCES
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.errors import EmotionError
from emotion_runtime.parity import only_output
from emotion_runtime.vectors import cosine_similarity
from emotion_train.language.phrases import EKMAN_PHRASES, TEMPLATES
from emotion_train.language.tokenizer import tokenize
from emotion_train.model import EmotionCLIP
from emotion_train.pretrained import read_checkpoint

_log = logging.getLogger(__name__)

_BATCHES = (1, 3, 8)  # sentences per batch
_LONG = "I do not know " * 40  # longer than the context, so it is truncated before the end token


class TextEncoderGraph(nn.Module):
    """The text tower, from tokens to text features."""

    def __init__(self, model: EmotionCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features (B, D) float32, read at the end-of-text token.

        Args:
            tokens: (B, context) int64 from CLIP's tokenizer.
        """
        return self.model.encode_text(tokens)


def export_text_tower(checkpoint: Path, out: Path) -> None:
    """Export the text tower of a checkpoint as the ONNX file `out`: tokens (B, 77) int64 -> (B, D) float32.

    Raises:
        EmotionError: The checkpoint cannot be used, the graph differs from the model, or `out` cannot be
            written.
    """
    if out.suffix != ".onnx":
        raise EmotionError(f"--out {out}: expected the name of an .onnx file, for example text_encoder.onnx")
    source = text_source(read_checkpoint(checkpoint).model)
    with atomic_path(out) as path:
        _log.info("exporting text_encoder")
        write_graph(source, path)
        _log.info("compared with torch: %s", _compare(source, path))


def text_source(model: EmotionCLIP) -> GraphSource:
    """Return the text tower before its export."""
    return GraphSource(
        "text_encoder",
        TextEncoderGraph(model).eval(),
        {"tokens": tokenize(["a sentence", "another", "and one more"], model.config.text_context)},
        "features",
        {"tokens": "B", "features": "B"},
    )


def _compare(source: GraphSource, path: Path) -> str:
    """Return the largest differences from torch over short and long sentences, as text.

    Raises:
        EmotionError: The differences exceed the tolerance.
    """
    run = only_output(OnnxBackend(path))
    phrases = [phrase for variants in EKMAN_PHRASES.values() for phrase in variants]
    texts = ["", _LONG, *(TEMPLATES[i % len(TEMPLATES)].format(p) for i, p in enumerate(phrases))]
    context = source.inputs["tokens"].shape[1]
    expected, found = [], []
    for size in _BATCHES:
        for start in range(0, len(texts) - size + 1, size):
            tokens = tokenize(texts[start : start + size], context)
            with torch.inference_mode():
                expected.append(np.asarray(source.module(tokens).numpy(), np.float32))
            found.append(run({"tokens": tokens.numpy()}))
    a, b = np.concatenate(expected).astype(np.float64), np.concatenate(found).astype(np.float64)
    max_abs, mean_abs = float(np.abs(a - b).max()), float(np.abs(a - b).mean())
    cosine = cosine_similarity(a, b)
    tolerance = TOLERANCES["fp32"]
    text = f"max {max_abs:.1e}, mean {mean_abs:.1e}, cosine {cosine.min():.7f} of {len(cosine)} sentences"
    # Not written with >, so that NaN is refused.
    if not (max_abs <= tolerance.max_abs and mean_abs <= tolerance.mean_abs):
        raise EmotionError(
            f"text_encoder.onnx differs from the torch model: {text}; expected {tolerance.max_abs:.0e}, "
            f"{tolerance.mean_abs:.0e} or less. Nothing was written: check that the checkpoint's weights are "
            "finite, and export with the package versions of pyproject.toml"
        )
    return text
