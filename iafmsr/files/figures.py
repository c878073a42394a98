"""Pictures side by side, with titles and with maps in colour; drawn by Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

__all__ = [
    'PALETTE',
    'Levels',
    'Panel',
    'colour_levels',
    'colour_panel',
    'draw_figure',
    'enlarge',
    'fitted',
    'frame',
    'image_panel',
]

_MARGIN, _BAR_HEIGHT, _LEAST_BAR, _TEXT_SIZE = 14, 14, 60, 18
# 256 colours, (256, 3) RGB. Their lightness grows evenly, and people who do not tell red from green see the same.
PALETTE = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_CIVIDIS).reshape(256, 3)[:, ::-1]


@dataclass(frozen=True)
class Panel:
    """An image, the one or two lines above it, and the values at the ends of the colour bar below it, if it has one."""

    title: str
    image: Image.Image
    bar: tuple[str, str] | None = None


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


def colour_panel(title: str, values: Tensor, height: int, width: int, share: float = 1.0, unit: str = '') -> Panel:
    """A panel of a map ``(h, w)``, each value a block of colour, with a bar that gives the values and their unit.

    ``share`` is that of :func:`colour_levels`.
    """
    found = colour_levels(values, share)
    low, high = found.labels
    image = _coloured(found.levels).resize((width, height), Image.Resampling.NEAREST)
    return Panel(title, image, (low, f'{high} {unit}'.rstrip()))


def fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    """The whole image, as large as it can be, in the middle of a white one of this size."""
    inner = ImageOps.contain(image, (width, height), Image.Resampling.LANCZOS)
    return ImageOps.pad(inner, (width, height), Image.Resampling.NEAREST, 'white')


def enlarge(picture: Tensor, factor: int) -> Tensor:
    """Each pixel of ``(..., H, W)`` as a block of ``factor`` by ``factor``."""
    return picture.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def frame(picture: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """A copy of the picture, uint8 ``(3, H, W)``, with a frame around a rectangle: white between two black lines."""
    framed = picture.clone()
    for line, value in ((3, 0), (2, 255), (1, 0)):
        outer = slice(max(0, top - line), top + height + line), slice(max(0, left - line), left + width + line)
        framed[(..., *outer)] = value
    inner = (..., slice(top, top + height), slice(left, left + width))
    framed[inner] = picture[inner]
    return framed


def draw_figure(rows: Sequence[Sequence[Panel]], legend: str) -> Image.Image:
    """A grid of panels on white, all columns as wide as the widest panel, each panel with its title above and its bar
    below, and the legend's lines below all."""
    line = _TEXT_SIZE + 4
    column = max(_panel_width(panel) for row in rows for panel in row)
    titles = [max(panel.title.count('\n') + 1 for panel in row) * line + 4 for row in rows]
    heights = [max(panel.image.height for panel in row) + any(panel.bar for panel in row) * line for row in rows]
    wide = max(len(row) for row in rows) * (column + _MARGIN)
    wide = max(wide, *(_text_width(text) + _MARGIN for text in legend.split('\n')))
    high = sum(titles) + sum(heights) + len(rows) * _MARGIN + (legend.count('\n') + 1) * line + _MARGIN

    figure = Image.new('RGB', (_MARGIN + wide, _MARGIN + high), 'white')
    draw, top = ImageDraw.Draw(figure), _MARGIN
    for row, title, height in zip(rows, titles, heights, strict=True):
        for number, panel in enumerate(row):
            left = _MARGIN + number * (column + _MARGIN)
            draw.multiline_text((left, top), panel.title, 'black', _font(), spacing=4)
            figure.paste(panel.image, (left, top + title))
            _draw_bar(figure, panel, left, top + title + panel.image.height + 4)
        top += title + height + _MARGIN
    draw.multiline_text((_MARGIN, top), legend, 'black', _font(), spacing=4)
    return figure


def _draw_bar(figure: Image.Image, panel: Panel, left: int, top: int) -> None:
    """Least value, colours, greatest value in a line as wide as the panel."""
    if panel.bar is None:
        return
    draw, middle = ImageDraw.Draw(figure), top + _TEXT_SIZE // 2
    right = left + max(panel.image.width, _bar_width(panel))
    start, end = left + _text_width(panel.bar[0]) + 6, right - _text_width(panel.bar[1]) - 6
    draw.text((left, middle), panel.bar[0], 'black', _font(), anchor='lm')
    draw.text((right, middle), panel.bar[1], 'black', _font(), anchor='rm')
    colours = _coloured(np.linspace(0, 255, end - start).round().astype(np.uint8)[None].repeat(_BAR_HEIGHT, 0))
    figure.paste(colours, (start, middle - _BAR_HEIGHT // 2))


def _panel_width(panel: Panel) -> int:
    return max(panel.image.width, _bar_width(panel), *(_text_width(line) for line in panel.title.split('\n')))


def _bar_width(panel: Panel) -> int:
    """The least width of the bar with its labels."""
    return sum(_text_width(label) + 6 for label in panel.bar) + _LEAST_BAR if panel.bar else 0


def _coloured(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(PALETTE[levels])


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT_SIZE)


def _text_width(text: str) -> int:
    return round(_font().getlength(text)) + 1
