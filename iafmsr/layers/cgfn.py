"""Channel-gated feed-forward network."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.layers.registry import Forms
from iafmsr.layers.routing import EVERYWHERE, Route

FFNS = Forms('ffn')  # each takes (num_feat, ffn_scale) and is called like CGFN


@FFNS.register('cgfn')
class CGFN(nn.Module):
    """Conv1x1(GELU(DWConv3x3(a)) * b) with a, b = split(Conv1x1(x)).

    The paper names the module but does not describe it; this is the gated form common in restoration networks.

    Args:
        num_feat (int): channels C.
        ffn_scale (float): the width of a and of b, divided by C.

    Examples:
        >>> CGFN(8, ffn_scale=3)(torch.rand(1, 8, 6, 6)).shape
        torch.Size([1, 8, 6, 6])
    """

    def __init__(self, num_feat: int, ffn_scale: float = 1.0) -> None:
        super().__init__()
        hidden = round(ffn_scale * num_feat)
        self.expand = nn.Conv2d(num_feat, 2 * hidden, 1)
        self.local = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.project = nn.Conv2d(hidden, num_feat, 1)

    def forward(self, x: Tensor, route: Route = EVERYWHERE) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), both in the layout of the route."""
        a, b = self.expand(x).chunk(2, dim=1)
        return self.project(F.gelu(route.spatial(self.local, a)) * b)
