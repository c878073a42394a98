"""The inspection of a picture as one figure."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from iafmsr.errors import UserError
from iafmsr.files.figures import Panel, colour_panel, draw_figure, enlarge, frame, image_panel
from iafmsr.tools.inspection.attribution import attribution, diffusion_index, receptive_field
from iafmsr.tools.inspection.picture import Inspection

__all__ = ['SHARE', 'caption', 'densest', 'draw', 'draw_attribution', 'in_units']

SHARE = 0.995  # of a map's values, over which the colours are spread: a few extreme ones leave the rest dark
_BOX = (320, 240)  # greatest width and height of a panel
_LEAST = 48  # pixels: of a side, also where the picture is a strip
_LAM = 16  # pixels of the result: side of the box whose attribution is shown
_DETAIL = 28  # LR pixels: the shorter side of the detail


def draw(found: Inspection) -> Image.Image:
    """A grid of equal panels. Rows: the picture before and after; its part where the map is highest on average; the
    maps; the map during training."""
    panels = _Panels(found)
    rows = [panels.pictures(), panels.details(), panels.maps()]
    columns, history = len(rows[0]), panels.history()
    history = history[len(history) % columns if len(history) > columns else 0 :]  # full rows, up to the last
    return draw_figure([*rows, *(history[i : i + columns] for i in range(0, len(history), columns))], caption(found))


def draw_attribution(found: Inspection, net: nn.Module, x: int, y: int) -> tuple[Image.Image, float]:
    """A row of result, IDM, LAM and effective receptive field about a pixel of the result; and the diffusion index.

    Raises:
        UserError: the pixel lies outside of the result.
    """
    height, width = found.sr.shape[1:]
    if not (0 <= x < width and 0 <= y < height):
        raise UserError(f'--lam {x},{y}: is outside of the result of {found.name}, {width}x{height} pixels')
    left, top = (min(max(0, at - _LAM // 2), max(0, side - _LAM)) for at, side in ((x, width), (y, height)))
    lq = found.lr[None].float() / 255
    lam = attribution(net, lq, (left, top, left + _LAM, top + _LAM))
    panels, index = _Panels(found), diffusion_index(lam)
    panels.rectangle = [top, left, min(_LAM, height), min(_LAM, width)]
    size = panels.height, panels.width, SHARE, '% of all'
    row = [
        panels.framed(panels.whole('result\n', found.sr)),
        panels.coloured('IDM', found.idm),
        colour_panel(f'LAM of the frame\ndiffusion index {index:.2f}', 100 * lam, *size),
        colour_panel(f'receptive field of {x},{y}\n', 100 * receptive_field(net, lq, x, y), *size),
    ]
    return draw_figure([row], f'{found.name}, x{found.scale}: on which pixels the frame and its pixel depend.'), index


def in_units(name: str, values: Tensor) -> tuple[Tensor, str]:
    """A map as it is shown, and its unit: the density in bits, all others in levels of Y, 0 to 255."""
    return (values, 'bits') if name.startswith('IDM') else (255 * values, 'levels')


class _Panels:
    """The panels of an inspection, all of one size: four in a row with a true picture, three without."""

    def __init__(self, found: Inspection) -> None:
        self.found = found
        self.height, self.width = _fitted(*found.lr.shape[1:])
        sides = found.lr.shape[1:]
        factor = min(1, _DETAIL / min(sides))
        top, left, *detail = densest(found.idm, *(max(1, round(factor * side)) for side in sides))
        self.rectangle = [found.scale * value for value in (top, left, *detail)]
        self.quality = {name: f'{q.psnr:.2f} dB / {q.ssim:.4f}' for name, q in found.quality.items()}

    def pictures(self) -> list[Panel]:
        found = self.found
        row = [
            self.whole(f'LR\n{found.lr.shape[2]}x{found.lr.shape[1]}', found.lr),
            self.whole(f'bicubic\n{self.quality.get("bicubic", "")}', found.bicubic),
            self.framed(self.whole(f'result\n{self.quality.get("net", "")}', found.sr)),
        ]
        return row if found.hr is None else [*row, self.whole('HR\n', found.hr)]

    def details(self) -> list[Panel]:
        found = self.found
        row = [
            self.detail('LR, frame', enlarge(found.lr, found.scale)),
            self.detail('bicubic, frame', found.bicubic),
            self.detail('result, frame', found.sr),
        ]
        return row if found.hr is None else [*row, self.detail('HR, frame', found.hr)]

    def maps(self) -> list[Panel]:
        found = self.found
        mask = 255 * found.mask.to(found.lr.dtype).expand(3, -1, -1)
        row = [
            self.coloured('IDM', found.idm),
            self.whole(f'active sites\n{100 * found.mask.float().mean().item():.1f} % of the positions', mask),
        ]
        if found.error is None:
            return [*row, self.coloured('Laplacian', found.fixed['Laplacian'])]
        mean = 'Laplacian, 3x3 mean'
        return [
            *row,
            self.coloured(mean, found.fixed[mean]),
            self.coloured('error', found.error, 'difference from HR in brightness'),
        ]

    def history(self) -> list[Panel]:
        correlation = self.found.history_correlation
        return [
            self.coloured(
                f'IDM, {iteration:,} iterations',
                values,
                f'rank correlation then: {correlation[iteration]:.2f}' if correlation else '',
            )
            for iteration, values in self.found.history.items()
        ]

    def whole(self, title: str, picture: Tensor) -> Panel:
        shrink = picture.shape[1] > self.height
        return Panel(
            title,
            image_panel('', picture).image.resize(
                (self.width, self.height), Image.Resampling.LANCZOS if shrink else Image.Resampling.NEAREST
            ),
        )

    def framed(self, panel: Panel) -> Panel:
        shown, factor = torch.from_numpy(np.array(panel.image)).permute(2, 0, 1), self.height / self.found.sr.shape[1]
        return image_panel(panel.title, frame(shown, *(round(factor * value) for value in self.rectangle)))

    def coloured(self, name: str, values: Tensor, note: str | None = None) -> Panel:
        if note is None:
            told = self.found.correlation
            note = f'rank correlation with the error: {told[name]:.2f}' if told else ''
        values, unit = in_units(name, values)
        return colour_panel(f'{name}\n{note}', values, self.height, self.width, SHARE, unit)

    def detail(self, title: str, picture: Tensor) -> Panel:
        top, left, height, width = self.rectangle
        part = image_panel('', picture[:, top : top + height, left : left + width]).image
        return Panel(title, part.resize((self.width, self.height), Image.Resampling.NEAREST))


def caption(found: Inspection) -> str:
    """What a reader has to know, in lines."""
    lines = [
        f'{found.name}, x{found.scale}, {found.title}. IDM: the information density map. The active sites (white) are '
        'its highest values.',
        'A map has one value for each LR pixel. The colour at the right end of its bar also stands for higher values.',
        'The frame is where the IDM is highest on average. Levels are those of brightness (Y), from 0 to 255.',
    ]
    if found.hr is not None:
        lines += [
            'Figures of bicubic and result: PSNR / SSIM of brightness, without the border. '
            'Error: mean of |HR - result|.',
            'Rank correlation: 1 if a map orders the positions as the error does, 0 if they have nothing in common.',
        ]
    return '\n'.join(lines)


def densest(idm: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of the rectangle with the highest mean of a map ``(h, w)``; smaller where it is."""
    height, width = min(height, idm.shape[0]), min(width, idm.shape[1])
    means = F.avg_pool2d(idm[None, None], (height, width), stride=1)[0, 0]
    place = int(means.argmax())
    return place // means.shape[1], place % means.shape[1], height, width


def _fitted(height: int, width: int) -> tuple[int, int]:
    """The size at which a picture fits into a panel's box."""
    factor = min(_BOX[0] / width, _BOX[1] / height)
    return max(_LEAST, round(height * factor)), max(_LEAST, round(width * factor))
