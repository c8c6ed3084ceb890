"""Both encoders under PyTorch by precision and number of people: speed with and without copies, parity."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emotion_bench.device import PRECISIONS, Device
from emotion_bench.feeds import SHARED, Feeds, feeds_of
from emotion_export.graphs import graph_sources
from emotion_runtime.vectors import cosine_similarity
from emotion_train.model import EmotionCLIP

PARITY_PERSONS = (1, 3, 8)
Call = Callable[[], Tensor]


class OnDevice(nn.Module):
    """A graph of the model in one precision: float32 in and out, without copies from the host in between."""

    def __init__(self, model: EmotionCLIP, graph: str, dtype: torch.dtype) -> None:
        super().__init__()
        spec = model.config.preprocess
        self.model = model
        self.graph = graph
        self.dtype = dtype
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", 255 * torch.tensor(spec.mean))
        self.register_buffer("std", 255 * torch.tensor(spec.std))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Take the inputs that the graph's contract names; return (P, D) float32."""
        if self.graph == "temporal_encoder":
            return self.model.encode_temporal(inputs[0].to(self.dtype)).float()
        images, frame_index, patch_weights = inputs
        pixels = ((images.float() - self.mean.float()) / self.std.float()).movedim(-1, -3).to(self.dtype)
        return self.model.encode_people(pixels, frame_index, patch_weights.to(self.dtype)).float()


@dataclass(frozen=True, slots=True)
class Reference:
    """One graph of the model in float32 on the CPU, with which every other way to run it is compared.

    Attributes:
        graph: Name of the graph.
        crops: "one crop" for all people, "own crops", or "" for the temporal encoder.
        feeds: Returns the inputs for a number of people.
        expected: Outputs (P, D) by number of people.
    """

    graph: str
    crops: str
    feeds: Callable[[int], Feeds]
    expected: dict[int, NDArray[np.float32]]

    def cosine(self, run: Callable[[Feeds], NDArray[np.float32]]) -> float:
        """Return the smallest cosine of any person in the parity batches."""
        found = [cosine_similarity(each, run(self.feeds(n))).min() for n, each in self.expected.items()]
        return round(float(min(found)), 7)


def references(model: EmotionCLIP, crops: Sequence[str] = (SHARED,)) -> dict[tuple[str, str], Reference]:
    """Compute the references of a model on the CPU, by graph and crops."""
    made: dict[tuple[str, str], Reference] = {}
    config = model.config
    clip = config.clip_frames, config.embed_dim
    for source in graph_sources(model):
        for each in crops if source.name == "frame_encoder" else ("",):
            feeds = partial(feeds_of, source.name, each, config.preprocess, clip)
            with torch.inference_mode():
                expected = {
                    count: source.module(*map(torch.from_numpy, feeds(count).values())).numpy()
                    for count in PARITY_PERSONS
                }
            made[source.name, each] = Reference(source.name, each, feeds, expected)
    return made


def torch_rows(
    model: EmotionCLIP,
    reference: Reference,
    persons: Sequence[int],
    device: Device,
    precision: str,
    *,
    compiled: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield rows of one graph in one of `PRECISIONS`: eager, and as a CUDA graph where CUDA exists.

    The model is moved to the device and converted to the precision; with `compiled`, `torch.compile` compiles
    it first, for each number of people.
    """
    module: Any = OnDevice(model.to(PRECISIONS[precision]), reference.graph, PRECISIONS[precision])
    module = module.to(device.torch).eval()
    if compiled:
        torch.compiler.reset()  # it stops compiling after a few sizes of one module
        module = torch.compile(module, dynamic=False)
    modes = ["eager", "CUDA graph"] if device.captures else ["eager"]
    with torch.inference_mode():
        for mode in modes[-1:] if compiled else modes:
            prepare = partial(_prepare, module, device, captured=mode == "CUDA graph")
            # Of this mode: a graph may be wrong.
            cosine = None if compiled else reference.cosine(partial(_output, prepare))
            for count in persons:
                on_device, whole = prepare(reference.feeds(count))
                yield {
                    "runner": f"PyTorch, {'compiled, ' if compiled else ''}{mode}",
                    "precision": precision,
                    "graph": reference.graph,
                    "crops": reference.crops,
                    "persons": count,
                    "ms": round(1000 * device.seconds(whole), 4),
                    "ms_on_device": round(1000 * device.seconds(on_device), 4),
                    "cosine_min": cosine,
                }


def _prepare(module: nn.Module, device: Device, feeds: Feeds, *, captured: bool) -> tuple[Call, Call]:
    """Return a call on inputs that are on the device, and one with the copies from and to the host."""
    host = [torch.from_numpy(value) for value in feeds.values()]
    held = [value.to(device.torch) for value in host]
    call: Call = partial(module, *held)
    if captured:
        call = device.capture(call)

    def whole() -> Tensor:
        for target, value in zip(held, host, strict=True):
            target.copy_(value)
        return call().cpu()

    return call, whole


def _output(prepare: Callable[[Feeds], tuple[Call, Call]], feeds: Feeds) -> NDArray[np.float32]:
    return np.asarray(prepare(feeds)[1]().numpy())
