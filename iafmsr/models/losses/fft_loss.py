"""The frequency loss of SAFMN and SMFANet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FFTLoss(nn.Module):
    """Mean absolute difference of the real and imaginary parts of two pictures' spectra (SAFMN, section 4.1).

    The spectrum is the real 2-D discrete Fourier transform without normalization. Only half of it is computed, because
    the other half is its mirror image. It is float32 under autocast: half precision does not support most sizes.

    Args:
        loss_weight (float): 0.05 in SAFMN and SMFANet.
    """

    def __init__(self, loss_weight: float = 0.05) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Two batches (B, C, H, W) -> a scalar."""
        with torch.autocast(pred.device.type, enabled=False):
            ours, aim = (torch.view_as_real(torch.fft.rfft2(picture.float())) for picture in (pred, target))
            return self.loss_weight * F.l1_loss(ours, aim)
