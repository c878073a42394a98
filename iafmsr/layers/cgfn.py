"""Channel-gated feed-forward network."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


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
        self.expand = nn.Conv2d(num_feat, 2 * hidden, 1)
        self.local = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.project = nn.Conv2d(hidden, num_feat, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        gate, value = self.expand(x).chunk(2, dim=1)
        return self.project(F.gelu(self.local(gate)) * value)
