"""Does a map show where reconstruction is hard? Maps held against the error that a network really makes."""

from __future__ import annotations

import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

from iafmsr.layers.density import top_k_mask
from iafmsr.layers.filters import laplacian, local_mean, local_std, luma, sobel


def error_maps(sr: Tensor, hr: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Absolute and squared error of Y, averaged over the scale x scale pixels that belong to one LR pixel.

    Args:
        sr, hr (Tensor): (1, 3, sH, sW) in [0, 1].
        scale (int): s.

    Returns:
        tuple: two maps (1, 1, H, W).
    """
    error = luma(sr) - luma(hr)
    return F.avg_pool2d(error.abs(), scale), F.avg_pool2d(error**2, scale)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation of two maps of one size, ties with their mean rank; 0 where a map is flat."""
    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    return float(spearmanr(a.flatten().numpy(), b.flatten().numpy()).statistic)


def share_inside(score: Tensor, squared_error: Tensor, k: float = 0.05) -> float:
    """Share of the squared error that lies at the top k of a map (1, 1, H, W); a map that knows nothing has k."""
    return float(squared_error[top_k_mask(score, k)].sum() / squared_error.sum())


def fixed_maps(lq: Tensor) -> dict[str, Tensor]:
    """The filters that a learned map has to beat, raw and averaged over 3x3: (1, 3, H, W) -> maps (1, 1, H, W)."""
    y = luma(lq)
    raw = {'sobel': sobel(y), 'laplacian': laplacian(y), 'local std': local_std(y)}
    return {**raw, **{f'{name}, 3x3 mean': local_mean(value) for name, value in raw.items()}}
