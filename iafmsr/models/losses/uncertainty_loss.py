"""The uncertainty-driven loss, with the density as the uncertainty."""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iafmsr.layers.density import Density


class UncertaintyLoss(nn.Module):
    """L1 loss with a larger weight in uncertain areas: mean(s |pred - target|) (Ning et al., NeurIPS 2021, sec. 3.3).

    s is the uncertainty minus its minimum in the picture, without gradient. Here the uncertainty is the information
    density map at LR, and each value applies to its block of HR. The map comes from the network that is trained, or, as
    in the paper's second step, from a second network that has been trained before and is fixed. (In the paper it is the
    logarithm of a variance, which a branch of the second network learns.) The weight of flat areas is about 0, so a
    pixel loss is needed as well.

    Args:
        loss_weight (float): of the loss.
        weights (str): file of the second network; None: the network that is trained.

    Raises:
        UserError: the file holds no known network.
        ValueError: its network does not return a density.
    """

    def __init__(self, loss_weight: float = 1.0, weights: str | None = None) -> None:
        super().__init__()
        self.loss_weight, self.net = loss_weight, None
        if weights is not None:
            from iafmsr.nets.loading import load_net  # the module of the archs imports this one

            self.net = load_net(Path(weights)).net
            if 'return_density' not in inspect.signature(self.net.forward).parameters:
                raise ValueError(f'{weights}: its network gives no density')

    def forward(self, pred: Tensor, target: Tensor, lq: Tensor, density: Density | None = None) -> Tensor:
        """Two batches (B, C, sH, sW), the input (B, C, H, W) and the density of the network -> a scalar."""
        if self.net is not None:
            with torch.no_grad():
                density = self.net(lq, return_density=True)[1]
        assert density is not None, 'without weights, the network that is trained gives it'
        idm = density.idm.detach()
        s = F.interpolate(idm - idm.amin((1, 2, 3), keepdim=True), pred.shape[2:], mode='nearest')
        return self.loss_weight * (s * (pred - target).abs()).mean()
