"""Generalized divisive normalization."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.layers.bound import lower_bound
from iafmsr.layers.precision import full_precision

_PEDESTAL = 2.0**-36  # keeps the gradient of the square at zero from vanishing


class GDN(nn.Module):
    """y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2) at every position (Balle et al., ICLR 2016).

    The parameters are the square roots of beta > 0 and gamma >= 0, each with a :func:`lower_bound`. The division is
    done in float32 even under autocast, because the squares overflow in half precision.

    Args:
        num_feat (int): channels C.
        beta_min (float): the smallest beta.
        gamma_init (float): the diagonal of gamma at the start; off the diagonal it is 0, and beta is 1.

    Examples:
        >>> x = torch.ones(1, 4, 2, 2)
        >>> round(GDN(4)(x)[0, 0, 0, 0].item(), 3)  # 1 / sqrt(1 + 0.1)
        0.953
    """

    def __init__(self, num_feat: int, beta_min: float = 1e-6, gamma_init: float = 0.1) -> None:
        super().__init__()
        self.beta_bound = (beta_min + _PEDESTAL) ** 0.5
        self.beta = nn.Parameter(torch.full((num_feat,), 1 + _PEDESTAL).sqrt())
        self.gamma = nn.Parameter((gamma_init * torch.eye(num_feat) + _PEDESTAL).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), float32 under autocast."""
        with full_precision(x):
            x = x.to(self.beta.dtype)
            beta = lower_bound(self.beta, self.beta_bound) ** 2 - _PEDESTAL
            gamma = lower_bound(self.gamma, _PEDESTAL**0.5) ** 2 - _PEDESTAL
            return x * torch.rsqrt(F.conv2d(x * x, gamma[:, :, None, None], beta))
