"""Affine recalibration module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iafmsr.layers.routing import EVERYWHERE, Route

_MODES = ('full', 'no_idm', 'off')


class ARM(nn.Module):
    """Soft branch of IFEM: F_ARM = DWConv3x3(b) * s with s = Conv1x1([a, guide]) and a, b = split(Conv1x1(F2)).

    IAFMNet, figure 3 and section 3.3.

    Args:
        num_feat (int): channels C.
        mode (str): ``full``; ``no_idm`` leaves the guide out of s; ``off`` leaves s out: F_ARM = DWConv3x3(F2). The
            latter two are the paper's ablations.
        num_guide (int): channels of the guide, C or 1.

    Raises:
        ValueError: when the mode is unknown.

    Examples:
        >>> ARM(8)(torch.rand(1, 8, 6, 6), torch.rand(1, 1, 6, 6)).shape
        torch.Size([1, 8, 6, 6])
    """

    def __init__(self, num_feat: int, mode: str = 'full', num_guide: int = 1) -> None:
        super().__init__()
        if mode not in _MODES:
            raise ValueError(f'arm must be one of {", ".join(_MODES)}, got {mode!r}')
        self.mode = mode
        self.local = nn.Conv2d(num_feat, num_feat, 3, padding=1, groups=num_feat)
        if mode != 'off':
            self.expand = nn.Conv2d(num_feat, 2 * num_feat, 1)
            self.scale = nn.Conv2d(num_feat + (num_guide if mode == 'full' else 0), num_feat, 1)

    def forward(self, x: Tensor, guide: Tensor, route: Route = EVERYWHERE) -> Tensor:
        """(B, C, H, W), guide (B, C or 1, H, W) -> (B, C, H, W), all in the layout of the route."""
        if self.mode == 'off':
            return route.spatial(self.local, x)
        a, b = self.expand(x).chunk(2, dim=1)
        s = self.scale(torch.cat([a, guide.to(a.dtype)], dim=1) if self.mode == 'full' else a)
        return route.spatial(self.local, b) * s
