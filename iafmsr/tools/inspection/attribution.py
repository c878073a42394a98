"""What a result depends on: the local attribution map (LAM) and the effective receptive field (ERF)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from iafmsr.layers.filters import luma

__all__ = ['attribution', 'diffusion_index', 'receptive_field']

Probe = Callable[[Tensor], Tensor]


def attribution(
    net: nn.Module, lq: Tensor, box: tuple[int, int, int, int], steps: int = 50, sigma: float = 1.2
) -> Tensor:
    """LAM (Gu and Dong, CVPR 2021): path-integrated gradients of the detail in a box of the result.

    The path leads from the picture blurred by a Gaussian to the picture itself; the blur becomes narrower on the way.
    The detail is the sum of the absolute differences between neighbouring pixels in the box.

    Args:
        net: (B, 3, H, W) in [0, 1] -> (B, 3, sH, sW), in evaluation mode.
        lq: (1, 3, H, W).
        box: left, top, right, bottom in pixels of the result.
        steps: of the path; sigma: of the first blur, in pixels.

    Returns:
        Tensor: (H, W), the share of each pixel of lq, not negative; sums to 1, or is zero where nothing matters.
    """
    left, top, right, bottom = box

    def detail(sr: Tensor) -> Tensor:
        inner = luma(sr)[..., top:bottom, left:right]
        return inner.diff(dim=-1).abs().sum() + inner.diff(dim=-2).abs().sum()

    widths = torch.linspace(sigma, 0, steps + 1).tolist()
    path = [_blurred(lq, width) for width in widths]
    total = torch.zeros_like(lq)
    for before, after in zip(path, path[1:], strict=False):
        total += (after - before) * _gradient(net, after, detail)
    return _shares(total)


def receptive_field(net: nn.Module, lq: Tensor, x: int, y: int) -> Tensor:
    """ERF (Luo et al., NeurIPS 2016): |gradient| of one pixel of the result, in shares of lq's pixels: (H, W)."""
    return _shares(_gradient(net, lq, lambda sr: sr[..., y, x].sum()))


def diffusion_index(shares: Tensor) -> float:
    """DI = 100 (1 - Gini coefficient) of a map of shares: 100 for all pixels alike, near 0 for one alone."""
    ordered = shares.flatten().double().sort().values
    n, total = len(ordered), float(ordered.sum())
    if total == 0:
        return 0.0
    rank = torch.arange(1, n + 1, dtype=torch.float64)
    gini = float(((2 * rank - n - 1) * ordered).sum()) / (n * total)
    return 100 * (1 - gini)


def _gradient(net: nn.Module, lq: Tensor, probe: Probe) -> Tensor:
    with torch.enable_grad():
        lq = lq.detach().requires_grad_()
        return torch.autograd.grad(probe(net(lq)), lq)[0]


def _shares(values: Tensor) -> Tensor:
    shares = values.abs().sum(dim=(0, 1))
    return shares / shares.sum() if shares.any() else shares


def _blurred(x: Tensor, sigma: float, reach: int = 4) -> Tensor:
    """x under a Gaussian; the picture itself where sigma is 0."""
    if sigma < 1e-3:
        return x
    at = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-at.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    padded = nn.functional.pad(x, (reach,) * 4, mode='replicate')
    across = nn.functional.conv2d(padded, kernel, groups=x.shape[1])
    return nn.functional.conv2d(across, kernel.transpose(2, 3), groups=x.shape[1])
