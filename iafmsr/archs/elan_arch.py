"""ELAN: efficient long-range attention network for image super-resolution (Zhang et al., ECCV 2022)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.archs.published import PublishedNet

_RANGE = 255  # of the pixels that the authors' weights know
_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K


class ShiftConv(nn.Module):
    """A fifth of the channels each moves by a pixel to the left, right, up and down, the rest stays; Conv1x1."""

    weight: Tensor

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        weight, group = torch.zeros(in_ch, 1, 3, 3), in_ch // 5
        for i, (y, x) in enumerate([(1, 2), (1, 0), (2, 1), (0, 1)]):
            weight[i * group : (i + 1) * group, 0, y, x] = 1
        weight[4 * group :, 0, 1, 1] = 1
        self.register_buffer('weight', weight)
        self.conv1x1 = nn.Conv2d(in_ch, out_ch, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1x1(F.conv2d(x, self.weight, padding=1, groups=len(self.weight)))


class GMSA(nn.Module):
    """Group-wise multi-scale self-attention: a third of the channels in windows of each size.

    q and v are halves of Conv1x1 and batch norm of x; softmax(q q^T) v. Where the attention of an earlier layer is
    given, it is used again and there is no q.
    """

    def __init__(self, num_feat: int, windows: tuple[int, ...], shifted: bool, shared: bool) -> None:
        super().__init__()
        self.windows, self.shifted, self.shared = windows, shifted, shared
        width = num_feat if shared else 2 * num_feat
        self.project_inp = nn.Sequential(nn.Conv2d(num_feat, width, 1), nn.BatchNorm2d(width))
        self.project_out = nn.Conv2d(num_feat, num_feat, 1)

    def forward(self, x: Tensor, attention: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """(B, C, H, W), H and W multiples of the windows -> (B, C, H, W), and the attention of each group."""
        results, used = [], []
        for i, (group, size) in enumerate(
            zip(self.project_inp(x).chunk(len(self.windows), dim=1), self.windows, strict=True)
        ):
            shift = size // 2 if self.shifted else 0
            tokens = self._split(group.roll((-shift, -shift), (2, 3)), size)
            if self.shared:
                weights, v = attention[i], tokens
            else:
                q, v = tokens.chunk(2, dim=-1)
                weights = (q @ q.transpose(-2, -1)).softmax(dim=-1)
            used.append(weights)
            results.append(self._join(weights @ v, size, x.shape).roll((shift, shift), (2, 3)))
        return self.project_out(torch.cat(results, dim=1)), used

    @staticmethod
    def _split(x: Tensor, size: int) -> Tensor:
        """(B, C, H, W) -> (B, H/size, W/size, size^2, C)."""
        x = x.unflatten(3, (-1, size)).unflatten(2, (-1, size))
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)

    @staticmethod
    def _join(tokens: Tensor, size: int, shape: torch.Size) -> Tensor:
        """The way back."""
        x = tokens.unflatten(3, (size, size)).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(shape[0], -1, *shape[2:])


class ELAB(nn.Module):
    """Efficient long-range attention block, twice: x = x + ShiftConv(ReLU(ShiftConv(x))); x = x + GMSA(x).

    The second GMSA uses the attention of the first.
    """

    def __init__(self, num_feat: int, windows: tuple[int, ...], shifted: bool, ratio: int) -> None:
        super().__init__()
        self.local = nn.ModuleList(
            nn.Sequential(ShiftConv(num_feat, ratio * num_feat), nn.ReLU(), ShiftConv(ratio * num_feat, num_feat))
            for _ in range(2)
        )
        self.gmsa = nn.ModuleList(GMSA(num_feat, windows, shifted, shared) for shared in (False, True))

    def forward(self, x: Tensor) -> Tensor:
        attention: list[Tensor] = []
        for local, gmsa in zip(self.local, self.gmsa, strict=True):
            x = x + local(x)
            y, attention = gmsa(x, attention)
            x = x + y
        return x


class ELAN(PublishedNet):
    """ELAN-light, 582,012 / 590,127 / 601,488 parameters at x2 / x3 / x4; loads its authors' weights.

    Args:
        scale (int): upscaling factor.
        num_feat (int): width, a multiple of 6; 180 in ELAN.
        num_block (int): number of blocks, of two attentions each; 18 in ELAN.
        windows (list[int]): window sizes of the three groups of channels.
        ratio (int): hidden width of the shift convolutions over their input.

    Raises:
        ValueError: when ``num_feat`` is no multiple of 6.
    """

    mean: Tensor
    published_names: ClassVar = {
        r'^(sub|add)_mean\..*': '',
        r'^head\.0\.': 'head.',
        r'^tail\.0\.': 'tail.',
        r'^body\.': 'blocks.',
        r'\.modules_gmsa\.gmsa_': '.gmsa.',
        r'\.modules_lfe\.lfe_(\d)\.conv0\.': r'.local.\1.0.',
        r'\.modules_lfe\.lfe_(\d)\.conv1\.': r'.local.\1.2.',
        r'\.shift_conv\.': '.',
    }

    def __init__(
        self,
        *,
        scale: int = 4,
        num_feat: int = 60,
        num_block: int = 12,
        windows: tuple[int, ...] = (4, 8, 16),
        ratio: int = 2,
    ) -> None:
        super().__init__()
        if num_feat % 6:
            raise ValueError(f'num_feat must be a multiple of 6, got {num_feat}')
        self.scale, self.multiple = scale, math.lcm(*windows)
        self.register_buffer('mean', torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.head = nn.Conv2d(3, num_feat, 3, padding=1)
        self.blocks = nn.Sequential(*(ELAB(num_feat, tuple(windows), bool(i % 2), ratio) for i in range(num_block)))
        self.tail = nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1)

    def forward(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1, continued to multiples of the windows."""
        h, w = lq.shape[-2:]
        down, right = -h % self.multiple, -w % self.multiple
        mode = 'reflect' if down < h and right < w else 'replicate'
        f0 = self.head(_RANGE * (F.pad(lq, (0, right, 0, down), mode=mode) - self.mean))
        sr = F.pixel_shuffle(self.tail(self.blocks(f0) + f0), self.scale) / _RANGE + self.mean
        return sr[..., : h * self.scale, : w * self.scale]
