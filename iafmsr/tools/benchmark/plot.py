"""Quality of networks against what they cost, as a picture."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from iafmsr.errors import UserError
from iafmsr.files.figures import Panel, draw_figure
from iafmsr.files.whole import write_whole
from iafmsr.tools.benchmark.quality import BICUBIC
from iafmsr.tools.benchmark.run import ScaleReport
from iafmsr.tools.benchmark.tables import mean

__all__ = ['draw_plot']

_SIDE, _LEFT, _EDGE, _TEXT = 560, 70, 40, 16  # of a diagram, in pixels; its left and its other edges; letters
_MEASURED, _PUBLISHED = '#00429d', '#808080'


class Point(NamedTuple):
    """A network: its cost, its PSNR in dB, and whether both are published figures."""

    name: str
    cost: float
    psnr: float
    published: bool = False


def draw_plot(reports: Sequence[ScaleReport], path: Path) -> None:
    """A row of diagrams for each scale, as a PNG file: the mean PSNR of the sets over parameters, GMACs and time.

    Published figures are hollow. They are there where a paper has figures of all sets that were measured.

    Raises:
        UserError: there is nothing to be drawn, or the file cannot be written.
    """
    rows = [row for report in reports if (row := _row(report))]
    if not rows:
        raise UserError('--plot: there is no network with weights or published figures')
    content, sets = io.BytesIO(), ', '.join(reports[0].items)
    draw_figure(rows, f'PSNR in dB: mean of {sets}. Hollow: published figures.').save(content, 'PNG')
    write_whole(path, content.getvalue())


def _row(report: ScaleReport) -> list[Panel]:
    costs = {
        'parameters, K': {name: c.params / 1e3 for name, c in report.complexity.items()},
        'GMACs for 1280x720': {name: c.macs / 1e9 for name, c in report.complexity.items()},
    }
    for timed in report.speed:
        for form, found in timed.forms.items():
            costs[f'ms, {form}, {timed.size[0]}x{timed.size[1]}'] = {n: s.median_ms for n, s in found.nets.items()}
    of_papers = {'parameters, K': 'params', 'GMACs for 1280x720': 'gmacs'}
    panels = []
    for what, nets in costs.items():
        points = [Point(name, cost, psnr) for name, cost in nets.items() if (psnr := _measured(report, name))]
        if what in of_papers:
            points += _papers(report, of_papers[what])
        if points:
            panels.append(Panel(f'x{report.scale}: PSNR over {what}', _diagram(points)))
    return panels


def _measured(report: ScaleReport, name: str) -> float | None:
    sets = report.scores.get(name)
    return statistics.fmean(mean(pictures).psnr for pictures in sets.values()) if sets else None


def _papers(report: ScaleReport, attribute: str) -> list[Point]:
    known = {name: p for name, p in report.published.items() if name != BICUBIC}
    return [
        Point(p.net, cost, statistics.fmean(p.quality[s].psnr for s in report.items), True)
        for p in known.values()
        if (cost := getattr(p, attribute)) and report.items and all(s in p.quality for s in report.items)
    ]


# -- one diagram ------------------------------------------------------------------------------------------------------
def _diagram(points: Sequence[Point]) -> Image.Image:
    """Points with their names; cost is logarithmic."""
    image = Image.new('RGB', (_SIDE, _SIDE), 'white')
    draw = ImageDraw.Draw(image)
    xs, ys = _range([math.log10(p.cost) for p in points], 0.15), _range([p.psnr for p in points], 0.2)
    across = _scaled(xs, _LEFT, _SIDE - _EDGE)
    up = _scaled(ys, _SIDE - _EDGE, _EDGE // 2)
    for value in _round_costs(*xs):
        x = across(math.log10(value))
        draw.line([(x, up(ys[0])), (x, up(ys[1]))], '#e0e0e0')
        draw.text((x, _SIDE - _EDGE + 6), f'{value:g}', 'black', _font(), anchor='ma')
    for value in _round_values(*ys):
        draw.line([(across(xs[0]), up(value)), (across(xs[1]), up(value))], '#e0e0e0')
        draw.text((_LEFT - 6, up(value)), f'{value:.6g}', 'black', _font(), anchor='rm')
    draw.rectangle((_LEFT, _EDGE // 2, _SIDE - _EDGE, _SIDE - _EDGE), outline='black')
    places = [(across(math.log10(p.cost)), up(p.psnr)) for p in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for point, (x, y) in zip(points, places, strict=True):
        colour = _PUBLISHED if point.published else _MEASURED
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), None if point.published else colour, colour, 2)
        left, top, right, bottom = box = _free(draw, point.name, x, y, taken)
        middle = (top + bottom) / 2
        if abs(middle - y) > _TEXT:  # far from its point: a line leads there
            draw.line([(x, y), (left if left > x else right, middle)], colour)
        draw.text((left, middle), point.name, colour, _font(), anchor='lm')
        taken.append(box)
    return image


Box = tuple[float, float, float, float]


def _free(draw: ImageDraw.ImageDraw, name: str, x: float, y: float, taken: Sequence[Box]) -> Box:
    """Where a point's name covers nothing: beside the point, or above and below, ever farther away."""
    width = draw.textlength(name, _font())
    boxes = [
        (left, y + rise - _TEXT / 2, left + width, y + rise + _TEXT / 2)
        for step in range(12)
        for rise in (step * _TEXT, -step * _TEXT)
        for left in (x + 9, x - 9 - width)
    ]
    inside = [b for b in boxes if b[0] > _LEFT and b[2] < _SIDE - _EDGE and _EDGE / 2 < b[1] and b[3] < _SIDE - _EDGE]
    return next((b for b in inside if not any(_meet(b, other) for other in taken)), boxes[0])


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _range(values: Sequence[float], least: float) -> tuple[float, float]:
    """From below the lowest to above the highest, ``least`` on each side at least."""
    margin = max(least, 0.12 * (max(values) - min(values)))
    return min(values) - margin, max(values) + margin


def _scaled(values: tuple[float, float], first: float, last: float) -> Callable[[float], float]:
    low, high = values
    return lambda value: first + (value - low) / (high - low) * (last - first)


def _round_costs(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, of logarithms from low to high."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    return [v for power in powers for digit in (1, 2, 5) if low <= math.log10(v := digit * 10.0**power) <= high]


def _round_values(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, six of them at most."""
    power = 10.0 ** math.floor(math.log10((high - low) / 6))
    step = next(power * digit for digit in (1, 2, 5, 10) if (high - low) / (power * digit) <= 6)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT)
