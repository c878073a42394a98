"""PSNR and SSIM as super-resolution papers report them."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from torch import Tensor

__all__ = ['Quality', 'y_quality']

_WINDOW, _SIGMA = 11, 1.5  # of SSIM's Gaussian
_Y_OF_BGR = (24.966, 128.553, 65.481)


@dataclass(frozen=True)
class Quality:
    """PSNR in dB and SSIM of the Y channel, and other metrics by name."""

    psnr: float
    ssim: float
    others: dict[str, float] = field(default_factory=dict)

    def by_name(self) -> dict[str, float]:
        """All metrics."""
        return {'psnr': self.psnr, 'ssim': self.ssim, **self.others}


def y_quality(sr: Tensor, hr: Tensor, border: int) -> Quality:
    """Compare two pictures. The figures are BasicSR's to the last bit; unlike BasicSR's metrics these need no BasicSR.

    Args:
        sr: uint8 ``(3, H, W)``, RGB, or ``(1, H, W)``, gray.
        hr: The same of the true picture.
        border: Pixels that are left out on each side; papers take the scale.

    Returns:
        PSNR (infinite for equal pictures) and SSIM (Wang et al., 2004, a Gaussian window of 11x11 with sigma 1.5).

    Examples:
        >>> hr = torch.full((3, 32, 32), 100, dtype=torch.uint8)
        >>> round(y_quality(hr + 1, hr, 4).psnr, 2)
        49.45
    """
    a, b = (_y(picture, border) for picture in (sr, hr))
    error = np.mean((a - b) ** 2)
    return Quality(np.inf if error == 0 else 10 * np.log10(255**2 / error), _ssim(a, b))


def _y(picture: Tensor, border: int) -> np.ndarray:
    """Y of BT.601 in [16, 235] (gray: as it is), (H, W) without the border; by way of float32, as BasicSR does."""
    height, width = picture.shape[-2:]
    inside = picture[:, border : height - border, border : width - border]
    bgr = np.ascontiguousarray(inside.permute(1, 2, 0).flip(-1)).astype(np.float32) / 255
    y = bgr[..., 0] if len(picture) == 1 else ((np.dot(bgr, _Y_OF_BGR) + 16) / 255).astype(np.float32)
    return (y * 255).astype(np.float64)


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    kernel = cv2.getGaussianKernel(_WINDOW, _SIGMA)
    window, half = np.outer(kernel, kernel), _WINDOW // 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.filter2D(values, -1, window)[half:-half, half:-half]

    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a**2) - mu_a**2, mean(b**2) - mu_b**2, mean(a * b) - mu_a * mu_b
    similarity = ((2 * mu_a * mu_b + c1) * (2 * cov + c2)) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
    return float(similarity.mean())
