"""BSRN: blueprint separable residual network for efficient super-resolution (Li et al., CVPR Workshops 2022)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.archs.imdn_arch import ContrastAttention
from iafmsr.archs.published import PublishedNet
from iafmsr.archs.rlfn_arch import ESA


class BSConv(nn.Sequential):
    """Blueprint separable convolution: a 1x1 convolution over the channels, then a 3x3 convolution of each channel."""

    def __init__(self, in_ch: int, out_ch: int, stride: int = 1, padding: int = 1) -> None:
        super().__init__()
        self.pw = nn.Conv2d(in_ch, out_ch, 1, bias=False)
        self.dw = nn.Conv2d(out_ch, out_ch, 3, stride, padding, groups=out_ch)


class ESDB(nn.Module):
    """Efficient separable distillation block: before each of three residual convolutions half the channels are
    distilled by a 1x1 convolution; a fourth convolution makes the last half; Conv1x1, ESA and contrast attention join
    them; plus the input."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        half, squeezed = num_feat // 2, num_feat // 4
        self.distil = nn.ModuleList(nn.Conv2d(num_feat, half, 1) for _ in range(3))
        self.refine = nn.ModuleList(BSConv(num_feat, num_feat) for _ in range(3))
        self.last = BSConv(num_feat, half)
        self.fuse = nn.Conv2d(4 * half, num_feat, 1)
        steps = [BSConv(squeezed, squeezed), nn.GELU(), BSConv(squeezed, squeezed), nn.GELU()]
        far = nn.Sequential(*steps, BSConv(squeezed, squeezed))
        self.esa = ESA(num_feat, squeezed, BSConv(squeezed, squeezed, stride=2, padding=0), far)
        self.attention = ContrastAttention(num_feat)

    def forward(self, x: Tensor) -> Tensor:
        kept, y = [], x
        for distil, refine in zip(self.distil, self.refine, strict=True):
            kept.append(F.gelu(distil(y)))
            y = F.gelu(refine(y) + y)
        kept.append(F.gelu(self.last(y)))
        return x + self.attention(self.esa(self.fuse(torch.cat(kept, dim=1))))


class BSRN(PublishedNet):
    """BSRN, 331,628 / 340,283 / 352,400 parameters at x2 / x3 / x4; loads its authors' weights.

    Args:
        scale (int): upscaling factor.
        num_feat (int): width, at least 16.
        num_block (int): number of blocks.

    Raises:
        ValueError: when ``num_feat`` is below 16.
    """

    published_names: ClassVar = {
        r'^fea_conv\.': 'head.',
        r'^upsampler\.upsampleOneStep\.0\.': 'tail.',
        r'^c1\.': 'fuse.',
        r'^c2\.': 'smooth.',
        **{rf'^B{i}\.': f'blocks.{i - 1}.' for i in range(1, 9)},
        **{rf'\.c{i}_d\.': f'.distil.{i - 1}.' for i in (1, 2, 3)},
        **{rf'\.c{i}_r\.': f'.refine.{i - 1}.' for i in (1, 2, 3)},
        r'\.c4\.': '.last.',
        r'\.c5\.': '.fuse.',
        r'\.esa\.conv1\.': '.esa.squeeze.',
        r'\.esa\.conv_f\.': '.esa.near.',
        r'\.esa\.conv2\.': '.esa.stride.',
        r'\.esa\.conv_max\.': '.esa.far.0.',
        r'\.esa\.conv3\.': '.esa.far.2.',
        r'\.esa\.conv3_\.': '.esa.far.4.',
        r'\.esa\.conv4\.': '.esa.expand.',
        r'\.cca\.conv_du\.': '.attention.gate.',
    }

    def __init__(self, *, scale: int = 4, num_feat: int = 64, num_block: int = 8) -> None:
        super().__init__()
        if num_feat < 16:
            raise ValueError(f'num_feat must be at least 16, got {num_feat}')
        self.scale = scale
        self.head = BSConv(4 * 3, num_feat)
        self.blocks = nn.ModuleList(ESDB(num_feat) for _ in range(num_block))
        self.fuse = nn.Conv2d(num_block * num_feat, num_feat, 1)
        self.smooth = BSConv(num_feat, num_feat)
        self.tail = nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1)

    def forward(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1."""
        f0 = x = self.head(torch.cat([lq] * 4, dim=1))
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        fused = F.gelu(self.fuse(torch.cat(outputs, dim=1)))
        return F.pixel_shuffle(self.tail(self.smooth(fused) + f0), self.scale)
