"""A lower bound with a gradient that can bring a value below the bound back up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # descent moves x against its gradient: a negative gradient raises x, and is kept below the bound too
        return grad * ((x >= ctx.bound) | (grad < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound), with a gradient that is cut only where a descent step would push x further below the bound.

    Unlike ``clamp``, a parameter that has fallen below the bound can come back (as in the re-parameterisation of GDN:
    Balle et al., "Density modeling of images using a generalized normalization transformation", ICLR 2016).

    Args:
        x (Tensor): any shape.
        bound (float): the smallest value of the result.
    """
    return _LowerBound.apply(x, bound)
