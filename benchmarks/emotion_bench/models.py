"""Models with formula weights, and their frame encoders: ours and the plain export."""

import warnings
import zlib
from pathlib import Path

import numpy as np
import torch

from emotion_bench.feeds import Feeds, frame_feeds
from emotion_bench.plain import PlainFrameEncoder
from emotion_export.graphs import graph_sources
from emotion_export.onnx import OPSET, write_graph
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.model import PRESETS, EmotionCLIP
from emotion_train.model.normalise import normalise


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

    The plain one is exported with `torch.onnx.export` as in its documentation, with a free number of people.
    """
    folder.mkdir(parents=True)
    ours, plain = folder / "ours.onnx", folder / "plain.onnx"
    source = graph_sources(model)[0]
    write_graph(source, ours)
    spec = model.config.preprocess
    feeds = plain_feeds(spec, frame_feeds(spec, 3))
    persons = torch.export.Dim("P")
    with warnings.catch_warnings():
        # Two inputs share a symbol on purpose.
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        program = torch.onnx.export(
            PlainFrameEncoder(model).eval(),
            tuple(torch.from_numpy(value) for value in feeds.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(feeds),
            output_names=[source.output],
            dynamic_shapes=tuple({0: persons} for _ in feeds),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.save(str(plain), external_data=False)
    return ours, plain
