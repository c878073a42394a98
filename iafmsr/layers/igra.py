"""Information-guided resource allocation."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.layers.guidance import Guidance
from iafmsr.ops.sites import ActiveSites
from iafmsr.ops.submanifold import SubmanifoldConv2d

_ATTENTIONS = ('figure', 'text', 'no_idm')
POOL_SIZE = 8  # side of the cells in which the attention is computed, in LR pixels


def down(x: Tensor) -> Tensor:
    """Max pooling over 8x8 cells on one grid from the top left corner: (B, C, H, W) -> (B, C, ceil(H/8), ceil(W/8)).

    Local, unlike the adaptive pooling of SAFMN: any size works, and a tile cut on the grid sees the same cells.
    """
    return F.max_pool2d(x, POOL_SIZE, stride=POOL_SIZE, ceil_mode=True)


def up(x: Tensor, size: Sequence[int]) -> Tensor:
    """Each value spread over its 8x8 cell, cropped to ``size`` (H, W)."""
    return F.interpolate(x, scale_factor=POOL_SIZE, mode='nearest')[..., : size[0], : size[1]]


class IGRA(nn.Module):
    """Hard branch of IFEM: sparse convolution at the active sites, then attention guided by the density.

    F_ssc = SSConv(F1, M);  A = Up(g(Down(F_ssc)) + Down(guide));  F_refined = A * F_ssc.  IAFMNet, figure 3 and
    section 3.2. With ``guidance: neutral``, the default of :class:`~iafmsr.archs.iafmnet_arch.IAFMNet`, the summand is
    1 + a (Down(guide) - 1) with learned a (docs/method.md).

    Args:
        num_feat (int): channels C.
        attention (str): ``figure``: g is a depthwise 3x3 convolution of Down(F_ssc); ``text``: A = Up(Conv1x1(
            Down(F_ssc) + Down(guide))), as the paper's text writes it; ``no_idm``: the figure's without the guide,
            A = Up(g(Down(F_ssc)) + 1), which is ``neutral`` with a = 0.
        guidance (str): how the guide is added, see :class:`~iafmsr.layers.guidance.Guidance`.
        num_guide (int): channels of the guide, C or 1.

    Raises:
        ValueError: when a keyword is unknown.

    Examples:
        >>> sites = ActiveSites(torch.rand(1, 1, 9, 12) > 0.5)
        >>> igra, ssconv = IGRA(8), SubmanifoldConv2d(8, 3)
        >>> igra(torch.rand(1, 8, 9, 12), torch.rand(1, 1, 2, 2), sites, ssconv).shape
        torch.Size([1, 8, 9, 12])
    """

    def __init__(self, num_feat: int, attention: str = 'figure', guidance: str = 'product', num_guide: int = 1) -> None:
        super().__init__()
        if attention not in _ATTENTIONS:
            raise ValueError(f'attention must be one of {", ".join(_ATTENTIONS)}, got {attention!r}')
        self.form = attention
        self.guidance = Guidance(num_feat, guidance, num_guide) if attention != 'no_idm' else None
        if attention == 'text':
            self.attention = nn.Conv2d(num_feat, num_feat, 1)
        else:
            self.attention = nn.Conv2d(num_feat, num_feat, 3, padding=1, groups=num_feat)

    def forward(self, f1: Tensor, guide_down: Tensor, sites: ActiveSites, ssconv: SubmanifoldConv2d | None) -> Tensor:
        """F1 (B, C, H, W), Down(guide) (B, C or 1, ceil(H/8), ceil(W/8)) -> F_refined (B, C, H, W).

        ``ssconv`` is the sparse convolution, this block's own or one that the blocks share; None leaves it out.
        """
        f_ssc = f1 if ssconv is None else ssconv(f1, sites)
        return up(self._attention(down(f_ssc), guide_down), f_ssc.shape[-2:]) * f_ssc

    def _attention(self, pooled: Tensor, guide_down: Tensor) -> Tensor:
        if self.guidance is None:
            return self.attention(pooled) + 1
        if self.form == 'text':
            return self.attention(self.guidance.add(pooled, guide_down))
        return self.guidance.add(self.attention(pooled), guide_down)
