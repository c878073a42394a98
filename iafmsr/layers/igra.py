"""Information-guided resource allocation."""

from __future__ import annotations

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


def up(x: Tensor, size: tuple[int, int], first_row: int = 0) -> Tensor:
    """Each value spread over its 8x8 cell, cropped to ``size`` (H, W) from ``first_row`` on."""
    height, skipped = size[0], first_row // POOL_SIZE
    # rounded up without a negative number: ONNX divides towards zero
    x, start = x[:, :, skipped:(first_row + height + POOL_SIZE - 1) // POOL_SIZE], first_row - skipped * POOL_SIZE
    return F.interpolate(x, scale_factor=POOL_SIZE, mode='nearest')[..., start:start + height, :size[1]]


class IGRA(nn.Module):
    """Hard branch of IFEM: submanifold sparse convolution at the active sites, then attention guided by the density.

    F_ssc = SSC(F1, M);  A = Up(g(Down(F_ssc)) + Down(guide));  F_refined = A * F_ssc.  IAFMNet, figure 3 and
    section 3.2.

    Args:
        num_feat (int): channels C.
        attention (str): ``figure``: g is a depthwise 3x3 convolution of Down(F_ssc); ``text``: A = Up(Conv1x1(
            Down(F_ssc) + Down(guide))), as the paper's text writes it; ``no_idm``: the figure's without the guide.
        ssconv (bool): False leaves the sparse convolution out (the paper's ablation "no SSConv").
        guidance (str): how the guide is added, see :class:`~iafmsr.layers.guidance.Guidance`.
        num_guide (int): channels of the guide, C or 1.
        sparse_backend (str): see :func:`iafmsr.ops.submanifold.submanifold_conv2d`.

    Raises:
        ValueError: when a keyword is unknown.
    """

    def __init__(self, num_feat: int, attention: str = 'figure', ssconv: bool = True, guidance: str = 'product',
                 num_guide: int = 1, sparse_backend: str = 'auto') -> None:
        super().__init__()
        if attention not in _ATTENTIONS:
            raise ValueError(f'attention must be one of {", ".join(_ATTENTIONS)}, got {attention!r}')
        self.form = attention
        self.ssconv = SubmanifoldConv2d(num_feat, 3, sparse_backend) if ssconv else None
        self.guidance = Guidance(num_feat, guidance, num_guide) if attention != 'no_idm' else None
        if attention == 'text':
            self.attention = nn.Conv2d(num_feat, num_feat, 1)
        else:
            self.attention = nn.Conv2d(num_feat, num_feat, 3, padding=1, groups=num_feat)

    def forward(self, x: Tensor, sites: ActiveSites, guide_down: Tensor) -> Tensor:
        """(B, C, H, W), sites of the mask, Down(guide) (B, C or 1, ceil(H/8), ceil(W/8)) -> (B, C, H, W)."""
        f_ssc, attention = self.factors(x, sites, guide_down)
        return up(attention, x.shape[-2:]) * f_ssc

    def factors(self, x: Tensor, sites: ActiveSites, guide_down: Tensor, overwrite: bool = False
                ) -> tuple[Tensor, Tensor]:
        """F_ssc (B, C, H, W), and the attention before Up, (B, C, ceil(H/8), ceil(W/8)).

        Arguments as of forward; ``overwrite`` allows F_ssc to take the place of x, where no gradient is wanted.
        """
        f_ssc = x if self.ssconv is None else self.ssconv(x, sites, overwrite)
        pooled = down(f_ssc)
        if self.form == 'text':
            a = self.attention(self.guidance.add(pooled, guide_down))
        elif self.form == 'figure':
            a = self.guidance.add(self.attention(pooled), guide_down)
        else:
            a = 1 + self.attention(pooled)
        return f_ssc, a
