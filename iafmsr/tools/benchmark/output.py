"""Tables as aligned text and as Markdown, and all that was measured as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from iafmsr.tools.benchmark.run import ScaleReport, SpeedReport
from iafmsr.tools.benchmark.tables import Table, all_differences, floor_ms, mean, ratio

__all__ = ['as_json', 'as_markdown', 'as_text']


def as_text(found: Sequence[Table]) -> str:
    """Columns aligned by spaces."""
    blocks = []
    for table in found:
        widths = [max(map(len, column)) for column in zip(*table.rows, strict=True)]
        lines = [
            '  '.join(
                [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            )
            for row in table.rows
        ]
        blocks.append('\n'.join([table.title, *([table.note] if table.note else []), '', *lines]))
    return '\n\n'.join(blocks)


def as_markdown(found: Sequence[Table], command: str) -> str:
    """A document whose first words are the command that made it."""
    blocks = [f'# Benchmark\n\nMade by\n\n    {command}']
    for table in found:
        lines = ['| ' + ' | '.join(row) + ' |' for row in table.rows]
        lines.insert(1, '|---|' + '---:|' * (len(table.rows[0]) - 1))
        blocks.append('\n'.join([f'## {table.title}', '', *([table.note, ''] if table.note else []), *lines]))
    return '\n\n'.join(blocks) + '\n'


def as_json(reports: Sequence[ScaleReport], command: str) -> str:
    """Everything that was measured, picture by picture, in full precision."""
    content = {'command': command, 'torch': torch.__version__, 'scales': [_plain(report) for report in reports]}
    return json.dumps(content, indent=1)


def _plain(report: ScaleReport) -> dict[str, Any]:
    nets = [
        {
            'net': name,
            'sets': {
                set_name: {
                    'mean': mean(pictures).by_name(),
                    'pictures': {picture: quality.by_name() for picture, quality in pictures.items()},
                }
                for set_name, pictures in sets.items()
            },
        }
        for name, sets in report.scores.items()
    ]
    return {
        'scale': report.scale,
        'device': report.device,
        'quality': nets,
        'complexity': {name: c._asdict() for name, c in report.complexity.items()},
        'speed': _speed(report),
        'differences': {
            name: {s: asdict(d) for s, d in sets.items()} for name, sets in all_differences(report).items()
        },
        'robustness': {name: asdict(r) for name, r in report.robustness.items()},
        'published': {
            name: asdict(figures) | {'quality': {s: quality.by_name() for s, quality in figures.quality.items()}}
            for name, figures in report.published.items()
        },
    }


def _speed(report: ScaleReport) -> list[dict[str, Any]]:
    return [
        {
            'size': timed.size,
            'processor': report.processor,
            'form': form,
            'gmacs_per_s': found.gmacs_per_s,
            'nets': {name: asdict(speed) | _compared(timed, form, name) for name, speed in found.nets.items()},
        }
        for timed in report.speed
        for form, found in timed.forms.items()
    ]


def _compared(timed: SpeedReport, form: str, net: str) -> dict[str, float]:
    return {
        'gmacs': timed.gmacs[net],
        'floor_ms': floor_ms(timed, form, net),
        'ratio': ratio(timed.forms[form].nets, net),
    }
