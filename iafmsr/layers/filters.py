"""Fixed filters of the LR picture: local means, and the maps that the learned map is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def local_mean(x: Tensor) -> Tensor:
    """Mean over the part of the 3x3 neighbourhood within the picture: (B, C, H, W) -> (B, C, H, W)."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def neighbour_mean(x: Tensor) -> Tensor:
    """Mean of those of the four neighbours within the picture (zero if none): (B, C, H, W) -> (B, C, H, W)."""
    cross = x.new_tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]).expand(x.shape[1], 1, 3, 3)
    places = [torch.arange(side, device=x.device) for side in x.shape[-2:]]
    along = [(place > 0).to(x.dtype) + (place < side - 1) for place, side in zip(places, x.shape[-2:], strict=True)]
    count = along[0][:, None] + along[1]
    return F.conv2d(x, cross, padding=1, groups=x.shape[1]) / count.clamp(min=1)


def luma(rgb: Tensor) -> Tensor:
    """Y of BT.601, scaled to [0, 1]: (B, 3, H, W) in [0, 1] -> (B, 1, H, W). If C != 3: the mean of the channels."""
    if rgb.shape[1] != 3:
        return rgb.mean(dim=1, keepdim=True)
    return (rgb * rgb.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def _filtered(y: Tensor, kernel: list[list[float]]) -> Tensor:
    return F.conv2d(F.pad(y, (1, 1, 1, 1), mode='replicate'), y.new_tensor(kernel)[None, None])


def sobel(y: Tensor) -> Tensor:
    """Magnitude of the Sobel gradient, in values per pixel: (B, 1, H, W) -> (B, 1, H, W)."""
    return (
        torch.hypot(
            _filtered(y, [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]), _filtered(y, [[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
        )
        / 8
    )


def laplacian(y: Tensor) -> Tensor:
    """Distance from the mean of the four neighbours (the Laplacian over 4): (B, 1, H, W) -> (B, 1, H, W)."""
    return _filtered(y, [[0, 1, 0], [1, -4, 1], [0, 1, 0]]).abs() / 4


def local_std(y: Tensor) -> Tensor:
    """Standard deviation over the 3x3 neighbourhood: (B, 1, H, W) -> (B, 1, H, W)."""
    return (local_mean(y * y) - local_mean(y) ** 2).clamp(min=0).sqrt()
