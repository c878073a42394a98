"""RDESA: a small network of residual distillation blocks, fused under enhanced spatial attention.

It is the network that the study of super-resolution behind this project drew as its own proposal. No weights of it are
published; it is here as the plainest peer, and as the example of a network of one short file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.archs.rlfn_arch import ESA


class ChannelAttention(nn.Module):
    """x times a gate per channel, by a bottleneck from the channel's mean."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        squeezed = max(1, num_feat // 16)
        self.gate = nn.Sequential(
            nn.Conv2d(num_feat, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, num_feat, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean(dim=(-2, -1), keepdim=True))


class ResidualDistillationBlock(nn.Module):
    """Three convolutions in a row, each with ReLU; all three outputs distilled by a 1x1 convolution and channel
    attention; plus the input."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(num_feat, num_feat, 3, padding=1) for _ in range(3))
        self.distil = nn.Conv2d(3 * num_feat, num_feat, 1)
        self.attention = ChannelAttention(num_feat)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for conv in self.convs:
            features.append(F.relu(conv(features[-1])))
        return x + self.attention(self.distil(torch.cat(features[1:], dim=1)))


class RDESA(nn.Module):
    """Conv3x3 + ReLU -> N residual distillation blocks -> all of them concatenated, Conv1x1, ESA -> + F0 -> upsampler.

    With its defaults it is of SAFMN's and SMFANet's size (210,000 parameters at x4), made of plain convolutions.

    Args:
        scale (int): upscaling factor.
        num_feat (int): width, at least 4.
        num_block (int): number of blocks.

    Raises:
        ValueError: when ``num_feat`` is below 4.
    """

    def __init__(self, *, scale: int = 4, num_feat: int = 32, num_block: int = 6) -> None:
        super().__init__()
        if num_feat < 4:
            raise ValueError(f'num_feat must be at least 4, got {num_feat}')
        self.scale = scale
        self.head = nn.Conv2d(3, num_feat, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualDistillationBlock(num_feat) for _ in range(num_block))
        self.fuse = nn.Conv2d(num_block * num_feat, num_feat, 1)
        self.esa = ESA.plain(num_feat, num_feat // 4)
        self.tail = nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1)
        self.upsample = nn.PixelShuffle(scale)

    def forward(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1."""
        f0 = x = F.relu(self.head(lq))
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return self.upsample(self.tail(self.esa(self.fuse(torch.cat(outputs, dim=1))) + f0))
