"""How well each map follows the error, over one picture or many, as text and JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from iafmsr.inspection.picture import Inspection
from iafmsr.measure.quality import Quality

__all__ = ['Figures', 'as_json', 'as_text']


@dataclass(frozen=True)
class Figures:
    """What is kept of an :class:`~iafmsr.inspection.picture.Inspection` when its pictures are gone."""

    name: str
    quality: dict[str, Quality]
    correlation: dict[str, float]
    history_correlation: dict[int, float]

    @classmethod
    def of(cls, found: Inspection) -> Figures:
        return cls(found.name, found.quality, found.correlation, found.history_correlation)


def as_text(figures: Sequence[Figures]) -> str:
    """A line a picture, and their mean: rank correlation of each map with the error."""
    rows = [(each.name, list(each.correlation.values())) for each in figures]
    if len(rows) > 1:
        rows.append(('mean', [statistics.fmean(column) for column in zip(*(row for _, row in rows), strict=True)]))
    width = max(7, *(len(name) for name, _ in rows))
    heads = list(figures[0].correlation)
    lines = ['Rank correlation (Spearman) with |HR - result| of Y', '', f'{"picture":{width}}  ' + '  '.join(heads)]
    lines += [
        f'{name:{width}}  ' + '  '.join(f'{value:{len(head)}.3f}' for head, value in zip(heads, row, strict=True))
        for name, row in rows
    ]
    history = {
        n: statistics.fmean(each.history_correlation[n] for each in figures) for n in figures[0].history_correlation
    }
    if history:
        lines += ['', 'IDM during training', *(f'{n:>9,} iterations  {value:.3f}' for n, value in history.items())]
    return '\n'.join(lines)


def as_json(figures: Sequence[Figures], weights: str, scale: int) -> str:
    """The same by name, with PSNR and SSIM of each picture."""
    return json.dumps(
        {
            'weights': weights,
            'scale': scale,
            'pictures': [asdict(each) for each in figures],
            'mean': {
                name: statistics.fmean(each.correlation[name] for each in figures) for name in figures[0].correlation
            },
        },
        indent=1,
    )
