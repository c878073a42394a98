"""Arithmetic that stays in full precision under autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(x: Tensor) -> AbstractContextManager:
    """Autocast switched off on the device of x, for sums and tails that half precision cannot hold."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or as it is where it is float64."""
    return x if x.dtype == torch.float64 else x.float()
