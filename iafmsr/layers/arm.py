"""Affine recalibration module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MODES = ('full', 'no_idm', 'off')


class ARM(nn.Module):
    """Soft branch of IFEM: F_ARM = DWConv3x3(b) * s with s = Conv1x1([a, idm]) and a, b = split(Conv1x1(F2)).

    IAFMNet, figure 3 and section 3.3.

    Args:
        num_feat (int): channels C.
        mode (str): ``full``; ``no_idm`` leaves the map out of s; ``off`` leaves s out: F_ARM = DWConv3x3(F2). The
            latter two are the paper's ablations.

    Raises:
        ValueError: when the mode is unknown.
    """

    def __init__(self, num_feat: int, mode: str = 'full') -> None:
        super().__init__()
        if mode not in _MODES:
            raise ValueError(f'arm must be one of {", ".join(_MODES)}, got {mode!r}')
        self.mode = mode
        self.local = nn.Conv2d(num_feat, num_feat, 3, padding=1, groups=num_feat)
        if mode != 'off':
            self.expand = nn.Conv2d(num_feat, 2 * num_feat, 1)
            self.scale = nn.Conv2d(num_feat + (mode == 'full'), num_feat, 1)

    def forward(self, x: Tensor, idm: Tensor) -> Tensor:
        """(B, C, H, W), map (B, 1, H, W) -> (B, C, H, W)."""
        if self.mode == 'off':
            return self.local(x)
        a, b = self.expand(x).chunk(2, dim=1)
        s = self.scale(torch.cat([a, idm.to(a.dtype)], dim=1) if self.mode == 'full' else a)
        return self.local(b) * s
