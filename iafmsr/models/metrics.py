"""Picture metrics of piq (extra ``metrics``), under names for BasicSR's options such as ``calculate_lpips``."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iafmsr.bridge.basicsr_api import METRIC_REGISTRY
from iafmsr.errors import UserError

__all__ = ['METRICS', 'distance', 'missing_package', 'niqe', 'prepare']

METRICS = ('lpips', 'dists', 'gmsd', 'fsim')
# files with the learned weights of LPIPS and DISTS, by their names in torch.hub's folder
_WEIGHTS = {'lpips': ('lpips_weights.pt', 'vgg16-397923af.pth'), 'dists': ('dists_weights.pt', 'vgg16-397923af.pth')}


def distance(name: str, sr: Tensor, hr: Tensor) -> float:
    """A metric of :data:`METRICS`, of two pictures (B, 3, H, W) in [0, 1]: lower is better, except for ``fsim``.

    LPIPS: Zhang et al., CVPR 2018. DISTS: Ding et al., TPAMI 2020. GMSD: Xue et al., TIP 2014. FSIM: Zhang et al., TIP
    2011.

    Raises:
        UserError: piq is not installed, or weights are missing and cannot be downloaded.
    """
    with torch.inference_mode():
        return float(_metric(name)(sr, hr))


def niqe(sr: Tensor, border: int) -> float:
    """NIQE (Mittal et al., SPL 2013) of the Y channel, by BasicSR: without a true picture, lower is better.

    Args:
        sr: uint8 (3, H, W) RGB, of at least 96x96 pixels inside of the border.
        border: pixels that are left out on each side.
    """
    bgr = sr.flip(0).permute(1, 2, 0).cpu().numpy()
    return float(METRIC_REGISTRY.get('calculate_niqe')(bgr, crop_border=border))


def prepare(name: str) -> None:
    """Load a metric, such as ``gmsd`` or ``calculate_gmsd``, so that a run fails early if it cannot be loaded.

    Raises:
        UserError: as :func:`distance`.
    """
    if (name := name.removeprefix('calculate_')) in METRICS:
        _metric(name)


def missing_package(name: str) -> str | None:
    """A message that names the missing package of a metric (``gmsd`` or ``calculate_gmsd``), or None."""
    name = name.removeprefix('calculate_')
    if name in METRICS and find_spec('piq') is None:
        return f"metric {name} needs an extra: pip install 'iafmsr[metrics]'"
    return None


@lru_cache
def _metric(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    if missing := missing_package(name):
        raise UserError(missing)
    import piq

    if name not in _WEIGHTS:
        return lambda sr, hr: getattr(piq, name)(sr, hr, data_range=1.0)
    try:
        return getattr(piq, name.upper())().eval()
    except OSError as error:  # of urllib
        folder = Path(torch.hub.get_dir(), 'checkpoints')
        missing = ' and '.join(file for file in _WEIGHTS[name] if not (folder / file).is_file())
        reason = getattr(error, 'reason', error)
        raise UserError(f'metric {name}: {missing} cannot be downloaded ({reason}); put them into {folder}') from None


def _register(name: str) -> None:
    def calculate(img: np.ndarray, img2: np.ndarray, crop_border: int = 0, **_: Any) -> float:
        # (H, W, 3), BGR in [0, 255]
        inner = slice(crop_border, -crop_border or None)
        pictures = [torch.from_numpy(picture[inner, inner, ::-1].copy()).permute(2, 0, 1) for picture in (img, img2)]
        return distance(name, *(picture[None].float() / 255 for picture in pictures))

    calculate.__name__ = f'calculate_{name}'
    METRIC_REGISTRY.register(calculate)


for _name in METRICS:
    _register(_name)
