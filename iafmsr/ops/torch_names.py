"""Functions of torch that older versions lack or name differently, collected in one place."""

from __future__ import annotations

import torch

__all__ = ['autocast_dtype', 'has_autocast', 'is_compiling', 'is_exporting']

if hasattr(torch.amp, 'is_autocast_available'):  # from torch 2.4 on

    def has_autocast(device: str) -> bool:
        """Whether a kind of device has autocast."""
        return torch.amp.is_autocast_available(device)

    def autocast_dtype(device: str) -> torch.dtype | None:
        """The type of autocast on a kind of device; None where it is off."""
        enabled = has_autocast(device) and torch.is_autocast_enabled(device)
        return torch.get_autocast_dtype(device) if enabled else None

else:

    def has_autocast(device: str) -> bool:
        """Whether a kind of device has autocast."""
        return device in ('cpu', 'cuda')

    def autocast_dtype(device: str) -> torch.dtype | None:
        """The type of autocast on a kind of device; None where it is off."""
        if device == 'cpu':
            return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
        return torch.get_autocast_gpu_dtype() if device == 'cuda' and torch.is_autocast_enabled() else None


if hasattr(torch.compiler, 'is_compiling'):  # from torch 2.3 on

    def is_compiling() -> bool:
        """Whether torch.compile or torch.export traces the caller."""
        return torch.compiler.is_compiling()

else:

    def is_compiling() -> bool:
        """Whether torch.compile or torch.export traces the caller."""
        return torch._utils.is_compiling()


def is_exporting() -> bool:
    """Whether torch.export traces the caller; always False before torch 2.7."""
    return getattr(torch.compiler, 'is_exporting', lambda: False)()
