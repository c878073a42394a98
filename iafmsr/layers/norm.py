"""Norms over the channels of a feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalization over the channels at every position, with a learned scale and shift (as in SAFMN)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelL2Norm(nn.Module):
    """x / ||x||_2 over the channels at every position, without parameters (as in SMFANet)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); a position of zeros stays zero."""
        # a product, because the gradient of a division needs two more passes over memory
        least = max(1e-24, torch.finfo(x.dtype).tiny)  # 1e-24 is zero in float16
        return x * x.square().sum(dim=1, keepdim=True).clamp(min=least).rsqrt()


def build_norm(name: str, num_feat: int) -> nn.Module:
    """The norm called ``name``: ``none``, ``l2`` or ``layer``.

    Raises:
        ValueError: when the name is unknown.
    """
    if name == 'none':
        return nn.Identity()
    if name == 'l2':
        return ChannelL2Norm()
    if name == 'layer':
        return ChannelLayerNorm(num_feat)
    raise ValueError(f"norm must be 'none', 'l2' or 'layer', got {name!r}")
