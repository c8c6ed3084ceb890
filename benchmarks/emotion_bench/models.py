"""Models with formula weights, and their graphs: ours and the plain export."""

import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from emotion_bench.plain import PlainFrameEncoder, PlainTemporalEncoder
from emotion_export.graphs import graph_sources
from emotion_export.onnx import OPSET, write_graph
from emotion_train.model import PRESETS, EmotionCLIP
from emotion_train.model.normalise import normalise

Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Exported:
    """One graph of a model, exported in both ways.

    Attributes:
        ours: File of our export.
        plain: File of the plain export.
        flops: Multiplications and additions of ours and of plain, by number of people.
    """

    ours: Path
    plain: Path
    flops: Mapping[int, tuple[int, int]]


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


def frame_feeds(model: EmotionCLIP, persons: int, images: int = 1) -> tuple[Feeds, Feeds]:
    """Return people in one image, or in several, as inputs of a bundle's graph and of the plain export."""
    spec = model.config.preprocess
    rng = np.random.default_rng(persons)
    crops = rng.integers(0, 256, (images, spec.size, spec.size, 3), dtype=np.uint8)
    index = np.arange(persons, dtype=np.int64) % images
    covered = rng.integers(0, 2, (persons, spec.patches)).astype(np.float32)
    ours: Feeds = {
        "images": crops,
        "frame_index": index,
        "patch_weights": covered,
    }
    side = spec.size // spec.patch
    masks = covered.reshape(persons, side, side).repeat(spec.patch, axis=1).repeat(spec.patch, axis=2)
    pixels = normalise(torch.from_numpy(crops), spec).numpy()[index]
    return ours, {"images": pixels, "masks": masks}


def clip_feeds(model: EmotionCLIP, persons: int) -> tuple[Feeds, Feeds]:
    """Return one clip per person, twice: both graphs take the same inputs."""
    shape = (persons, model.config.clip_frames, model.config.embed_dim)
    clips = np.random.default_rng(persons).standard_normal(shape).astype(np.float32)
    return {"embeddings": clips}, {"embeddings": clips}


def export_both(model: EmotionCLIP, folder: Path, persons: list[int]) -> dict[str, Exported]:
    """Export both graphs of a model, ours and plain, into a new folder."""
    folder.mkdir(parents=True)
    plains = (PlainFrameEncoder(model), frame_feeds), (PlainTemporalEncoder(model), clip_feeds)
    exported: dict[str, Exported] = {}
    for source, (plain, feeds) in zip(graph_sources(model), plains, strict=True):
        ours, other = folder / f"{source.name}.onnx", folder / f"{source.name}.plain.onnx"
        write_graph(source, ours)
        write_plain(plain.eval(), feeds(model, 3)[1], source.output, other)
        # mypy infers no types for arguments of a lambda that have defaults.
        counts = [
            count_flops(module, lambda n, feeds=feeds, i=i: feeds(model, n)[i], persons)  # type: ignore[misc]
            for i, module in enumerate((source.module, plain))
        ]
        exported[source.name] = Exported(ours, other, {n: (counts[0][n], counts[1][n]) for n in persons})
    return exported


def write_plain(module: nn.Module, feeds: Feeds, output: str, path: Path) -> None:
    """Export with `torch.onnx.export` as its documentation shows it, with a free number of people."""
    persons = torch.export.Dim("P")
    with _without_fast_path(), warnings.catch_warnings():
        # Two inputs share a symbol on purpose.
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        program = torch.onnx.export(
            module,
            tuple(torch.from_numpy(value) for value in feeds.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(feeds),
            output_names=[output],
            dynamic_shapes=tuple({0: persons} for _ in feeds),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.save(str(path), external_data=False)


def count_flops(module: nn.Module, feeds: Callable[[int], Feeds], persons: Sequence[int]) -> dict[int, int]:
    """Count multiplications and additions of matrix products and convolutions, by number of people.

    Every further person costs what the second one does; counting 64 would take a small CPU a minute.
    """
    counts = []
    for count in (1, 2):
        inputs: list[Tensor] = [torch.from_numpy(value) for value in feeds(count).values()]
        # The products within PyTorch's fused encoder layer would not be counted.
        with FlopCounterMode(display=False) as counter, torch.inference_mode(), _without_fast_path():
            module(*inputs)
        counts.append(int(counter.get_total_flops()))
    one, two = counts
    return {count: one + (count - 1) * (two - one) for count in persons}


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Switch off PyTorch's fused encoder layer, which cannot be exported."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
