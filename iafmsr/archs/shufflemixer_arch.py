"""ShuffleMixer: an efficient ConvNet for image super-resolution (Sun et al., NeurIPS 2022)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.archs.published import PublishedNet

_GROUPS = 8  # of the channel shuffle


class LayerNorm(nn.Module):
    """(x - mean) / standard deviation over the channels at every position, times a learned scale."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_feat))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight).permute(0, 3, 1, 2)


class SplitMLP(nn.Sequential):
    """Conv1x1, SiLU, Conv1x1 of the first half of the channels; the second half passes; then channels are shuffled."""

    def __init__(self, num_feat: int, ratio: int) -> None:
        half = num_feat // 2
        super().__init__(nn.Conv2d(half, ratio * half, 1), nn.SiLU(), nn.Conv2d(ratio * half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        mixed, passed = x.chunk(2, dim=1)
        x = torch.cat([super().forward(mixed), passed], dim=1)
        return x.unflatten(1, (_GROUPS, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleMixerLayer(nn.Module):
    """x = x + MLP(LN(x)); x = DWConv(x); x = x + MLP(LN(x))."""

    def __init__(self, num_feat: int, kernel_size: int, ratio: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(num_feat), LayerNorm(num_feat)
        self.mlp1, self.mlp2 = SplitMLP(num_feat, ratio), SplitMLP(num_feat, ratio)
        self.spatial = nn.Conv2d(num_feat, num_feat, kernel_size, padding=kernel_size // 2, groups=num_feat)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spatial(x + self.mlp1(self.norm1(x)))
        return x + self.mlp2(self.norm2(x))


class FeatureMixingBlock(nn.Module):
    """x = x + two shuffle mixer layers; x = x + Conv1x1(SiLU(Conv3x3(x)))."""

    def __init__(self, num_feat: int, kernel_size: int, ratio: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(*(ShuffleMixerLayer(num_feat, kernel_size, ratio) for _ in range(2)))
        self.conv = nn.Sequential(
            nn.Conv2d(num_feat, num_feat + 16, 3, padding=1), nn.SiLU(), nn.Conv2d(num_feat + 16, num_feat, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(x)
        return x + self.conv(x)


class ShuffleMixer(PublishedNet):
    """ShuffleMixer, 393,939 / 414,739 / 410,579 parameters at x2 / x3 / x4; loads its authors' weights.

    Args:
        scale (int): 2, 3 or 4; 4 is twice 2.
        num_feat (int): width, a multiple of 8; 32 in the tiny form.
        kernel_size (int): of the convolution of each channel, odd; 3 in the tiny form.
        num_block (int): number of blocks.
        ratio (int): hidden width of the MLPs over their input.

    Raises:
        ValueError: when ``num_feat`` is no multiple of 8.
    """

    published_names: ClassVar = {
        r'^to_feat\.': 'head.',
        r'^upsapling\.': 'up.',
        r'\.body\.weight$': '.weight',
        r'\.net\.': '.mix.',
        r'\.fc\.': '.',
    }

    def __init__(
        self, *, scale: int = 4, num_feat: int = 64, kernel_size: int = 7, num_block: int = 5, ratio: int = 2
    ) -> None:
        super().__init__()
        if num_feat % 8:
            raise ValueError(f'num_feat must be a multiple of 8, got {num_feat}')
        self.scale = scale
        self.head = nn.Conv2d(3, num_feat, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*(FeatureMixingBlock(num_feat, kernel_size, ratio) for _ in range(num_block)))
        up: list[nn.Module] = []
        for factor in (2, 2) if scale == 4 else (scale,):
            up += [nn.Conv2d(num_feat, num_feat * factor**2, 1), nn.PixelShuffle(factor), nn.SiLU()]
        self.up = nn.Sequential(*up)
        self.tail = nn.Conv2d(num_feat, 3, 3, padding=1)

    def forward(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1."""
        sr = self.tail(self.up(self.blocks(self.head(lq))))
        return sr + F.interpolate(lq, scale_factor=self.scale, mode='bilinear', align_corners=False)
