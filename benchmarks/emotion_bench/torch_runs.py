"""Both encoders under PyTorch by precision and number of people: speed, parity, fractions of the limits."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emotion_bench.device import PRECISIONS, Device
from emotion_bench.models import Feeds, clip_feeds, count_flops, frame_feeds
from emotion_export.graphs import graph_sources
from emotion_runtime.vectors import cosine_similarity
from emotion_train.model import EmotionCLIP

PARITY_PERSONS = (1, 3, 8)
Call = Callable[[], Tensor]
GRAPHS: Mapping[str, Callable[[EmotionCLIP, int], tuple[Feeds, Feeds]]] = {
    "frame_encoder": frame_feeds,
    "temporal_encoder": clip_feeds,
}


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
class Ceilings:
    """Measured limits of the device.

    Attributes:
        flops: Operations per second of a matrix product, by precision.
        bytes: Bytes per second of a copy.
    """

    flops: Mapping[str, float]
    bytes: float


@dataclass(frozen=True, slots=True)
class Reference:
    """One graph of the model in float32 on the CPU, with which every other way to run it is compared.

    Attributes:
        graph: Name of the graph.
        expected: Outputs (P, D) by number of people.
        flops: Operations by number of people.
        parameters: Number of weights that the graph reads.
    """

    graph: str
    expected: Mapping[int, NDArray[np.float32]]
    flops: Mapping[int, int]
    parameters: int

    def cosine(self, run: Callable[[Feeds], NDArray[np.float32]], model: EmotionCLIP) -> float:
        """Return the smallest cosine of any person in the parity batches."""
        found = [
            cosine_similarity(self.expected[persons], run(GRAPHS[self.graph](model, persons)[0]))
            for persons in PARITY_PERSONS
        ]
        return round(float(np.concatenate(found).min()), 7)

    def fractions(self, persons: int, seconds: float, precision: str, ceilings: Ceilings) -> dict[str, float]:
        """Return the fractions of the measured matrix product and bandwidth that a call reaches.

        The bandwidth counts reading the weights once: a small batch does little more.
        """
        rate = self.flops[persons] / seconds
        weights = self.parameters * torch.finfo(PRECISIONS[precision]).bits // 8
        return {
            "tflops": round(rate / 1e12, 4),
            "share_of_matmul": round(rate / ceilings.flops[precision], 4),
            "share_of_bandwidth": round(weights / seconds / ceilings.bytes, 4),
        }


def references(model: EmotionCLIP, persons: list[int]) -> dict[str, Reference]:
    """Compute the reference of both graphs of a model on the CPU."""
    made: dict[str, Reference] = {}
    for source in graph_sources(model):

        def feeds(count: int, graph: str = source.name) -> Feeds:
            return GRAPHS[graph](model, count)[0]

        with torch.inference_mode():
            expected = {
                count: source.module(*map(torch.from_numpy, feeds(count).values())).numpy()
                for count in PARITY_PERSONS
            }
        flops = count_flops(source.module, feeds, persons)
        part = model.backbone.visual if source.name == "frame_encoder" else model.visual_head
        parameters = sum(parameter.numel() for parameter in part.parameters())
        made[source.name] = Reference(source.name, expected, flops, parameters)
    return made


def torch_rows(
    model: EmotionCLIP, reference: Reference, device: Device, ceilings: Ceilings, precision: str
) -> Iterator[dict[str, Any]]:
    """Yield rows of one graph in one precision: eager, and as a CUDA graph where CUDA exists.

    The model is moved to the device and converted to the precision.
    """
    module = OnDevice(model.to(PRECISIONS[precision]), reference.graph, PRECISIONS[precision])
    module = module.to(device.torch).eval()

    def inputs(feeds: Feeds) -> list[Tensor]:
        return [torch.from_numpy(value).to(device.torch) for value in feeds.values()]

    def eager(feeds: Feeds) -> Call:
        return partial(module, *inputs(feeds))

    def captured(feeds: Feeds) -> Call:
        replay, result = device.capture(eager(feeds))
        return lambda: (replay(), result)[1]

    modes = {"eager": eager, "CUDA graph": captured} if device.captures else {"eager": eager}
    with torch.inference_mode():
        for mode, prepare in modes.items():
            cosine = reference.cosine(partial(_output, prepare), model)  # of this mode: a graph may be wrong
            for persons in reference.flops:
                seconds = device.seconds(prepare(GRAPHS[reference.graph](model, persons)[0]))
                yield {
                    "runner": f"torch, {mode}",
                    "graph": reference.graph,
                    "precision": precision,
                    "persons": persons,
                    "ms": round(1000 * seconds, 4),
                    **reference.fractions(persons, seconds, precision, ceilings),
                    "cosine_min": cosine,
                }


def _output(prepare: Callable[[Feeds], Call], feeds: Feeds) -> NDArray[np.float32]:
    return np.asarray(prepare(feeds)().cpu().numpy())
