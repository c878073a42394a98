"""PAN: efficient super-resolution using pixel attention (Zhao et al., ECCV Workshops 2020)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.archs.published import PublishedNet

_SLOPE = 0.2  # of the leaky ReLU


class SCPA(nn.Module):
    """Self-calibrated block with pixel attention: x + Conv1x1([Conv(a), Conv(Conv(b) * sigmoid(Conv1x1(b)))]).

    a and b are 1x1 convolutions of x to half of the channels; every branch goes through leaky ReLU.
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        half = num_feat // 2
        self.split_a, self.split_b = (nn.Conv2d(num_feat, half, 1, bias=False) for _ in range(2))
        self.conv_a, self.conv_b, self.conv_gated = (nn.Conv2d(half, half, 3, padding=1, bias=False) for _ in range(3))
        self.gate = nn.Conv2d(half, half, 1)
        self.join = nn.Conv2d(2 * half, num_feat, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.leaky_relu(self.split_a(x), _SLOPE), F.leaky_relu(self.split_b(x), _SLOPE)
        a = self.conv_a(a)
        b = self.conv_gated(self.conv_b(b) * torch.sigmoid(self.gate(b)))
        return x + self.join(F.leaky_relu(torch.cat([a, b], dim=1), _SLOPE))


class UPA(nn.Module):
    """Upsampling with pixel attention: nearest neighbours, Conv, the attention x * sigmoid(Conv1x1(x)), Conv."""

    def __init__(self, factor: int, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(in_ch, out_ch, 3, padding=1)
        self.gate = nn.Conv2d(out_ch, out_ch, 1)
        self.smooth = nn.Conv2d(out_ch, out_ch, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.interpolate(x, scale_factor=self.factor, mode='nearest'))
        return F.leaky_relu(self.smooth(F.leaky_relu(x * torch.sigmoid(self.gate(x)), _SLOPE)), _SLOPE)


class PAN(PublishedNet):
    """PAN, 261,403 / 261,403 / 272,419 parameters at x2 / x3 / x4; loads its authors' weights.

    Args:
        scale (int): 2, 3 or 4; 4 is twice 2.
        num_feat (int): width.
        num_up_feat (int): width after the upsampling.
        num_block (int): number of blocks.
    """

    published_names: ClassVar = {
        r'^conv_first\.': 'head.',
        r'^conv_last\.': 'tail.',
        r'^trunk_conv\.': 'smooth.',
        r'^SCPA_trunk\.': 'blocks.',
        r'\.conv1_a\.': '.split_a.',
        r'\.conv1_b\.': '.split_b.',
        r'\.k1\.0\.': '.conv_a.',
        r'\.PAConv\.k2\.': '.gate.',
        r'\.PAConv\.k3\.': '.conv_b.',
        r'\.PAConv\.k4\.': '.conv_gated.',
        r'\.conv3\.': '.join.',
        **{rf'^upconv{i}\.': f'up.{i - 1}.conv.' for i in (1, 2)},
        **{rf'^att{i}\.conv\.': f'up.{i - 1}.gate.' for i in (1, 2)},
        **{rf'^HRconv{i}\.': f'up.{i - 1}.smooth.' for i in (1, 2)},
    }

    def __init__(self, *, scale: int = 4, num_feat: int = 40, num_up_feat: int = 24, num_block: int = 16) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, num_feat, 3, padding=1)
        self.blocks = nn.Sequential(*(SCPA(num_feat) for _ in range(num_block)))
        self.smooth = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        factors = (2, 2) if scale == 4 else (scale,)
        self.up = nn.Sequential(
            *(UPA(factor, num_up_feat if i else num_feat, num_up_feat) for i, factor in enumerate(factors))
        )
        self.tail = nn.Conv2d(num_up_feat, 3, 3, padding=1)

    def forward(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1."""
        f0 = self.head(lq)
        sr = self.tail(self.up(f0 + self.smooth(self.blocks(f0))))
        return sr + F.interpolate(lq, scale_factor=self.scale, mode='bilinear', align_corners=False)
