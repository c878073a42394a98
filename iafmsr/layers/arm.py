"""Affine recalibration module."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from iafmsr.layers.pointwise import Pointwise, PointwiseConv2d
from iafmsr.ops.strips import spent

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
    """

    def __init__(self, num_feat: int, mode: str = 'full', num_guide: int = 1) -> None:
        super().__init__()
        if mode not in _MODES:
            raise ValueError(f'arm must be one of {", ".join(_MODES)}, got {mode!r}')
        self.mode = mode
        self.local = nn.Conv2d(num_feat, num_feat, 3, padding=1, groups=num_feat)
        if mode != 'off':
            self.expand = PointwiseConv2d(num_feat, 2 * num_feat)
            self.scale = PointwiseConv2d(num_feat + (num_guide if mode == 'full' else 0), num_feat)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """(B, C, H, W), guide (B, C or 1, H, W) -> (B, C, H, W)."""
        return self.projected()(x, guide)

    def projected(self, first: Pointwise | None = None) -> Callable[[Tensor, Tensor], Tensor]:
        """The forward pass as a function of x and the guide; of first(x), where a 1x1 convolution comes first.

        Nothing but 1x1 convolutions lies between x, b and s: they are multiplied here, once for any number of calls.
        """
        if self.mode == 'off':
            return lambda x, _guide: self.local(x if first is None else first(x))
        expand, scale = self.expand.matrix(), self.scale.matrix()
        to_a, to_b = (expand if first is None else expand.after(first)).halves()
        c = len(to_a.weight)
        to_s, of_guide = Pointwise(scale.weight[:, :c], scale.bias).after(to_a), Pointwise(scale.weight[:, c:])

        def run(x: Tensor, guide: Tensor) -> Tensor:
            s = to_s(x)
            if self.mode == 'full':
                s = s.add_(of_guide(guide.to(s.dtype)))
            local = self.local(to_b(x))
            return torch.mul(local, s, out=spent(local))
        return run
