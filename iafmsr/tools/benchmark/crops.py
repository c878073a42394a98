"""Regions of pictures by several nets side by side, as papers show them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from iafmsr.errors import UserError
from iafmsr.files.figures import Panel, draw_figure, enlarge, fitted, frame, image_panel
from iafmsr.files.whole import write_whole
from iafmsr.tools.benchmark.quality import BICUBIC, upscale
from iafmsr.tools.benchmark.run import ScaleReport

__all__ = ['Region', 'draw_regions', 'parse_region']

_PANEL = 192  # pixels: the side of every panel


@dataclass(frozen=True)
class Region:
    """A square of a set's picture, in HR pixels."""

    set_name: str
    picture: str
    left: int
    top: int
    size: int


def parse_region(text: str) -> Region:
    """``Set14/barbara:LEFT,TOP,SIZE``.

    Raises:
        UserError: the text is no region.
    """
    matched = re.fullmatch(r'([^/]+)/(.+):(\d+),(\d+),(\d+)', text)
    if not matched or int(matched[5]) < 1:
        raise UserError(
            f'--crop {text}: must be SET/PICTURE:LEFT,TOP,SIZE in HR pixels, such as Set5/butterfly:60,80,64'
        )
    return Region(matched[1], matched[2], *map(int, matched.groups()[2:]))


def draw_regions(report: ScaleReport, regions: Sequence[Region], device: torch.device, path: Path) -> None:
    """One row a region: the picture with a frame, then LR, bicubic, each net with weights, and HR, as a PNG file.

    PSNR and SSIM in the titles are those of the whole picture.

    Raises:
        UserError: a region of no picture or outside of it, or the file cannot be written.
    """
    nets = {spec.name: spec.build().to(device) for spec in report.specs if spec.weights}
    rows = [_row(report, region, nets, device) for region in regions]
    content = io.BytesIO()
    draw_figure(
        rows, f'x{report.scale}. PSNR / SSIM: Y channel of the whole picture, {report.scale} pixels cropped.'
    ).save(content, 'PNG')
    write_whole(path, content.getvalue())


def _row(report: ScaleReport, region: Region, nets: dict[str, torch.nn.Module], device: torch.device) -> list[Panel]:
    name = f'{region.set_name}/{region.picture}'
    item = next((item for item in report.items.get(region.set_name, ()) if item.name == region.picture), None)
    if item is None:
        raise UserError(f'--crop {name}: no such picture among the sets measured ({", ".join(report.items)})')
    lr, hr = item.load()
    height, width = hr.shape[-2:]
    if region.left + region.size > width or region.top + region.size > height:
        raise UserError(
            f'--crop {name}:{region.left},{region.top},{region.size}: outside of the picture, {width}x{height}'
        )

    def detail(title: str, picture: Tensor) -> Panel:
        square = picture[:, region.top : region.top + region.size, region.left : region.left + region.size]
        return Panel(title, image_panel('', square).image.resize((_PANEL, _PANEL), Image.Resampling.NEAREST))

    whole = image_panel('', frame(hr, region.top, region.left, region.size, region.size)).image
    panels = [
        Panel(f'{name}\n{width}x{height}', fitted(whole, _PANEL, _PANEL)),
        detail('LR\n', enlarge(lr, report.scale)),
    ]
    for net_name, net in {BICUBIC: None, **nets}.items():
        quality = report.scores[net_name][region.set_name][region.picture]
        sr = upscale(net, lr, (height, width), device, f'{net_name} on {name}')
        panels.append(detail(f'{net_name}\n{quality.psnr:.2f} / {quality.ssim:.4f}', sr))
    return [*panels, detail('HR\n', hr)]
