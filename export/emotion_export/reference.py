"""The reference of the parity check: a checkpoint in torch, or the fp32 graphs of a bundle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from emotion_export.graphs import GraphSource
from emotion_export.parity import Feed, Reference, RunGraph
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import Bundle
from emotion_runtime.manifest import Head


def torch_reference(sources: Sequence[GraphSource], folder: Path, heads: Mapping[str, Head]) -> Reference:
    """Return a model in torch as the reference.

    Args:
        sources: The graphs, from `graph_sources`.
        folder: Folder of the heads' files.
        heads: Heads of the manifest.
    """
    frame_encoder, temporal_encoder = sources
    frames = temporal_encoder.inputs["embeddings"].shape[1]
    return Reference(
        "torch", _by_torch(frame_encoder), _by_torch(temporal_encoder), frames, _heads(folder, heads)
    )


def bundle_reference(bundle: Bundle) -> Reference:
    """Return the fp32 graphs of a bundle, in ONNX Runtime on the CPU, as the reference."""
    return Reference(
        "fp32 graph",
        run_graph(bundle.graph_path("frame_encoder"), "embeddings"),
        run_graph(bundle.graph_path("temporal_encoder"), "features"),
        bundle.manifest.clip_frames,
        _heads(bundle.folder, bundle.manifest.heads),
    )


def run_graph(path: Path, output: str) -> RunGraph:
    """Return a function that runs an ONNX file on the CPU, as the runtime does."""
    backend = OnnxBackend(path)

    def run(feed: Feed) -> NDArray[np.float32]:
        return np.asarray(backend.run(feed)[output], np.float32)

    return run


def _by_torch(source: GraphSource) -> RunGraph:
    def run(feed: Feed) -> NDArray[np.float32]:
        with torch.inference_mode():
            output = source.module(*(torch.from_numpy(feed[name]) for name in source.inputs))
        return np.asarray(output.numpy(), np.float32)

    return run


def _heads(folder: Path, heads: Mapping[str, Head]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return weight and bias of the heads whose labels must be kept.

    Experimental heads are left out if there are others: their labels are too close to each other to be a good
    test.
    """
    emotions = [head for head in heads.values() if head.activation != "identity"]
    stable = [head for head in emotions if not head.experimental]
    tensors = [load_file(folder / head.file) for head in stable or emotions]
    return [(tensor["weight"], tensor["bias"]) for tensor in tensors]
