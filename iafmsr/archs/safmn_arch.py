"""SAFMN: spatially-adaptive feature modulation for efficient image super-resolution (Sun et al., ICCV 2023)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.archs.published import PublishedNet
from iafmsr.layers.norm import ChannelLayerNorm

_LEVELS = 4


class SAFM(nn.Module):
    """Spatially-adaptive modulation (equations 1 to 3 of the paper): x * GELU(Conv1x1(four scales of x)).

    The channels are split into four groups; group i is max-pooled to 1/2^i, passes a depthwise 3x3 convolution and is
    enlarged again by its nearest neighbours.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % _LEVELS:
            raise ValueError(f'dim must be a multiple of {_LEVELS}, got {dim}')
        group = dim // _LEVELS
        self.levels = nn.ModuleList(nn.Conv2d(group, group, 3, padding=1, groups=group) for _ in range(_LEVELS))
        self.aggregate = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        features = []
        for i, (conv, group) in enumerate(zip(self.levels, x.chunk(_LEVELS, dim=1), strict=True)):
            if i:
                group = F.adaptive_max_pool2d(group, (max(1, h >> i), max(1, w >> i)))
            group = conv(group)
            features.append(F.interpolate(group, size=(h, w), mode='nearest') if i else group)
        return x * F.gelu(self.aggregate(torch.cat(features, dim=1)))


class FMM(nn.Module):
    """Feature mixing module: x = x + SAFM(LN(x)); x = x + CCM(LN(x)), CCM = conv3x3 C->hC, GELU, Conv1x1 hC->C."""

    def __init__(self, dim: int, ffn_scale: float) -> None:
        super().__init__()
        hidden = int(dim * ffn_scale)
        self.norm1, self.norm2 = ChannelLayerNorm(dim, eps=1e-6), ChannelLayerNorm(dim, eps=1e-6)
        self.safm = SAFM(dim)
        self.ccm = nn.Sequential(nn.Conv2d(dim, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.safm(self.norm1(x))
        return x + self.ccm(self.norm2(x))


class SAFMN(PublishedNet):
    """SAFMN, 227,820 / 232,695 / 239,520 parameters at x2 / x3 / x4; loads its authors' weights.

    Args:
        scale (int): upscaling factor.
        dim (int): channels, a multiple of 4.
        n_blocks (int): number of feature mixing modules.
        ffn_scale (float): hidden width of the channel mixer over dim.

    Raises:
        ValueError: when ``dim`` is no multiple of 4.
    """

    published_names: ClassVar = {
        r'^to_feat\.': 'head.',
        r'^to_img\.0\.': 'tail.',
        r'^feats\.': 'blocks.',
        r'\.safm\.mfr\.': '.safm.levels.',
        r'\.safm\.aggr\.': '.safm.aggregate.',
        r'\.ccm\.ccm\.': '.ccm.',
    }

    def __init__(self, *, scale: int = 4, dim: int = 36, n_blocks: int = 8, ffn_scale: float = 2.0) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, dim, 3, padding=1)
        self.blocks = nn.Sequential(*(FMM(dim, ffn_scale) for _ in range(n_blocks)))
        self.tail = nn.Conv2d(dim, 3 * scale**2, 3, padding=1)
        self.upsample = nn.PixelShuffle(scale)

    def forward(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1."""
        x = self.head(lq)
        return self.upsample(self.tail(self.blocks(x) + x))
