"""Bicubic enlargement, which a residual network adds its correction to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from iafmsr.layers.precision import full_precision
from iafmsr.ops.torch_names import is_exporting

__all__ = ['enlarge']

_SHARPNESS = -0.75  # of the bicubic kernel in torch
_REACH = 2  # pixels on each side of a pixel that decide what becomes of it


def enlarge(x: Tensor, scale: int) -> Tensor:
    """``F.interpolate(x, scale_factor=scale, mode='bicubic')``: (B, C, H, W) -> (B, C, sH, sW).

    Engines take many times as long for that as for the same values by a convolution.
    """
    if scale == 1:
        return x
    if is_exporting():
        return by_convolution(x, scale)
    return F.interpolate(x, [scale * side for side in x.shape[-2:]], mode='bicubic')


def by_convolution(x: Tensor, scale: int) -> Tensor:
    """The same: the s x s values that come of a pixel are sums over the 5x5 pixels around it, each with weights of its
    own; the border is repeated."""
    channels = x.shape[1]
    taps = _taps(scale).to(x)
    kernel = torch.einsum('pi,qj->pqij', taps, taps).flatten(0, 1)
    weight = torch.einsum('cd,pij->cpdij', torch.eye(channels).to(x), kernel).flatten(0, 1)
    with full_precision(x):  # an exported graph in half precision too
        values = F.conv2d(F.pad(x, [_REACH] * 4, mode='replicate'), weight)
    return F.pixel_shuffle(values, scale)


def _taps(scale: int) -> Tensor:
    """(s, 5): what each of the s values of a pixel along a side takes of it and of its neighbours."""
    place = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    d = (place[:, None] - torch.arange(-_REACH, _REACH + 1)).abs()
    a = _SHARPNESS
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0.0))
