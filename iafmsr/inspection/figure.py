"""The inspection of a picture as one figure."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from iafmsr.files.figures import Panel, colour_panel, draw_figure, enlarge, frame, image_panel
from iafmsr.inspection.picture import Inspection

__all__ = ['SHARE', 'caption', 'densest_square', 'draw']

SHARE = 0.995  # of a map's values, over which the colours are spread: a few extreme ones leave the rest dark
_BOX = (320, 240)  # greatest width and height of a panel
_LEAST = 48  # pixels: of a side, also where the picture is a strip
_DETAIL = 28  # LR pixels: side of the detail
_NAMED = ('Sobel', 'Laplacian')


def draw(found: Inspection) -> Image.Image:
    """Rows: the picture before and after; the maps; the densest square in detail; the map during training."""
    height, width = _fitted(*found.lr.shape[1:])
    top, left, size = (found.scale * value for value in densest_square(found.idm, _DETAIL))
    quality = {name: f'{q.psnr:.2f} dB / {q.ssim:.4f}' for name, q in found.quality.items()}

    def whole(title: str, picture: Tensor) -> Panel:
        shrink = picture.shape[1] > height
        return Panel(
            title,
            image_panel('', picture).image.resize(
                (width, height), Image.Resampling.LANCZOS if shrink else Image.Resampling.NEAREST
            ),
        )

    def framed(panel: Panel) -> Panel:
        shown, factor = torch.from_numpy(np.array(panel.image)).permute(2, 0, 1), height / found.sr.shape[1]
        return image_panel(panel.title, frame(shown, *(round(factor * value) for value in (top, left, size))))

    def coloured(title: str, values: Tensor) -> Panel:
        return colour_panel(title, values, height, width, SHARE)

    def detail(title: str, picture: Tensor) -> Panel:
        square = picture[:, top : top + size, left : left + size]
        return image_panel(title, enlarge(square, max(1, round(_BOX[1] / size))))

    def correlation(name: str) -> str:
        return f'{name}\n' + (f'{found.correlation[name]:.2f}' if found.correlation else '')

    pictures = [
        whole(f'LR\n{found.lr.shape[2]}x{found.lr.shape[1]}', found.lr),
        framed(whole(f'result\n{quality.get("net", f"{found.sr.shape[2]}x{found.sr.shape[1]}")}', found.sr)),
    ]
    details = [
        detail('LR\n', enlarge(found.lr, found.scale)),
        detail(f'bicubic\n{quality.get("bicubic", "")}', found.bicubic),
        detail(f'result\n{quality.get("net", "")}', found.sr),
    ]
    if found.hr is not None and found.error is not None:
        pictures += [whole('HR\n', found.hr), coloured('error\n|HR - result| of Y', found.error)]
        details += [detail('HR\n', found.hr)]
    mask = 255 * found.mask.to(found.lr.dtype).expand(3, -1, -1)
    maps = [
        coloured(correlation('IDM'), found.idm),
        whole(f'active sites\n{100 * found.mask.float().mean().item():.1f} %', mask),
        *(coloured(correlation(name), found.fixed[name]) for name in _NAMED),
    ]
    rows = [pictures, maps, details]
    history = [
        coloured(
            f'IDM after {iteration:,} iterations\n'
            + (f'{found.history_correlation[iteration]:.2f}' if found.history_correlation else ''),
            values,
        )
        for iteration, values in found.history.items()
    ]
    rows += [history[i : i + 4] for i in range(0, len(history), 4)]
    return draw_figure(rows, caption(found))


def caption(found: Inspection) -> str:
    """What a reader has to know, in lines."""
    lines = [
        f"{found.name}, x{found.scale}, {found.title}. Maps have one value for each LR pixel; the bar's highest "
        'colour stands for the top 0.5 %, too.',
        'White: the active sites, where the sparse convolution works. Frame and third row: the densest square.',
    ]
    if found.hr is not None:
        lines.append(
            'PSNR / SSIM: Y channel, border of the scale cropped. Below the name of a map: its rank '
            'correlation with the error of its net.'
        )
    return '\n'.join(lines)


def densest_square(idm: Tensor, side: int) -> tuple[int, int, int]:
    """Top, left and side of the square with the highest mean of a map ``(h, w)``; smaller where the map is."""
    side = min(side, *idm.shape)
    means = F.avg_pool2d(idm[None, None], side, stride=1)[0, 0]
    place = int(means.argmax())
    return place // means.shape[1], place % means.shape[1], side


def _fitted(height: int, width: int) -> tuple[int, int]:
    """The size at which a picture fits into a panel's box."""
    factor = min(_BOX[0] / width, _BOX[1] / height)
    return max(_LEAST, round(height * factor)), max(_LEAST, round(width * factor))
