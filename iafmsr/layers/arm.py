"""Affine recalibration module."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ARM(nn.Module):
    """Soft branch of IFEM: F_ARM = DWConv3x3(b) * s with s = Conv1x1([a, idm]) and a, b = split(Conv1x1(F2)).

    IAFMNet, figure 3 and section 3.3.

    Args:
        num_feat (int): channels C.
        use_idm (bool): False leaves the map out of s (the paper's ablation "ARM without IDM").
    """

    def __init__(self, num_feat: int, use_idm: bool = True) -> None:
        super().__init__()
        self.use_idm = use_idm
        self.expand = nn.Conv2d(num_feat, 2 * num_feat, 1)
        self.scale = nn.Conv2d(num_feat + use_idm, num_feat, 1)
        self.local = nn.Conv2d(num_feat, num_feat, 3, padding=1, groups=num_feat)

    def forward(self, x: Tensor, idm: Tensor) -> Tensor:
        """(B, C, H, W), map (B, 1, H, W) -> (B, C, H, W)."""
        a, b = self.expand(x).chunk(2, dim=1)
        s = self.scale(torch.cat([a, idm.to(a.dtype)], dim=1) if self.use_idm else a)
        return self.local(b) * s
