"""What runs have given: one table of results, and the tables that documents make of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.files.whole import write_whole
from iafmsr.tools.ablation.tables import map_table, quality_table, robustness_table

__all__ = ['DOCUMENT', 'KEPT', 'fill', 'keep', 'read']

Result = dict[str, Any]
KEPT, DOCUMENT = Path('docs/ablation.json'), Path('docs/experiments.md')  # from the repository root
_TABLES = {'quality': quality_table, 'maps': map_table, 'robustness': robustness_table}
# <!-- quality, 1000 iterations: base no_map -->, and the table up to the next empty line
_PLACE = re.compile(r'(<!-- (?P<kind>\w+), (?P<iterations>\d+) iterations: (?P<labels>[^>]+?) -->\n)(?:\|.*\n)*')
_KEYS = {'label', 'digest', 'iterations', 'seed'}
_DIGITS = 5  # after the point


def read(file: Path) -> dict[str, Result]:
    """The results of a file by the names of their runs; none where there is no file.

    A result has ``label`` (what tables call it), ``digest`` (of the options), ``iterations``, ``seed`` and what
    :func:`measure` gives. A label with a stroke, such as ``adam/bits``, is of a time when the base was another.

    Raises:
        UserError: it is no file of results.
    """
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding='utf-8'))
    except ValueError as error:
        raise UserError(f'{printable(file)}: not a file of results ({error})') from None
    if not isinstance(found, dict) or not all(isinstance(r, dict) and _KEYS <= r.keys() for r in found.values()):
        raise UserError(f'{printable(file)}: not a file of results: each result must have {", ".join(sorted(_KEYS))}')
    return found


def keep(root: Path, results: dict[str, Result]) -> None:
    """Add results to the file of results, a line for each run, and make the document's tables anew.

    A run's old result gives way. Results of the same label and iterations by other options stay, under the label
    ``DIGEST/LABEL``.

    Args:
        root: repository root.
        results: by the names of their runs; may be none.

    Raises:
        UserError: a file cannot be written, or a table of the document has no results; nothing is changed then.
    """
    new = {(result['label'], result['iterations']): result['digest'] for result in results.values()}
    everything = read(root / KEPT)
    for result in everything.values():
        if new.get((result['label'], result['iterations']), result['digest']) != result['digest']:
            result['label'] = f'{result["digest"]}/{result["label"]}'
    everything |= {name: _rounded(result) for name, result in results.items()}
    lines = [f'{json.dumps(name)}: {json.dumps(everything[name])}' for name in sorted(everything)]
    document = fill((root / DOCUMENT).read_text(encoding='utf-8'), everything.values())
    write_whole(root / KEPT, ('{\n' + ',\n'.join(lines) + '\n}\n').encode())
    write_whole(root / DOCUMENT, document.encode())


def fill(text: str, results: Iterable[Result]) -> str:
    """A Markdown document with its tables of results made anew.

    A table stands below a line ``<!-- KIND, N iterations: LABEL LABEL ... -->``, where KIND is quality, maps or
    robustness. It has all seeds of the labels; differences are paired by seed, from the first label.

    Raises:
        UserError: such a line names an unknown kind, or a label that has no result of so many iterations.
    """
    found = list(results)

    def table(place: re.Match[str]) -> str:
        kind, iterations = place['kind'], int(place['iterations'])
        if kind not in _TABLES:
            raise UserError(f'{place[1].strip()}: {kind!r} must be one of {", ".join(_TABLES)}')
        by_label = {
            label: sorted(
                (r for r in found if (r['label'], r['iterations']) == (label, iterations)),
                key=lambda result: result['seed'],
            )
            for label in place['labels'].split()
        }
        for label, runs in by_label.items():
            if not runs:
                raise UserError(f'{place[1].strip()}: no result of {label}')
        return f'{place[1]}{_TABLES[kind](by_label)}\n'

    return _PLACE.sub(table, text)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(child) for child in value]
    return round(value, _DIGITS) if isinstance(value, float) else value
