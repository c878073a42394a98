"""ETDS: equivalent transformation and dual stream network for mobile super-resolution (Chao et al., CVPR 2023)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ETDS(nn.Module):
    """Two streams of 3x3 convolutions and ReLU: the features x, and few channels r that begin as the picture.

    ::

        x = ReLU(Conv(x) + Conv(r)); r = ReLU(Conv(r)), N times; PixelShuffle(Conv(x) + Conv(r))

    r begins as a copy of the picture and adds nothing to x, so that an untrained net adds to the nearest-neighbour
    enlargement. :meth:`plain` makes a single stream of both, which computes the same.

    Args:
        scale (int): upscaling factor.
        num_feat (int): channels of both streams together.
        num_copy (int): channels of r, from 3 to less than ``num_feat``.
        num_block (int): number N; the authors have 5 of 16 channels, 4 of 32, 6 of 32 and 7 of 48.

    Raises:
        ValueError: when ``num_copy`` is out of its range.
    """

    def __init__(self, *, scale: int = 4, num_feat: int = 32, num_copy: int = 3, num_block: int = 6) -> None:
        super().__init__()
        if not 3 <= num_copy < num_feat:
            raise ValueError(f'num_copy must be from 3 to {num_feat - 1}, got {num_copy}')
        self.scale = scale
        width, out_ch = num_feat - num_copy, 3 * scale**2
        self.head, self.head_r = _conv(3, width), _conv(3, num_copy)
        self.blocks = nn.ModuleList(_conv(width, width) for _ in range(num_block))
        self.blocks_r = nn.ModuleList(_conv(num_copy, num_copy) for _ in range(num_block))
        self.blocks_add = nn.ModuleList(_conv(num_copy, width) for _ in range(num_block))
        self.tail, self.tail_r = _conv(width, out_ch), _conv(num_copy, out_ch)
        for conv in (self.head_r, self.tail_r, *self.blocks_r, *self.blocks_add):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)
        for conv in (self.head_r, *self.blocks_r):
            nn.init.dirac_(conv.weight)
        for i in range(out_ch):
            self.tail_r.weight.data[i, i // scale**2, 1, 1] = 1

    def forward(self, lq: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), any H and W from 1."""
        x, r = F.relu(self.head(lq)), F.relu(self.head_r(lq))
        for conv, conv_r, add in zip(self.blocks, self.blocks_r, self.blocks_add, strict=True):
            x, r = F.relu(conv(x) + add(r)), F.relu(conv_r(r))
        return F.pixel_shuffle(self.tail(x) + self.tail_r(r), self.scale)

    @torch.no_grad()
    def plain(self) -> nn.Sequential:
        """A row of convolutions of [x; r] and ReLU that computes the same: the form for a device."""
        net: Any = self
        heads, tails = (net.head, net.head_r), (net.tail, net.tail_r)
        convs = [_conv_of(torch.cat([c.weight for c in heads]), torch.cat([c.bias for c in heads]))]
        for conv, conv_r, add in zip(net.blocks, net.blocks_r, net.blocks_add, strict=True):
            nothing = torch.zeros_like(add.weight).transpose(0, 1)  # x adds nothing to r
            rows = [torch.cat([conv.weight, add.weight], dim=1), torch.cat([nothing, conv_r.weight], dim=1)]
            convs.append(_conv_of(torch.cat(rows), torch.cat([conv.bias + add.bias, conv_r.bias])))
        last = _conv_of(torch.cat([c.weight for c in tails], dim=1), net.tail.bias + net.tail_r.bias)
        steps = [module for conv in convs for module in (conv, nn.ReLU())]
        return nn.Sequential(*steps, last, nn.PixelShuffle(self.scale))


def _conv_of(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    conv = _conv(weight.shape[1], weight.shape[0])
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return conv


def _conv(in_ch: int, out_ch: int) -> nn.Conv2d:
    return nn.Conv2d(in_ch, out_ch, 3, padding=1)
