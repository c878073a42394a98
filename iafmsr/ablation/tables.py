"""The tables of a comparison, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from iafmsr.benchmark.robustness import LEVELS, Robustness

__all__ = ['difference', 'map_table', 'quality_table', 'robustness_table']


def _mean(values: Sequence[float], digits: int) -> str:
    """Mean, and standard deviation over seeds where there are several."""
    spread = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{statistics.fmean(values):.{digits}f}{spread}'


def difference(values: Sequence[float], reference: Sequence[float]) -> str:
    """Mean of the differences, paired by seed, and its standard error; under twice that it is a tie."""
    differences = [a - b for a, b in zip(values, reference, strict=True)]
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return f'{mean:+.3f} (one seed)'
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return f'{mean:+.3f} ± {error:.3f}' + (' (tie)' if abs(mean) < 2 * error else '')


def quality_table(by_label: dict[str, list[dict[str, Any]]]) -> str:
    """PSNR / SSIM for each set, and the difference of the mean PSNR over the sets from the first file's."""
    first = next(iter(by_label.values()))
    names = list(first[0]['psnr'])
    rows = [f'| options | params | GMACs | it/s | {" | ".join(names)} | mean of the sets | difference |',
            '|---' * (len(names) + 6) + '|']

    def means(results: list[dict[str, Any]]) -> list[float]:
        return [statistics.fmean(r['psnr'].values()) for r in results]

    for stem, results in by_label.items():
        sets = [f'{_mean([r["psnr"][n] for r in results], 2)} / {statistics.fmean(r["ssim"][n] for r in results):.4f}'
                for n in names]
        rows.append(f'| {stem} | {results[0]["params"]:,} | {results[0]["macs"] / 1e9:.2f} '
                    f'| {statistics.fmean(r["it/s"] for r in results):.2f} | {" | ".join(sets)} '
                    f'| {_mean(means(results), 3)} '
                    f'| {"" if results is first else difference(means(results), means(first))} |')
    return '\n'.join(rows)


def map_table(by_label: dict[str, list[dict[str, Any]]]) -> str:
    """Rank correlation with the error / share of the squared error in the top 5 %, of each net's map by its own error;
    below, the fixed filters by the first net's."""
    first = next(iter(by_label.values()))
    names = list(first[0]['maps'])
    rows = [f'| map | {" | ".join(names)} |', '|---' * (len(names) + 1) + '|']

    def row(title: str, results: list[dict[str, Any]], name: str) -> str:
        cells = [' / '.join(_mean([r['maps'][n][name][i] for r in results], 3) for i in (0, 1)) for n in names]
        return f'| {title} | {" | ".join(cells)} |'

    rows += [row(stem, results, 'map') for stem, results in by_label.items() if 'map' in results[0]['maps'][names[0]]]
    rows += [row(name, first, name) for name in first[0]['maps'][names[0]] if name != 'map']
    return '\n'.join(rows)


def robustness_table(by_label: dict[str, list[dict[str, Any]]]) -> str:
    """How nets treat drawn pictures (see :class:`Robustness`): means over seeds in the first two columns, the worst
    seed's figures in the others."""
    rows = [f'| options | flat pixels off by more than {LEVELS} levels | backgrounds that break, of 27 '
            '| largest deviation of a solid picture, levels | values on drawings | values on checkerboards and noise |',
            '|---' * 6 + '|']
    for stem, results in by_label.items():
        found = [Robustness(**r['robustness']) for r in results]
        ranges = [f'{min(low for low, _ in pairs):.2f} to {max(high for _, high in pairs):.2f}'
                  for pairs in ([f.drawn_range for f in found], [f.pattern_range for f in found])]
        rows.append(f'| {stem} | {statistics.fmean(f.flat_off for f in found):.3%} '
                    f'| {statistics.fmean(f.broken for f in found):.3g} | {max(f.solid_levels for f in found):.0f} '
                    f'| {" | ".join(ranges)} |')
    return '\n'.join(rows)
