"""IMDN: lightweight image super-resolution with information multi-distillation (Hui et al., ACM MM 2019)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.archs.published import PublishedNet

_SLOPE = 0.05  # of the leaky ReLU


class ContrastAttention(nn.Module):
    """x times a gate per channel, by a bottleneck from the channel's mean plus its standard deviation over space."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        squeezed = num_feat // 16
        self.gate = nn.Sequential(
            nn.Conv2d(num_feat, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, num_feat, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        std, mean = torch.std_mean(x, dim=(-2, -1), keepdim=True, correction=0)
        return x * self.gate(std + mean)


class IMDB(nn.Module):
    """Information multi-distillation block: after each of three convolutions a quarter of the channels is kept aside
    and the rest refined; a fourth makes the last quarter; attention and a 1x1 convolution join them; plus the input."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.kept, self.passed = num_feat // 4, num_feat - num_feat // 4
        self.refine = nn.ModuleList(
            nn.Conv2d(num_feat if i == 0 else self.passed, num_feat if i < 3 else self.kept, 3, padding=1)
            for i in range(4)
        )
        self.attention = ContrastAttention(num_feat)
        self.join = nn.Conv2d(num_feat, num_feat, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept, passed = [], x
        for conv in self.refine[:3]:
            part, passed = F.leaky_relu(conv(passed), _SLOPE).split([self.kept, self.passed], dim=1)
            kept.append(part)
        kept.append(self.refine[3](passed))
        return x + self.join(self.attention(torch.cat(kept, dim=1)))


class IMDN(PublishedNet):
    """IMDN, 694,404 / 703,059 / 715,176 parameters at x2 / x3 / x4; loads its authors' weights.

    Args:
        scale (int): upscaling factor.
        num_feat (int): width, a multiple of 16.
        num_block (int): number of blocks.

    Raises:
        ValueError: when ``num_feat`` is no multiple of 16.
    """

    published_names: ClassVar = {
        r'^module\.': '',
        r'^fea_conv\.': 'head.',
        r'^upsampler\.0\.': 'tail.',
        r'^c\.0\.': 'fuse.',
        r'^LR_conv\.': 'smooth.',
        r'^IMDB1\.': 'blocks.0.',
        r'^IMDB2\.': 'blocks.1.',
        r'^IMDB3\.': 'blocks.2.',
        r'^IMDB4\.': 'blocks.3.',
        r'^IMDB5\.': 'blocks.4.',
        r'^IMDB6\.': 'blocks.5.',
        r'\.c1\.': '.refine.0.',
        r'\.c2\.': '.refine.1.',
        r'\.c3\.': '.refine.2.',
        r'\.c4\.': '.refine.3.',
        r'\.c5\.': '.join.',
        r'\.cca\.conv_du\.': '.attention.gate.',
    }

    def __init__(self, *, scale: int = 4, num_feat: int = 64, num_block: int = 6) -> None:
        super().__init__()
        if num_feat % 16:
            raise ValueError(f'num_feat must be a multiple of 16, got {num_feat}')
        self.scale = scale
        self.head = nn.Conv2d(3, num_feat, 3, padding=1)
        self.blocks = nn.ModuleList(IMDB(num_feat) for _ in range(num_block))
        self.fuse = nn.Conv2d(num_block * num_feat, num_feat, 1)
        self.smooth = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.tail = nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1)
        self.upsample = nn.PixelShuffle(scale)

    def forward(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1."""
        f0 = x = self.head(lq)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        fused = F.leaky_relu(self.fuse(torch.cat(outputs, dim=1)), _SLOPE)
        return self.upsample(self.tail(self.smooth(fused) + f0))
