"""The precision of the forward pass in training."""

from __future__ import annotations

import platform

import torch

from iafmsr.bridge.basicsr_api import get_root_logger

DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}


def usable(wanted: str | None, device: torch.device) -> torch.dtype | None:
    """The type for autocast: what is wanted, or None (float32), with a line in the log, for bf16 on a device without.

    Such a device computes bf16 by way of float32, slower than float32 itself.

    Args:
        wanted: ``bf16``, ``fp16`` or None.
        device: of the training.
    """
    if wanted == 'bf16' and not has_bf16(device):
        get_root_logger().warning(f'train.autocast: bf16: this {device.type} has no arithmetic for it; float32 instead')
        return None
    return DTYPES[wanted] if wanted else None


def has_bf16(device: torch.device) -> bool:
    """Whether the device has arithmetic of its own for bf16."""
    if device.type == 'cuda':
        # not by name of torch: older ones count what the driver emulates
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != 'cpu':
        return False
    if platform.machine() in ('x86_64', 'AMD64') and hasattr(torch.cpu, '_is_amx_tile_supported'):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
