"""RLFN: residual local feature network for efficient super-resolution (Kong et al., CVPR Workshops 2022)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.archs.published import PublishedNet

_SLOPE = 0.05  # of the leaky ReLU
_SMALLEST = 15  # side of the smallest map that the strided convolution and the pooling leave a pixel of


class ESA(nn.Module):
    """Enhanced spatial attention (Liu et al., RFANet, CVPR 2020): x * sigmoid(Conv1x1(far + near)).

    near is a 1x1 convolution to few channels; far sees a wide field of it through a strided convolution, max pooling
    and what is given as ``far``, and comes back to full size bilinearly. Maps of less than 15 pixels a side are
    continued by their border first.
    """

    def __init__(self, num_feat: int, squeezed: int, stride: nn.Module, far: nn.Module) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(num_feat, squeezed, 1)
        self.near = nn.Conv2d(squeezed, squeezed, 1)
        self.stride, self.far = stride, far
        self.expand = nn.Conv2d(squeezed, num_feat, 1)

    @classmethod
    def plain(cls, num_feat: int, squeezed: int) -> ESA:
        """With a single ordinary convolution on each way."""
        return cls(
            num_feat,
            squeezed,
            nn.Conv2d(squeezed, squeezed, 3, stride=2),
            nn.Conv2d(squeezed, squeezed, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        h, w = x.shape[-2:]
        squeezed = far = self.squeeze(x)
        if h < _SMALLEST or w < _SMALLEST:
            far = F.pad(far, (0, max(0, _SMALLEST - w), 0, max(0, _SMALLEST - h)), mode='replicate')
        far = self.far(F.max_pool2d(self.stride(far), 7, stride=3))
        far = F.interpolate(far, size=(h, w), mode='bilinear', align_corners=False)
        return x * torch.sigmoid(self.expand(far + self.near(squeezed)))


class RLFB(nn.Module):
    """Residual local feature block: three convolutions in a row, each with leaky ReLU; plus the input; Conv1x1, ESA."""

    def __init__(self, num_feat: int, num_squeezed: int) -> None:
        super().__init__()
        self.refine = nn.ModuleList(nn.Conv2d(num_feat, num_feat, 3, padding=1) for _ in range(3))
        self.fuse = nn.Conv2d(num_feat, num_feat, 1)
        self.esa = ESA.plain(num_feat, num_squeezed)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.refine:
            y = F.leaky_relu(conv(y), _SLOPE)
        return self.esa(self.fuse(x + y))


class RLFN(PublishedNet):
    """RLFN, 526,856 / 533,891 / 543,740 parameters at x2 / x3 / x4; loads weights under its authors' names.

    Args:
        scale (int): upscaling factor.
        num_feat (int): width; 48 in RLFN-S.
        num_block (int): number of blocks.
        num_squeezed (int): width of the attention.
    """

    published_names: ClassVar = {
        r'^conv_1\.': 'head.',
        r'^conv_2\.': 'smooth.',
        r'^upsampler\.0\.': 'tail.',
        **{rf'^block_{i}\.': f'blocks.{i - 1}.' for i in range(1, 7)},
        **{rf'\.c{i}_r\.': f'.refine.{i - 1}.' for i in (1, 2, 3)},
        r'\.c5\.': '.fuse.',
        r'\.esa\.conv1\.': '.esa.squeeze.',
        r'\.esa\.conv_f\.': '.esa.near.',
        r'\.esa\.conv2\.': '.esa.stride.',
        r'\.esa\.conv3\.': '.esa.far.',
        r'\.esa\.conv4\.': '.esa.expand.',
    }

    def __init__(self, *, scale: int = 4, num_feat: int = 52, num_block: int = 6, num_squeezed: int = 16) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, num_feat, 3, padding=1)
        self.blocks = nn.Sequential(*(RLFB(num_feat, num_squeezed) for _ in range(num_block)))
        self.smooth = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.tail = nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1)

    def forward(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1."""
        f0 = self.head(lq)
        return F.pixel_shuffle(self.tail(self.smooth(self.blocks(f0)) + f0), self.scale)
