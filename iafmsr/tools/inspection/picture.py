"""All that is to be shown of one picture."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from iafmsr.errors import UserError
from iafmsr.layers.density import Density
from iafmsr.ops.resize import imresize
from iafmsr.tools.measure.map_quality import error_maps, fixed_maps, rank_correlation
from iafmsr.tools.measure.quality import Quality, y_quality

__all__ = ['Inspection', 'has_map', 'inspect_picture']

_SSIM_WINDOW = 11
_MOST_PIXELS = 4_000_000  # of LR: all that is shown is in memory at once


@dataclass(frozen=True)
class Inspection:
    """A picture by one net. Pictures are uint8 ``(3, H, W)`` RGB, maps ``(h, w)``: a value for each LR pixel.

    Attributes:
        name: of the picture.
        scale: s of the net.
        lr, sr, bicubic: the picture, and what the net and bicubic interpolation make of it.
        hr: the true picture, where there is one.
        idm, mask: the net's map, and its active sites (bool).
        fixed: Sobel, Laplacian and the like by name.
        error: |HR - SR| of Y in [0, 1], mean over the s x s pixels of one LR pixel; None without HR.
        correlation: rank correlation with the error of each map by name; empty without HR.
        quality: PSNR and SSIM of ``bicubic`` and ``net``; empty without HR, or where the picture is too small.
        history: the map after so many iterations of a run.
        history_correlation: of these maps, each with the error of the net at that time; empty without HR.
    """

    name: str
    scale: int
    lr: Tensor
    sr: Tensor
    bicubic: Tensor
    hr: Tensor | None
    idm: Tensor
    mask: Tensor
    fixed: dict[str, Tensor]
    error: Tensor | None
    correlation: dict[str, float]
    quality: dict[str, Quality]
    history: dict[int, Tensor] = field(default_factory=dict)
    history_correlation: dict[int, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Sizes, as ``113x75 -> 452x300``."""
        return ' -> '.join(f'{picture.shape[2]}x{picture.shape[1]}' for picture in (self.lr, self.sr))


def has_map(net: nn.Module) -> bool:
    """Whether a net answers ``net(lq, return_density=True)``."""
    return 'return_density' in inspect.signature(net.forward).parameters


def inspect_picture(
    name: str,
    net: nn.Module,
    scale: int,
    lr: Tensor,
    hr: Tensor | None = None,
    earlier: Mapping[int, nn.Module] | None = None,
) -> Inspection:
    """Enlarge a picture and gather its maps.

    Args:
        name: of the picture, for messages.
        net: in evaluation mode, one that :func:`has_map`; it runs where its parameters are.
        scale: s.
        lr: uint8 ``(3, h, w)``, RGB.
        hr: uint8 ``(3, s h, s w)``, RGB, or up to s - 1 rows and columns larger, or None.
        earlier: the nets of a run by iteration.

    Raises:
        UserError: the picture has more than 4 megapixels, HR is of another size, or the net fails.
    """
    hr = _checked(name, scale, lr, hr)
    sr, density = _run(name, net, lr)
    lq, bicubic = lr[None].float() / 255, imresize(lr, scale)
    fixed = {
        key.replace('sobel', 'Sobel').replace('laplacian', 'Laplacian'): value for key, value in fixed_maps(lq).items()
    }
    maps = {'IDM': density.idm, **fixed}
    error, correlation, quality = (None, {}, {}) if hr is None else _against(hr, sr, bicubic, maps, scale)
    then = _history(name, earlier or {}, scale, lr, hr)
    idm, mask = density.idm[0, 0], density.mask[0, 0]
    shown = {key: value[0, 0] for key, value in fixed.items()}
    return Inspection(name, scale, lr, sr, bicubic, hr, idm, mask, shown, error, correlation, quality, *then)


def _checked(name: str, scale: int, lr: Tensor, hr: Tensor | None) -> Tensor | None:
    """HR without what LR has no part of.

    Raises:
        UserError: LR is too large, or HR of another size.
    """
    if lr.shape[1] * lr.shape[2] > _MOST_PIXELS:
        raise UserError(
            f'{name}: {lr.shape[2]}x{lr.shape[1]} pixels, at most {_MOST_PIXELS / 1e6:g} megapixels can '
            'be inspected; use a part of the picture'
        )
    if hr is None:
        return None
    height, width = (scale * side for side in lr.shape[1:])
    if hr.shape[1] // scale != lr.shape[1] or hr.shape[2] // scale != lr.shape[2]:
        raise UserError(f'{name}: HR has {hr.shape[2]}x{hr.shape[1]} pixels, but must have {width}x{height}')
    return hr[:, :height, :width]


def _against(
    hr: Tensor, sr: Tensor, bicubic: Tensor, maps: Mapping[str, Tensor], scale: int
) -> tuple[Tensor, dict[str, float], dict[str, Quality]]:
    """The error, its correlation with each map, and the quality where the picture is large enough for it."""
    error = _error(sr, hr, scale)
    correlation = {name: rank_correlation(value, error) for name, value in maps.items()}
    if min(sr.shape[1:]) < 2 * scale + _SSIM_WINDOW:
        return error[0, 0], correlation, {}
    return error[0, 0], correlation, {'bicubic': y_quality(bicubic, hr, scale), 'net': y_quality(sr, hr, scale)}


def _history(
    name: str, earlier: Mapping[int, nn.Module], scale: int, lr: Tensor, hr: Tensor | None
) -> tuple[dict[int, Tensor], dict[int, float]]:
    """The maps of earlier nets by iteration, and with HR their correlations with those nets' errors."""
    history, correlation = {}, {}
    for iteration, net in earlier.items():
        sr, density = _run(name, net, lr)
        history[iteration] = density.idm[0, 0]
        if hr is not None:
            correlation[iteration] = rank_correlation(density.idm, _error(sr, hr, scale))
    return history, correlation


@torch.inference_mode()
def _run(name: str, net: nn.Module, lr: Tensor) -> tuple[Tensor, Density]:
    """The picture by a net, and its density, on the CPU."""
    device = next(net.parameters()).device
    try:
        sr, density = net(lr[None].to(device).float() / 255, return_density=True)
    except RuntimeError as error:  # of memory, mostly
        raise UserError(f'{name} ({lr.shape[2]}x{lr.shape[1]}): {str(error).splitlines()[0]}') from None
    return (sr[0].float().clamp(0, 1) * 255).round().to(torch.uint8).cpu(), Density(*(t.cpu() for t in density))


def _error(sr: Tensor, hr: Tensor, scale: int) -> Tensor:
    return error_maps(sr[None].float() / 255, hr[None].float() / 255, scale)[0]
