"""Convolutional stem, which a small model uses in place of CLIP's patch projection.

With a linear patch projection, a ViT of a few million parameters does not learn faces from 27,000 images in a
short time. With four strided convolutions it does, and they can be trained on aligned face crops beforehand.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn


def _conv(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(
        inputs, outputs, 3, stride, padding=1, bias=False
    )  # the BatchNorm that follows has the bias


class ResidualBlock(nn.Module):
    """`ReLU(BN(conv(ReLU(BN(conv(x))))) + x)`; initially the identity, since its input is not negative."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, h, w)."""
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + x)


class ConvStem(nn.Sequential):
    """Maps normalised images (B, 3, H, W) float32 of any size to (B, width, ceil(H/16), ceil(W/16)).

    Four stages of stride 2. Each but the first, where feature maps are still large, ends with a residual
    block.

    Args:
        width: Channels of the last stage.
        channels: Channels of the three stages before it.
    """

    def __init__(self, width: int, channels: tuple[int, int, int] = (32, 64, 128)) -> None:
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = 3
        for stage, outputs in enumerate((*channels, width), start=1):
            layers: list[nn.Module] = [_conv(inputs, outputs, 2), nn.BatchNorm2d(outputs), nn.ReLU()]
            if stage > 1:
                layers.append(ResidualBlock(outputs))
            stages[f"stage{stage}"] = nn.Sequential(*layers)
            inputs = outputs
        super().__init__(stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # This layout is several times faster on a CPU, and on a GPU it is the one that tensor cores use.
        self.to(memory_format=torch.channels_last)
