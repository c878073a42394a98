"""Pictures side by side, with titles and with maps in colour; drawn by Pillow alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

__all__ = [
    'PALETTE',
    'Levels',
    'Panel',
    'colour_levels',
    'colour_panel',
    'draw_figure',
    'enlarge',
    'frame',
    'image_panel',
]

_MARGIN, _BAR_WIDTH, _TEXT_SIZE = 14, 16, 15
# 256 colours, (256, 3) RGB. Their lightness grows evenly, and people who do not tell red from green see the same.
PALETTE = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_CIVIDIS).reshape(256, 3)[:, ::-1]


@dataclass(frozen=True)
class Panel:
    """An image and the one or two lines above it."""

    title: str
    image: Image.Image


def image_panel(title: str, picture: Tensor) -> Panel:
    """A panel of a picture, uint8 ``(3, H, W)`` RGB."""
    return Panel(title, Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy())))


@dataclass(frozen=True)
class Levels:
    """A map as numbers of colours, uint8 ``(h, w)``, and the values of the first and the last colour."""

    levels: np.ndarray
    low: float
    high: float
    clipped: bool  # values above ``high`` have the last colour, too

    @property
    def labels(self) -> tuple[str, str]:
        """What stands at the ends of its bar."""
        low = 0 if abs(self.low) < 1e-3 * (self.high - self.low) else self.low
        return f'{low:.3g}', ('>= ' if self.clipped else '') + f'{self.high:.3g}'


def colour_levels(values: Tensor, share: float = 1.0) -> Levels:
    """Spread 256 colours evenly over a map's values.

    Args:
        values: the map ``(h, w)``, any range.
        share: of the values, from below, over which the colours are spread; a few high ones else leave all others dark.
    """
    numbers = values.double().numpy()
    low, high, highest = float(numbers.min()), float(np.quantile(numbers, share)), float(numbers.max())
    if high <= low:
        high = highest
    levels = ((numbers - low) / max(high - low, 1e-12) * 255).clip(0, 255).round().astype(np.uint8)
    return Levels(levels, low, high, highest > high)


def colour_panel(title: str, values: Tensor, height: int, width: int, share: float = 1.0) -> Panel:
    """A panel of a map ``(h, w)``, each value a block of colour, with a bar that gives the values.

    ``share`` is that of :func:`colour_levels`.
    """
    found = colour_levels(values, share)
    bar_levels = np.linspace(255, 0, height).round().astype(np.uint8)[:, None].repeat(_BAR_WIDTH, 1)
    low, high = found.labels
    label_width = max(_text_width(label) for label in found.labels)

    image = Image.new('RGB', (width + _MARGIN + _BAR_WIDTH + 4 + label_width, height), 'white')
    image.paste(_coloured(found.levels).resize((width, height), Image.Resampling.NEAREST), (0, 0))
    image.paste(_coloured(bar_levels), (width + _MARGIN, 0))
    draw, left = ImageDraw.Draw(image), width + _MARGIN + _BAR_WIDTH + 4
    draw.text((left, 0), high, 'black', _font(), anchor='lt')
    draw.text((left, height - 1), low, 'black', _font(), anchor='lb')
    return Panel(title, image)


def enlarge(picture: Tensor, factor: int) -> Tensor:
    """Each pixel of ``(..., H, W)`` as a block of ``factor`` by ``factor``."""
    return picture.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def frame(picture: Tensor, top: int, left: int, size: int) -> Tensor:
    """A copy of the picture, uint8 ``(3, H, W)``, with a frame around a square: white between two black lines."""
    framed = picture.clone()
    for width, value in ((3, 0), (2, 255), (1, 0)):
        outer = slice(max(0, top - width), top + size + width), slice(max(0, left - width), left + size + width)
        framed[(..., *outer)] = value
    inner = (..., slice(top, top + size), slice(left, left + size))
    framed[inner] = picture[inner]
    return framed


def draw_figure(rows: Sequence[Sequence[Panel]], legend: str) -> Image.Image:
    """Rows of panels on white, each with its title above, and the legend's lines below all."""
    lines = max(panel.title.count('\n') + 1 for row in rows for panel in row)
    title_height = lines * (_TEXT_SIZE + 4) + 4
    legend_height = (legend.count('\n') + 1) * (_TEXT_SIZE + 4) + _MARGIN
    row_heights = [title_height + max(panel.image.height for panel in row) + _MARGIN for row in rows]
    widths = [sum(_panel_width(panel) + _MARGIN for panel in row) for row in rows]
    widths.append(max(_text_width(line) for line in legend.split('\n')) + _MARGIN)

    figure = Image.new('RGB', (_MARGIN + max(widths), _MARGIN + sum(row_heights) + legend_height), 'white')
    draw, top = ImageDraw.Draw(figure), _MARGIN
    for row, row_height in zip(rows, row_heights, strict=True):
        left = _MARGIN
        for panel in row:
            draw.multiline_text((left, top), panel.title, 'black', _font(), spacing=4)
            figure.paste(panel.image, (left, top + title_height))
            left += _panel_width(panel) + _MARGIN
        top += row_height
    draw.multiline_text((_MARGIN, top), legend, 'black', _font(), spacing=4)
    return figure


def _panel_width(panel: Panel) -> int:
    return max(panel.image.width, *(_text_width(line) for line in panel.title.split('\n')))


def _coloured(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(PALETTE[levels])


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT_SIZE)


def _text_width(text: str) -> int:
    return round(_font().getlength(text)) + 1
