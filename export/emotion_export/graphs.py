"""The two graphs of a bundle as torch modules, with their inputs and dynamic dimensions.

Shapes: F images, P people, G patches, S side of an image, T frames of a clip, D embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from emotion_runtime.names import GraphName
from emotion_train.model import EmotionCLIP
from emotion_train.model.encode import normalise


class FrameEncoderGraph(nn.Module):
    """The frame encoder, from crops as the runtime makes them to one embedding per person."""

    def __init__(self, model: EmotionCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, frame_index: Tensor, patch_weights: Tensor) -> Tensor:
        """Return one embedding per person.

        The cast to float comes first: TensorRT accepts uint8 inputs but has no operators for them.

        Args:
            images: (F, S, S, 3) uint8 RGB; normalisation is part of the graph.
            frame_index: (P,) int64, the image of each person.
            patch_weights: (P, G) float32 in [0, 1].

        Returns:
            (P, D) float32.
        """
        normalised = normalise(images, self.model.config.preprocess)  # (F, 3, S, S) float32
        return self.model.encode_people(normalised, frame_index, patch_weights)


class TemporalEncoderGraph(nn.Module):
    """The temporal encoder, from the embeddings of a clip to one feature per person."""

    def __init__(self, model: EmotionCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return features (P, D) float32 of embeddings (P, T, D) float32, oldest first."""
        return self.model.encode_temporal(embeddings)


@dataclass(frozen=True, slots=True)
class GraphSource:
    """A graph before its export.

    Attributes:
        name: Name of the graph.
        module: The torch module.
        inputs: An example of each input by name, in the order of `module.forward`.
        output: Name of the output.
        dynamic: Symbol of the first dimension of each input and of the output; all other dimensions are
            fixed.
    """

    name: GraphName | Literal["text_encoder"]
    module: nn.Module
    inputs: Mapping[str, Tensor]
    output: str
    dynamic: Mapping[str, str]


def graph_sources(model: EmotionCLIP) -> tuple[GraphSource, GraphSource]:
    """Return the frame encoder and the temporal encoder of a model.

    The example sizes F, P and T differ from each other and from 1; otherwise the exporter would treat two
    symbols as one, or a symbol as a constant.
    """
    config = model.config
    spec = config.preprocess
    images, persons = 2, 3
    frame_encoder = GraphSource(
        "frame_encoder",
        FrameEncoderGraph(model).eval(),
        {
            "images": torch.zeros(images, spec.size, spec.size, 3, dtype=torch.uint8),
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
