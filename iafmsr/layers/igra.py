"""Information-guided resource allocation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.layers.guidance import Guidance
from iafmsr.layers.registry import Forms
from iafmsr.ops.sites import ActiveSites
from iafmsr.ops.submanifold import SubmanifoldConv2d
from iafmsr.ops.torch_names import is_exporting

ATTENTIONS = Forms('attention')
POOL_SIZE = 8  # side of the cells in which the attention is computed, in LR pixels


def down(x: Tensor) -> Tensor:
    """Max pooling over 8x8 cells on one grid from the top left corner: (B, C, H, W) -> (B, C, ceil(H/8), ceil(W/8)).

    Local, unlike the adaptive pooling of SAFMN: any size works, and a tile cut on the grid sees the same cells.
    """
    if not is_exporting():
        return F.max_pool2d(x, POOL_SIZE, stride=POOL_SIZE, ceil_mode=True)
    # ceil_mode would put conditions on the sizes; padding with -inf changes no maximum
    rest = POOL_SIZE - 1
    return F.max_pool2d(F.pad(x, (0, rest, 0, rest), value=float('-inf')), POOL_SIZE)


def up(x: Tensor, size: Sequence[int]) -> Tensor:
    """Each value spread over its 8x8 cell, cropped to ``size`` (H, W)."""
    if not is_exporting():
        return F.interpolate(x, scale_factor=POOL_SIZE, mode='nearest')[..., : size[0], : size[1]]
    rows, cols = (torch.arange(side, device=x.device) // POOL_SIZE for side in size)
    return x.index_select(2, rows).index_select(3, cols)


@ATTENTIONS.register('figure')
class FigureAttention(nn.Conv2d):
    """g(x) (+) guide with a depthwise 3x3 convolution g, as in figure 3.

    The constructor of a form of attention takes num_feat. If ``guided`` is False, its guidance is None.
    """

    guided = True

    def __init__(self, num_feat: int) -> None:
        super().__init__(num_feat, num_feat, 3, padding=1, groups=num_feat)

    def forward(self, x: Tensor, guide: Tensor, guidance: Guidance | None) -> Tensor:  # type: ignore[override]
        """Down(F_ssc) (B, C, h, w) and Down(guide) (B, C or 1, h, w) -> (B, C, h, w)."""
        g = super().forward(x)
        return g + 1 if guidance is None else guidance.add(g, guide)


@ATTENTIONS.register('no_idm')
class UnguidedAttention(FigureAttention):
    """g(x) + 1."""

    guided = False


@ATTENTIONS.register('text')
class TextAttention(nn.Conv2d):
    """Conv1x1(x (+) guide), as the paper's text writes it."""

    guided = True

    def __init__(self, num_feat: int) -> None:
        super().__init__(num_feat, num_feat, 1)

    def forward(self, x: Tensor, guide: Tensor, guidance: Guidance) -> Tensor:  # type: ignore[override]
        """Shapes as in :meth:`FigureAttention.forward`."""
        return super().forward(guidance.add(x, guide))


class IGRA(nn.Module):
    """Hard branch of IFEM: sparse convolution at the active sites, then attention guided by the density.

    F_ssc = SSConv(F1, M);  A = Up(g(Down(F_ssc)) + Down(guide));  F_refined = A * F_ssc.  IAFMNet, figure 3 and
    section 3.2. With ``guidance: neutral``, the default of :class:`~iafmsr.archs.iafmnet_arch.IAFMNet`, the summand is
    1 + a (Down(guide) - 1) with learned a (docs/method.md).

    Args:
        num_feat (int): channels C.
        attention (str): a form of ``ATTENTIONS``. ``figure``: g is a depthwise 3x3 convolution of Down(F_ssc);
            ``text``: A = Up(Conv1x1(Down(F_ssc) + Down(guide))), as the paper's text writes it; ``no_idm``: as
            ``figure`` without the guide, A = Up(g(Down(F_ssc)) + 1), which is ``neutral`` with a = 0.
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
        form = ATTENTIONS.find(attention)
        self.guidance = Guidance(num_feat, guidance, num_guide) if form.guided else None
        self.attention = form(num_feat)

    def forward(self, f1: Tensor, guide_down: Tensor, sites: ActiveSites, ssconv: SubmanifoldConv2d | None) -> Tensor:
        """F1 (B, C, H, W), Down(guide) (B, C or 1, ceil(H/8), ceil(W/8)) -> F_refined (B, C, H, W).

        ``ssconv`` is the sparse convolution, this block's own or one that the blocks share; None leaves it out.
        """
        f_ssc = f1 if ssconv is None else ssconv(f1, sites)
        attention = self.attention(down(f_ssc), guide_down, self.guidance)
        return up(attention, f_ssc.shape[-2:]) * f_ssc
