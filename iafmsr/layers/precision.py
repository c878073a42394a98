"""Arithmetic that stays in full precision under autocast."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from iafmsr.ops.torch_names import autocast_dtype, has_autocast

if TYPE_CHECKING:  # available from Python 3.11 on
    from typing import Self


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """A context without autocast on the device of x, for sums and small values that half precision cannot hold."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if has_autocast(device) else nullcontext()


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32; float64 is left as it is."""
    return x if x.dtype == torch.float64 else x.float()


def in_autocast(x: Tensor) -> Tensor:
    """x in autocast's type if autocast is on, like the result of a convolution; otherwise x."""
    dtype = autocast_dtype(x.device.type)
    return x if dtype is None else x.to(dtype)


class InFloat32(nn.Module):
    """A module whose parameters stay in float32 when its network is moved to half precision (``net.half()``)."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def kept(x: Tensor) -> Tensor:
            moved = fn(x)
            return x.to(moved.device) if moved.dtype in (torch.float16, torch.bfloat16) else moved

        return super()._apply(kept, recurse)


class ExactConv2d(InFloat32, nn.Conv2d):
    """A convolution in float32 even under autocast, for results whose small differences matter."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W), float32 or float64."""
        with full_precision(x):
            return super().forward(at_least_float32(x))
