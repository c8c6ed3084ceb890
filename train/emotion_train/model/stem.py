"""Convolutional stem: what a small model needs in place of CLIP's patch projection.

A ViT of a few million parameters does not learn faces from 27,000 pictures through a linear patch projection
in any short time; four strided convolutions do, and can be trained on tight faces before the rest.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn


def _conv(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)  # a BatchNorm follows: no bias


class ResidualBlock(nn.Module):
    """conv-BN-ReLU-conv-BN, plus the input, ReLU; starts as the identity of its non-negative input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + x)


class ConvStem(nn.Sequential):
    """(B, 3, H, W) float32 normalised pictures of any size -> (B, width, ceil(H/16), ceil(W/16)).

    Four stages of stride 2, a residual block after each but the first, where pictures are still large.
    """

    def __init__(self, width: int) -> None:
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = 3
        for number, channels in enumerate((32, 64, 128, width), start=1):
            layers: list[nn.Module] = [_conv(inputs, channels, 2), nn.BatchNorm2d(channels), nn.ReLU()]
            if number > 1:
                layers.append(ResidualBlock(channels))
            stages[f"stage{number}"] = nn.Sequential(*layers)
            inputs = channels
        super().__init__(stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # Several times as fast on a CPU, and on a GPU the layout that tensor cores want.
        self.to(memory_format=torch.channels_last)
