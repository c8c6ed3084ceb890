"""A checkpoint in torch, as the reference of the parity check."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from emotion_export.graphs import GraphSource
from emotion_runtime.backends.base import Feeds
from emotion_runtime.manifest import Head
from emotion_runtime.parity import Reference, RunGraph, label_function


def torch_reference(
    sources: Sequence[GraphSource], folder: Path, heads: Mapping[str, Head], default: str
) -> Reference:
    """Return a model in torch as the reference: its `graph_sources`, with labels by `label_function`."""
    frame_encoder, temporal_encoder = sources
    frames = temporal_encoder.inputs["embeddings"].shape[1]
    labels = label_function(folder, heads, default)
    return Reference("torch", _by_torch(frame_encoder), _by_torch(temporal_encoder), frames, labels)


def _by_torch(source: GraphSource) -> RunGraph:
    def run(feed: Feeds) -> NDArray[np.float32]:
        with torch.inference_mode():
            output = source.module(*(torch.from_numpy(feed[name]) for name in source.inputs))
        return np.asarray(output.numpy(), np.float32)

    return run
