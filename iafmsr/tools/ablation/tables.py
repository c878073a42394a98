"""The tables of a comparison, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from iafmsr.tools.benchmark.robustness import LEVELS, Robustness

__all__ = ['Results', 'difference', 'map_table', 'quality_table', 'robustness_table']

Results = Mapping[str, Sequence[dict[str, Any]]]  # a label, and what its runs gave: one for each seed


def _mean(values: Sequence[float], digits: int) -> str:
    """Mean, and standard deviation over seeds where there are several."""
    spread = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{statistics.fmean(values):.{digits}f}{spread}'


def difference(values: Mapping[int, float], reference: Mapping[int, float]) -> str:
    """Mean of the differences, paired by seed, and its standard error; under twice that it is a tie.

    Args:
        values: by seed.
        reference: by seed; a seed that is not in both takes no part.
    """
    differences = [value - reference[seed] for seed, value in values.items() if seed in reference]
    if not differences:
        return 'no seed in common'
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return f'{mean:+.3f} (one seed)'
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return f'{mean:+.3f} ± {error:.3f}' + (' (tie)' if abs(mean) < 2 * error else '')


def quality_table(by_label: Results, speed: bool = False) -> str:
    """PSNR / SSIM for each set that all runs have, and the difference of the mean PSNR over these sets from the first
    label's.

    Args:
        by_label: see :data:`Results`.
        speed: with iterations a second, which runs of one machine alone have in common.
    """
    first = next(iter(by_label))
    runs = [run for results in by_label.values() for run in results]
    names = [name for name in runs[0]['psnr'] if all(name in run['psnr'] for run in runs)]
    rows = [
        f'| options | params | GMACs |{" it/s |" * speed} {" | ".join(names)} | mean of the sets | difference |',
        '|---' * (len(names) + 5 + speed) + '|',
    ]
    means = {
        label: {r['seed']: statistics.fmean(r['psnr'][name] for name in names) for r in results}
        for label, results in by_label.items()
    }
    for label, results in by_label.items():
        sets = [
            f'{_mean([r["psnr"][n] for r in results], 2)} / {statistics.fmean(r["ssim"][n] for r in results):.4f}'
            for n in names
        ]
        rate = f' {statistics.fmean(r["it/s"] for r in results):.2f} |' if speed else ''
        rows.append(
            f'| {label} | {results[0]["params"]:,} | {results[0]["macs"] / 1e9:.2f} |{rate} {" | ".join(sets)} '
            f'| {_mean([*means[label].values()], 3)} '
            f'| {"" if label == first else difference(means[label], means[first])} |'
        )
    return '\n'.join(rows)


def map_table(by_label: Results) -> str:
    """Rank correlation with the error / share of the squared error in the top 5 %, of each net's map by its own error;
    below, the fixed filters by the first net's."""
    first = next(iter(by_label.values()))
    names = list(first[0]['maps'])
    rows = [f'| map | {" | ".join(names)} |', '|---' * (len(names) + 1) + '|']

    def row(title: str, results: Sequence[dict[str, Any]], name: str) -> str:
        cells = [' / '.join(_mean([r['maps'][n][name][i] for r in results], 3) for i in (0, 1)) for n in names]
        return f'| {title} | {" | ".join(cells)} |'

    rows += [row(label, results, 'map') for label, results in by_label.items() if 'map' in results[0]['maps'][names[0]]]
    rows += [row(name, first, name) for name in first[0]['maps'][names[0]] if name != 'map']
    return '\n'.join(rows)


def robustness_table(by_label: Results) -> str:
    """How nets treat drawn pictures (see :class:`Robustness`): means over seeds in the first two columns, the worst
    seed's figures in the others."""
    rows = [
        f'| options | flat pixels wrong by more than {LEVELS} levels | wrong backgrounds, of 27 '
        '| largest deviation of a solid picture, levels | values on drawings | values on checkerboards and noise |',
        '|---' * 6 + '|',
    ]
    for label, results in by_label.items():
        found = [Robustness(**r['robustness']) for r in results]
        ranges = [
            f'{min(low for low, _ in pairs):.2f} to {max(high for _, high in pairs):.2f}'
            for pairs in ([f.drawn_range for f in found], [f.pattern_range for f in found])
        ]
        rows.append(
            f'| {label} | {statistics.fmean(f.flat_off for f in found):.3%} '
            f'| {statistics.fmean(f.broken for f in found):.3g} | {max(f.solid_levels for f in found):.0f} '
            f'| {" | ".join(ranges)} |'
        )
    return '\n'.join(rows)
