"""What is measured of a trained net: quality, how true its map is, and how it treats drawn pictures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from iafmsr.errors import UserError
from iafmsr.files.figures import Panel, colour_panel, draw_figure, fitted, image_panel
from iafmsr.nets.loading import load_net
from iafmsr.nets.trained import in_rgb
from iafmsr.tools.benchmark.robustness import robustness
from iafmsr.tools.benchmark.sets import BenchmarkSet
from iafmsr.tools.measure.complexity import count
from iafmsr.tools.measure.map_quality import error_maps, fixed_maps, rank_correlation, share_inside
from iafmsr.tools.measure.quality import Quality, y_quality

__all__ = ['draw_maps', 'measure']

_BOX = (320, 240)  # width and height of a panel, pixels
_K = 0.05  # share of the positions at which a map's squared error is summed


@torch.no_grad()
def measure(opt: dict[str, Any], weights: Path, sets: Sequence[BenchmarkSet]) -> dict[str, Any]:
    """PSNR and SSIM of a net on each set; how well its map, and the fixed ones, follow its own error; and how it treats
    drawn pictures."""
    net = in_rgb(load_net(weights).net)
    has_density = opt.get('train', {}).get('ie_opt') is not None
    figures: dict[str, Any] = {'psnr': {}, 'ssim': {}, 'maps': {}}
    for benchmark_set in sets:
        qualities: list[Quality] = []
        maps: dict[str, list[tuple[float, float]]] = {}
        for item in benchmark_set.items(opt['scale']):
            lr, hr = item.load()
            lq = lr[None].float() / 255
            sr, density = net(lq, return_density=True) if has_density else (net(lq), None)
            picture = (sr.clamp(0, 1) * 255).round()
            qualities.append(y_quality(picture[0].to(torch.uint8), hr, opt['scale']))
            absolute, squared = error_maps(picture / 255, hr[None].float() / 255, opt['scale'])
            learned = {'map': density.idm} if density else {}
            for name, value in {**learned, **fixed_maps(lq)}.items():
                maps.setdefault(name, []).append((rank_correlation(value, absolute), share_inside(value, squared, _K)))
        figures['psnr'][benchmark_set.name] = statistics.fmean(q.psnr for q in qualities)
        figures['ssim'][benchmark_set.name] = statistics.fmean(q.ssim for q in qualities)
        figures['maps'][benchmark_set.name] = {
            name: [statistics.fmean(values) for values in zip(*pairs, strict=True)] for name, pairs in maps.items()
        }
    figures['robustness'] = asdict(robustness(net, opt['scale']))
    size = count(net, opt['scale'])
    return {**figures, 'params': size.params, 'macs': size.macs}


@torch.no_grad()
def draw_maps(opt: dict[str, Any], weights: Path, sets: Sequence[BenchmarkSet], pictures: Sequence[str]) -> Image.Image:
    """The map of a net beside its error and the fixed filters, a row a picture.

    Args:
        opt: options of the run; its net has a density.
        weights: of the run.
        sets: that hold the pictures.
        pictures: each ``SET/NAME``.

    Raises:
        UserError: no such picture.
    """
    scale = opt['scale']
    net = in_rgb(load_net(weights).net)
    items = {f'{s.name}/{item.name}': item for s in sets for item in s.items(scale)}
    rows = []
    for name in pictures:
        if name not in items:
            raise UserError(f'{name}: no such picture, only {", ".join(items)}')
        rows.append(_row(name, net, *items[name].load(), scale))
    return draw_figure(
        rows,
        'error: |HR - SR| of Y, from 0 to 1, mean over the pixels of one LR pixel.\n'
        'Below the name of a map: its rank correlation with the error.',
    )


def _row(name: str, net: Any, lr: Tensor, hr: Tensor, scale: int) -> list[Panel]:
    """A picture, uint8 ``(3, h, w)`` and ``(3, s h, s w)``, and its maps."""
    lq = lr[None].float() / 255
    sr, density = net(lq, return_density=True)
    absolute, _ = error_maps(sr.clamp(0, 1), hr[None].float() / 255, scale)
    fixed = fixed_maps(lq)
    maps = {'error': absolute, 'IDM': density.idm, 'Sobel': fixed['sobel'], 'Laplacian': fixed['laplacian']}
    panels = [image_panel(f'{name}\n', hr)]
    for title, value in maps.items():
        correlation = '' if value is absolute else f'{rank_correlation(value, absolute):.2f}'
        panels.append(
            colour_panel(
                f'{title}\n{correlation}', value[0, 0], hr.shape[1], hr.shape[2], unit='bits' * (title == 'IDM')
            )
        )
    return [replace(panel, image=fitted(panel.image, *_BOX)) for panel in panels]
