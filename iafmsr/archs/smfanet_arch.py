"""SMFANet: a lightweight self-modulation feature aggregation network (Zheng et al., ECCV 2024)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.archs.published import PublishedNet
from iafmsr.layers.norm import ChannelL2Norm


class SMFA(nn.Module):
    """Self-modulation: y, x = split(Conv1x1(f)); out = Conv1x1(x * g(x) + D(y)).

    g, non-local: GELU(Conv1x1(alpha * DWConv3x3(max pool of x to 1/8) + beta * variance of x over space)), enlarged.
    D, local: DWConv3x3 C->2C, Conv1x1, GELU, Conv1x1 2C->C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(dim, 2 * dim, 1)
        self.alpha = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.pooled = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.gate = nn.Conv2d(dim, dim, 1)
        self.detail = nn.Sequential(
            nn.Conv2d(dim, 2 * dim, 3, padding=1, groups=dim),
            nn.Conv2d(2 * dim, 2 * dim, 1),
            nn.GELU(),
            nn.Conv2d(2 * dim, dim, 1),
        )
        self.project = nn.Conv2d(dim, dim, 1)

    def forward(self, f: Tensor) -> Tensor:
        y, x = self.expand(f).chunk(2, dim=1)
        h, w = x.shape[-2:]
        pooled = self.pooled(F.adaptive_max_pool2d(x, (max(1, h // 8), max(1, w // 8))))
        # a single pixel varies by nothing; the unbiased estimate would be 0/0
        variance = torch.var(x, dim=(-2, -1), keepdim=True, correction=min(1, h * w - 1))
        gate = F.gelu(self.gate(self.alpha * pooled + self.beta * variance))
        return self.project(x * F.interpolate(gate, size=(h, w), mode='nearest') + self.detail(y))


class PCFN(nn.Module):
    """Partial-convolution feed-forward: Conv1x1 C->hC, GELU; conv3x3 + GELU on a quarter of it; Conv1x1 hC->C."""

    def __init__(self, dim: int, ffn_scale: float) -> None:
        super().__init__()
        hidden = int(dim * ffn_scale)
        self.split = [hidden // 4, hidden - hidden // 4]
        self.expand = nn.Conv2d(dim, hidden, 1)
        self.mix = nn.Conv2d(hidden // 4, hidden // 4, 3, padding=1)
        self.project = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        mixed, passed = F.gelu(self.expand(x)).split(self.split, dim=1)
        return self.project(torch.cat([F.gelu(self.mix(mixed)), passed], dim=1))


class FMB(nn.Module):
    """Feature modulation block: x = x + SMFA(n(x)); x = x + PCFN(n(x)), n the L2 norm over channels."""

    def __init__(self, dim: int, ffn_scale: float) -> None:
        super().__init__()
        self.norm, self.smfa, self.pcfn = ChannelL2Norm(), SMFA(dim), PCFN(dim, ffn_scale)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.smfa(self.norm(x))
        return x + self.pcfn(self.norm(x))


class SMFANet(PublishedNet):
    """SMFANet, 185,628 / 190,503 / 197,328 parameters at x2 / x3 / x4; loads its authors' weights.

    Args:
        scale (int): upscaling factor.
        dim (int): channels; 48 in SMFANet+.
        n_blocks (int): number of blocks; 12 in SMFANet+.
        ffn_scale (float): hidden width of the feed-forward over dim.
    """

    published_names: ClassVar = {
        r'^to_feat\.': 'head.',
        r'^to_img\.0\.': 'tail.',
        r'^feats\.': 'blocks.',
        r'\.belt$': '.beta',
        r'\.linear_0\.': '.expand.',
        r'\.linear_1\.': '.gate.',
        r'\.linear_2\.': '.project.',
        r'\.dw_conv\.': '.pooled.',
        r'\.lde\.conv_0\.': '.detail.',
        r'\.lde\.conv_1\.': '.detail.3.',
        r'\.pcfn\.conv_0\.': '.pcfn.expand.',
        r'\.pcfn\.conv_1\.': '.pcfn.mix.',
        r'\.pcfn\.conv_2\.': '.pcfn.project.',
    }

    def __init__(self, *, scale: int = 4, dim: int = 36, n_blocks: int = 8, ffn_scale: float = 2.0) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, dim, 3, padding=1)
        self.blocks = nn.Sequential(*(FMB(dim, ffn_scale) for _ in range(n_blocks)))
        self.tail = nn.Conv2d(dim, 3 * scale**2, 3, padding=1)
        self.upsample = nn.PixelShuffle(scale)

    def forward(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1."""
        x = self.head(lq)
        return self.upsample(self.tail(self.blocks(x) + x))
