"""Channel-gated feed-forward network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.layers.pointwise import PointwiseConv2d
from iafmsr.ops.strips import spent


class CGFN(nn.Module):
    """Conv1x1 (C -> 2hC), split in two, GELU(DWConv3x3(first)) * second, Conv1x1 (hC -> C).

    The paper names the module without publishing its inside; this is the gated form common in restoration networks.

    Args:
        num_feat (int): channels C.
        ffn_scale (float): h, the hidden width over C.
    """

    def __init__(self, num_feat: int, ffn_scale: float = 1.0) -> None:
        super().__init__()
        hidden = round(ffn_scale * num_feat)
        self.expand = PointwiseConv2d(num_feat, 2 * hidden)
        self.local = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.project = PointwiseConv2d(hidden, num_feat)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        first, second = self.expand.of(x).halves()
        gate = F.gelu(self.local(first.tensor()))
        return self.project(torch.mul(gate, second.tensor(), out=spent(gate)))
