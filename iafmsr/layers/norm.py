"""Norms over the channels of a feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalization over the channels at every position, with a learned scale and shift (as in SAFMN)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelL2Norm(nn.Module):
    """x / ||x||_2 over the channels at every position, without parameters (as in SMFANet)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return _L2Norm.apply(x)


class _L2Norm(torch.autograd.Function):
    """x / max(||x||, 1e-12), its gradient in closed form: half the passes over memory of the chain rule."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(1e-12)
        y = x / norm
        ctx.save_for_backward(y, norm)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        y, norm = ctx.saved_tensors
        along = (grad * y).sum(dim=1, keepdim=True)
        along = along.masked_fill_(norm <= 1e-12, 0)  # there the norm is a constant
        return torch.addcmul(grad, y, along, value=-1).div_(norm)


def build_norm(name: str, num_feat: int) -> nn.Module:
    """The norm called ``name``: ``none``, ``l2`` or ``layer``.

    Raises:
        ValueError: for another name.
    """
    if name == 'none':
        return nn.Identity()
    if name == 'l2':
        return ChannelL2Norm()
    if name == 'layer':
        return ChannelLayerNorm(num_feat)
    raise ValueError(f"norm must be 'none', 'l2' or 'layer', got {name!r}")
