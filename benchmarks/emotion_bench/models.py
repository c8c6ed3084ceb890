"""Models with formula weights, and their frame encoders: ours and the plain export."""

import zlib
from pathlib import Path

import numpy as np
import torch

from emotion_bench.feeds import Feeds, frame_feeds
from emotion_bench.plain import PlainFrameEncoder
from emotion_export.graphs import GraphSource, graph_sources
from emotion_export.onnx import torch_program, write_graph
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.model import PRESETS, EmotionCLIP
from emotion_train.model.encode import normalise


def formula_model(preset: str, seed: int = 0) -> EmotionCLIP:
    """Return a model whose weights are a function of their names: speed needs no training and no download.

    Activations have about unit variance everywhere, since a CPU computes very small numbers slowly.
    """
    model = EmotionCLIP(PRESETS[preset])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            values = rng.standard_normal(tuple(parameter.shape), np.float32)
            if parameter.ndim >= 2:
                values = values * np.float32(np.prod(parameter.shape[1:]) ** -0.5)
            elif name.endswith("weight"):
                values = 1 + np.float32(0.1) * values
            elif parameter.ndim == 1:
                values = np.float32(0.02) * values
            parameter.copy_(torch.from_numpy(np.asarray(values)))
    return model.eval().requires_grad_(requires_grad=False)


def plain_feeds(spec: PreprocessSpec, ours: Feeds) -> Feeds:
    """Return inputs of a bundle's frame encoder as those of the plain export."""
    side, covered = spec.size // spec.patch, ours["patch_weights"]
    masks = covered.reshape(-1, side, side).repeat(spec.patch, axis=1).repeat(spec.patch, axis=2)
    pixels = normalise(torch.from_numpy(ours["images"]), spec).numpy()[ours["frame_index"]]
    return {"images": pixels, "masks": masks}


def export_both(model: EmotionCLIP, folder: Path) -> tuple[Path, Path]:
    """Export the frame encoder into a new folder: as a bundle has it, and plain.

    The plain one is what `torch.onnx.export` writes, with a free number of people.
    """
    folder.mkdir(parents=True)
    ours, plain = folder / "ours.onnx", folder / "plain.onnx"
    source = graph_sources(model)[0]
    write_graph(source, ours)
    spec = model.config.preprocess
    feeds = plain_feeds(spec, frame_feeds(spec, 3))
    inputs = {name: torch.from_numpy(value) for name, value in feeds.items()}
    dynamic = dict.fromkeys((*inputs, source.output), "P")
    other = GraphSource(source.name, PlainFrameEncoder(model).eval(), inputs, source.output, dynamic)
    torch_program(other).save(str(plain), external_data=False)
    return ours, plain
