"""What is exported: the two graphs of a bundle as torch modules, with their inputs and dynamic dimensions.

F pictures, P persons, G patches, S side of a picture, T frames of a clip, D embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from emotion_runtime.manifest import GraphName
from emotion_train.model import EmotionCLIP
from emotion_train.model.normalise import normalise


class FrameEncoderGraph(nn.Module):
    """Pictures as the runtime crops them to one embedding a person; normalisation is inside."""

    def __init__(self, model: EmotionCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, frame_index: Tensor, patch_weights: Tensor) -> Tensor:
        """(F, S, S, 3) uint8 RGB, (P,) int64, (P, G) float32 -> (P, D) float32.

        The cast to float comes before everything else: TensorRT takes uint8 inputs but computes nothing on
        them.
        """
        normalised = normalise(images, self.model.config.preprocess)  # (F, 3, S, S) float32
        return self.model.encode_people(normalised, frame_index, patch_weights)


class TemporalEncoderGraph(nn.Module):
    """A clip's embeddings to one feature a person."""

    def __init__(self, model: EmotionCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, embeddings: Tensor) -> Tensor:
        """(P, T, D) float32, oldest first -> (P, D) float32."""
        return self.model.encode_temporal(embeddings)


@dataclass(frozen=True, slots=True)
class GraphSource:
    """A graph before its export.

    inputs: an example of each, by name, in the order of `module.forward`. dynamic: the symbol of the first
    dimension of each input and of the output; all other dimensions are fixed.
    """

    name: GraphName | Literal["text_encoder"]
    module: nn.Module
    inputs: Mapping[str, Tensor]
    output: str
    dynamic: Mapping[str, str]


def graph_sources(model: EmotionCLIP) -> tuple[GraphSource, GraphSource]:
    """Frame encoder and temporal encoder of a model.

    The examples' F, P and T differ from each other and from 1, or the exporter would take two symbols
    for one, or one for a constant.
    """
    config = model.config
    spec = config.preprocess
    pictures, persons = 2, 3
    frame_encoder = GraphSource(
        "frame_encoder",
        FrameEncoderGraph(model).eval(),
        {
            "images": torch.zeros(pictures, spec.size, spec.size, 3, dtype=torch.uint8),
            "frame_index": torch.tensor([0, 1, 1]),
            "patch_weights": torch.zeros(persons, spec.patches),
        },
        "embeddings",
        {"images": "F", "frame_index": "P", "patch_weights": "P", "embeddings": "P"},
    )
    temporal_encoder = GraphSource(
        "temporal_encoder",
        TemporalEncoderGraph(model).eval(),
        {"embeddings": torch.zeros(persons, config.clip_frames, config.embed_dim)},
        "features",
        {"embeddings": "P", "features": "P"},
    )
    return frame_encoder, temporal_encoder
