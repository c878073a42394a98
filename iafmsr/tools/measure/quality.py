"""PSNR and SSIM as super-resolution papers report them."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

__all__ = ['Quality', 'y_quality']


@dataclass(frozen=True)
class Quality:
    """PSNR in dB and SSIM of the Y channel."""

    psnr: float
    ssim: float


def y_quality(sr: Tensor, hr: Tensor, border: int) -> Quality:
    """Compare two pictures by BasicSR's metrics.

    Args:
        sr: uint8 ``(3, H, W)``, RGB.
        hr: The same of the true picture.
        border: Pixels that are left out on each side; papers take the scale.
    """
    # here: what never compares with a true picture does without BasicSR
    from iafmsr.bridge.basicsr_api import calculate_psnr, calculate_ssim

    a, b = (np.ascontiguousarray(image.permute(1, 2, 0).flip(-1)) for image in (sr, hr))  # BasicSR wants BGR
    return Quality(calculate_psnr(a, b, border, test_y_channel=True), calculate_ssim(a, b, border, test_y_channel=True))
