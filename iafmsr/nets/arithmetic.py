"""Which number formats a device supports natively. Others are converted back and forth, slower than float32."""

from __future__ import annotations

import platform

import torch

__all__ = ['DTYPES', 'has', 'has_bf16']

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def has(precision: str, device: torch.device) -> bool:
    """Whether the device has arithmetic of its own for ``fp32``, ``bf16`` or ``fp16``."""
    if precision == 'bf16':
        return has_bf16(device)
    if precision == 'fp16' and device.type == 'cpu':
        name = '_is_mkldnn_fp16_supported'  # not in every torch
        return hasattr(torch.ops.mkldnn, name) and getattr(torch.ops.mkldnn, name)()
    return True


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
