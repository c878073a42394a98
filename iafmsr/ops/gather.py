"""Submanifold convolution in plain PyTorch, at a cost in proportion to the number of active sites."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from iafmsr.ops.sites import ActiveSites

# Sites per block: their patches (9 C values each) stay in the cache between the gather and the product. Measured on a
# CPU: with half of 320x180 sites active, a single block for all takes 2.6 times as long.
_BLOCK = 1024


def gather_conv(x: Tensor, weight: Tensor, sites: ActiveSites) -> Tensor:
    """M * conv(M * x) + x: gather the active sites' neighbours, multiply by a matrix, add the result.

    Args:
        x (Tensor): (B, C, H, W).
        weight (Tensor): (C, C, k, k) with odd k, in the type in which the products are computed.
        sites (ActiveSites): of a (B, 1, H, W) mask.
    """
    return _GatherConv.apply(x, weight, sites)


class _GatherConv(torch.autograd.Function):
    """The gradient with respect to x is the same operator, with the kernel rotated by 180 degrees and channels swapped.

    So both passes write to each site only once, and the result does not depend on an order of summation. Only the
    values at the sites are kept from the forward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, sites: ActiveSites) -> Tensor:
        active = sites.take(x).to(weight.dtype)
        ctx.save_for_backward(active, weight)
        ctx.sites = sites
        return sites.add(x, _convolve(active, weight, sites))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        active, weight = ctx.saved_tensors
        sites, grad_x, grad_weight = ctx.sites, None, None
        grad_active = sites.take(grad).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            grad_x = sites.add(grad, _convolve(grad_active, weight.transpose(0, 1).flip(2, 3), sites))
        if ctx.needs_input_grad[1]:
            c, _, k, _ = weight.shape
            matrix = weight.new_zeros(k * k * c, c)
            for rows, patches in _patches(active, sites, k):
                matrix.addmm_(patches.t(), grad_active[rows])
            grad_weight = matrix.view(k, k, c, c).permute(3, 2, 0, 1)
        return grad_x, grad_weight, None


def _convolve(active: Tensor, weight: Tensor, sites: ActiveSites) -> Tensor:
    """(n, C) at the sites -> (n, C), their convolution with zeros at all other positions."""
    matrix = weight.permute(2, 3, 1, 0).flatten(0, 2)
    out = torch.empty_like(active)
    for rows, patches in _patches(active, sites, weight.shape[-1]):
        torch.mm(patches, matrix, out=out[rows])
    return out


def _patches(active: Tensor, sites: ActiveSites, kernel_size: int) -> Iterator[tuple[slice, Tensor]]:
    """Block by block, a slice of sites and the values of their neighbours, (rows, kernel_size**2 * C)."""
    padded = F.pad(active, (0, 0, 0, 1))  # a row of zeros stands for every neighbour that is inactive or outside
    for i, block in enumerate(sites.neighbours(kernel_size).split(_BLOCK)):
        patches = padded.index_select(0, block.flatten()).view(len(block), block.shape[1] * padded.shape[1])
        yield slice(i * _BLOCK, i * _BLOCK + len(block)), patches
