"""Drawn pictures, on which a network can fail that is good on photographs: flat colours, words, lines, noise."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from iafmsr.ops.resize import imresize

__all__ = ['LEVELS', 'Robustness', 'drawings', 'flat_pixels', 'robustness']

LEVELS = 16  # a flat pixel may be off by so many 8-bit levels
_BROKEN = 0.005  # a background breaks when more than this share of its flat pixels is off by more
_SIDE = 64  # pixels of LR
_OVERSAMPLING = 4  # drawn so many times larger, then reduced as the LR of photographs is
_SURROUNDINGS = 2  # a flat pixel's neighbours have its colour up to this distance: the reach of bicubic enlargement
_LEVELS = (0, 128, 255)
_COLOURS = tuple(itertools.product(_LEVELS, _LEVELS, _LEVELS))
_BLACK, _WHITE, _RED, _BLUE, _YELLOW = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255), (255, 255, 0)
_PATTERNS = ('checkerboard', 'noise')
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Robustness:
    """How a network treats drawn pictures.

    Attributes:
        flat_off (float): share of the flat pixels of all pictures that are off by more than 16 8-bit levels.
        broken (int): backgrounds with a word, of 27, on which more than 0.5 % of the flat pixels are.
        solid_levels (float): largest deviation on solid pictures, in 8-bit levels after the clamp.
        drawn_range (tuple[float, float]): smallest and largest value before the clamp, where a picture has [0, 1], on
            backgrounds, words, lines and solid pictures.
        pattern_range (tuple[float, float]): the same on checkerboards and noise, where published nets leave it, too.
    """

    flat_off: float
    broken: int
    solid_levels: float
    drawn_range: tuple[float, float]
    pattern_range: tuple[float, float]


@torch.no_grad()
def robustness(net: nn.Module, scale: int) -> Robustness:
    """Enlarge :func:`drawings` one at a time, and compare flat pixels with their colour.

    A value that is not a number counts as off.

    Args:
        net: (1, 3, H, W) in [0, 1] -> (1, 3, scale H, scale W), on the CPU, in evaluation mode.
        scale: of the net.
    """
    off_pixels = flat = broken = 0
    solid_levels: list[Tensor] = []
    drawn: list[Tensor] = []
    patterns: list[Tensor] = []
    for name, lr in drawings().items():
        sr = net(lr[None].float() / 255)[0]
        (patterns if name.startswith(_PATTERNS) else drawn).append(sr.flatten())
        levels = ((sr.clamp(0, 1) * 255).round() - _enlarged(lr, scale)).abs().amax(0)
        off = ~(levels[_enlarged(flat_pixels(lr), scale)] <= LEVELS)
        off_pixels, flat = off_pixels + int(off.sum()), flat + off.numel()
        broken += name.startswith('word') and int(off.sum()) > _BROKEN * off.numel()
        if name.startswith('solid'):
            solid_levels.append(levels.max())
    solid = float(torch.stack(solid_levels).max())
    return Robustness(off_pixels / flat, broken, solid, _range(drawn), _range(patterns))


def flat_pixels(lr: Tensor) -> Tensor:
    """Where a picture (3, H, W) has one colour in the 5x5 pixels around: bool (H, W). The border is repeated."""
    size = 2 * _SURROUNDINGS + 1
    padded = F.pad(lr[None].float(), (_SURROUNDINGS,) * 4, mode='replicate')
    return (F.max_pool2d(padded, size, 1) == -F.max_pool2d(-padded, size, 1))[0].all(0)


@cache
def drawings() -> dict[str, Tensor]:
    """The pictures by name, LR of 64x64, uint8 (3, 64, 64), RGB; the same at each scale.

    Those called ``word ...`` have a background of one colour (each channel 0, 128 or 255) and a word in black or
    white, those called ``solid ...`` one colour alone.
    """
    pictures = {}
    for colour in _COLOURS:
        pictures[f'word on {colour}'] = _text('Word', 48, colour, _BLACK if _luma(colour) > 127 else _WHITE)
        pictures[f'solid {colour}'] = _reduced(_canvas(colour))
        if 0 in colour and 255 in colour and 128 not in colour:
            pictures[f'coloured word on {colour}'] = _text('Word', 48, colour, _inverse(colour))
    for paper, ink in ((_WHITE, _BLACK), (_BLACK, _WHITE), (_YELLOW, _BLUE)):
        pictures[f'lines on {paper}'] = _lines(paper, ink)
        pictures[f'text on {paper}'] = _text('\n'.join(['The quick brown fox'] * 9), 24, paper, ink)
    pictures['disc'] = _disc(_WHITE, _RED)
    for cell in (1, 2, 4, 8):
        pictures[f'checkerboard {cell}'] = _checkerboard(cell, _WHITE, _BLACK)
        pictures[f'checkerboard {cell}, coloured'] = _checkerboard(cell, _YELLOW, _BLUE)
    noise = torch.randint(256, (3, _SIDE, _SIDE), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return pictures | {'noise': noise, 'noise, grey': noise[:1].expand(3, -1, -1)}


def _range(values: list[Tensor]) -> tuple[float, float]:
    joined = torch.cat(values)
    return float(joined.min()), float(joined.max())


def _luma(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _inverse(colour: Colour) -> Colour:
    return 255 - colour[0], 255 - colour[1], 255 - colour[2]


def _enlarged(picture: Tensor, scale: int) -> Tensor:
    return picture.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


def _canvas(colour: Colour) -> Image.Image:
    return Image.new('RGB', (_SIDE * _OVERSAMPLING, _SIDE * _OVERSAMPLING), colour)


def _reduced(image: Image.Image) -> Tensor:
    return imresize(torch.from_numpy(np.array(image)).permute(2, 0, 1), Fraction(1, _OVERSAMPLING))


def _text(text: str, size: int, paper: Colour, ink: Colour) -> Tensor:
    image = _canvas(paper)
    middle = image.width / 2, image.height / 2
    ImageDraw.Draw(image).text(middle, text, ink, ImageFont.load_default(size), anchor='mm')
    return _reduced(image)


def _lines(paper: Colour, ink: Colour) -> Tensor:
    """A fan of lines, one to twelve pixels wide before reduction, and circles."""
    image = _canvas(paper)
    draw = ImageDraw.Draw(image)
    for i in range(12):
        draw.line([(0, 8), (22 * i, 160)], ink, width=i + 1)
    for i, radius in enumerate((12, 24, 40)):
        left, top = 30 + 72 * i, 210 - radius
        draw.ellipse([left, top, left + 2 * radius, top + 2 * radius], outline=ink, width=2 * i + 2)
    return _reduced(image)


def _disc(paper: Colour, ink: Colour) -> Tensor:
    image = _canvas(paper)
    ImageDraw.Draw(image).ellipse([48, 48, 208, 208], fill=ink)
    return _reduced(image)


def _checkerboard(cell: int, one: Colour, other: Colour) -> Tensor:
    """Cells of so many LR pixels, drawn without reduction."""
    rows = torch.arange(_SIDE)[:, None] // cell
    first = (rows + rows.T) % 2 == 0
    front, back = (torch.tensor(colour, dtype=torch.uint8)[:, None, None] for colour in (one, other))
    return torch.where(first, front, back)
