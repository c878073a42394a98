"""The precision of the forward pass in training."""

from __future__ import annotations

import torch

from iafmsr.bridge.basicsr_api import get_root_logger
from iafmsr.nets.arithmetic import DTYPES, has_bf16


def usable(wanted: str | None, device: torch.device) -> torch.dtype | None:
    """The type for autocast: the requested one, or None (float32) and a warning if the device does not support bf16.

    Such a device emulates bf16 with float32, which is slower than float32 itself.

    Args:
        wanted: ``bf16``, ``fp16`` or None.
        device: of the training.
    """
    if wanted == 'bf16' and not has_bf16(device):
        get_root_logger().warning(f'train.autocast: this {device.type} does not support bf16; float32 is used instead')
        return None
    return DTYPES[wanted] if wanted else None
