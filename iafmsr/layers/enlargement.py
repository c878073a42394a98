"""Bicubic enlargement, to which a residual network adds its correction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from iafmsr.layers.precision import full_precision
from iafmsr.ops.torch_names import is_exporting

__all__ = ['enlarge']

_SHARPNESS = -0.75  # the parameter a of the bicubic kernel in torch
_REACH = 2  # pixels on each side that the enlarged values of a pixel depend on


def enlarge(x: Tensor, scale: int) -> Tensor:
    """``F.interpolate(x, scale_factor=scale, mode='bicubic')``: (B, C, H, W) -> (B, C, sH, sW).

    An exported graph computes the same values by a convolution, which is many times faster in engines.
    """
    if scale == 1:
        return x
    if is_exporting():
        return by_convolution(x, scale)
    return F.interpolate(x, [scale * side for side in x.shape[-2:]], mode='bicubic')


def by_convolution(x: Tensor, scale: int) -> Tensor:
    """The same by a convolution: each of the s x s values of a pixel is a weighted sum of the 5x5 pixels around it,
    with its own weights. The border is repeated."""
    channels = x.shape[1]
    taps = _taps(scale).to(x)
    kernel = torch.einsum('pi,qj->pqij', taps, taps).flatten(0, 1)
    weight = torch.einsum('cd,pij->cpdij', torch.eye(channels).to(x), kernel).flatten(0, 1)
    with full_precision(x):  # also in an exported graph in half precision
        values = F.conv2d(F.pad(x, [_REACH] * 4, mode='replicate'), weight)
    return F.pixel_shuffle(values, scale)


def _taps(scale: int) -> Tensor:
    """(s, 5): along one axis, the weights of a pixel and its neighbours in each of the pixel's s values."""
    place = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    d = (place[:, None] - torch.arange(-_REACH, _REACH + 1)).abs()
    a = _SHARPNESS
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0.0))
