"""The tables of a benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from iafmsr.tools.benchmark.forms import FORMS
from iafmsr.tools.benchmark.quality import BICUBIC
from iafmsr.tools.benchmark.robustness import LEVELS
from iafmsr.tools.benchmark.run import ScaleReport, SpeedReport
from iafmsr.tools.benchmark.speed import Speed
from iafmsr.tools.measure.quality import Quality

__all__ = ['Table', 'all_differences', 'difference', 'floor_ms', 'mean', 'ratio', 'tables']


@dataclass(frozen=True)
class Table:
    """A title, a line on how to read it, and rows of cells of which the first is the head."""

    title: str
    note: str
    rows: list[list[str]]


@dataclass(frozen=True)
class Difference:
    """Of two nets over the pictures of a set, in dB: mean, standard deviation over pictures, the mean's standard
    error, on how many pictures it is above zero, and how many there are."""

    mean: float
    spread: float
    error: float
    wins: int
    pictures: int


def difference(net: dict[str, Quality], reference: dict[str, Quality]) -> Difference:
    """PSNR of a net less that of another, picture by picture."""
    differences = [quality.psnr - reference[name].psnr for name, quality in net.items()]
    n = len(differences)
    spread = statistics.stdev(differences) if n > 1 else 0.0
    return Difference(statistics.fmean(differences), spread, spread / n**0.5, sum(d > 0 for d in differences), n)


def tables(report: ScaleReport, per_picture: bool = False) -> list[Table]:
    """The tables of one scale."""
    found = [_quality(report)] + ([_differences(report)] if len(_measured(report)) > 2 else [])
    found += [_other(report, metric) for metric in report.how.metrics]
    found += [_robustness(report)] if report.robustness else []
    found += [table for timed in report.speed for table in (_times(report, timed), _memory(report, timed))]
    return found + ([_pictures(report, name) for name in report.items] if per_picture else [])


# -- quality ----------------------------------------------------------------------------------------------------------
def _quality(report: ScaleReport) -> Table:
    """Measured, published and their difference, three lines to a net."""
    rows = [['net', 'params, K', 'GMACs', 'M activations', *report.items]]
    names = [BICUBIC, *(spec.name for spec in report.specs)]
    for name in [*names, *(n for n in report.published if n not in names)]:
        if name in names:
            means = {s: mean(pictures) for s, pictures in report.scores.get(name, {}).items()}
            rows.append([name, *_costs(report, name), *(_figures(means.get(s)) for s in report.items)])
        if name in report.published:
            paper = report.published[name]
            label = '  published' if name in names else f'{paper.net}, published'
            rows.append(
                [
                    label,
                    *(f'{value:,.4g}' if value else '-' for value in (paper.params, paper.gmacs, paper.activations)),
                    *(_figures(paper.quality.get(s)) for s in report.items),
                ]
            )
            if name in names and any(s in paper.quality and s in means for s in report.items):
                rows.append(
                    ['  difference', '', '', '', *(_gap(means.get(s), paper.quality.get(s)) for s in report.items)]
                )
    sources = '; '.join(dict.fromkeys(figures.source for figures in report.published.values()))
    cited = f' Published: {sources}.' if sources else ''
    counts = ', '.join(f'{name} {len(items)}' for name, items in report.items.items())
    return Table(
        f'x{report.scale}: PSNR / SSIM',
        f'Y channel, {_cropped(report)}; multiply-accumulates and activations for an output of '
        f'1280x720; pictures: {counts}; on {report.device}.{cited}',
        rows,
    )


def _cropped(report: ScaleReport) -> str:
    """How it was measured."""
    border = report.scale if report.how.border is None else report.how.border
    return f'{border} pixels cropped' + (', means over 8 flips and rotations' if report.how.ensemble else '')


def _other(report: ScaleReport, metric: str) -> Table:
    rows = [['net', *report.items]]
    for name, sets in report.scores.items():
        rows.append([name, *(f'{mean(sets[s]).others[metric]:.4f}' for s in report.items)])
    better = 'Higher' if metric == 'fsim' else 'Lower'
    of = 'Y channel' if metric == 'niqe' else 'RGB'
    return Table(f'x{report.scale}: {metric.upper()}', f'{of}, {_cropped(report)}. {better} is better.', rows)


def _costs(report: ScaleReport, name: str) -> list[str]:
    if name not in report.complexity:
        return ['-'] * 3
    c = report.complexity[name]
    return [f'{c.params / 1e3:,.1f}', f'{c.macs / 1e9:.3f}', f'{c.activations / 1e6:.1f}']


def _figures(quality: Quality | None) -> str:
    return f'{quality.psnr:.2f} / {quality.ssim:.4f}' if quality else '-'


def _signed(value: float, digits: int) -> str:
    """With its sign, and no -0.000."""
    return f'{round(value, digits) + 0.0:+.{digits}f}'


def _gap(measured: Quality | None, paper: Quality | None) -> str:
    if not measured or not paper:
        return ''
    return f'{_signed(measured.psnr - paper.psnr, 3)} / {_signed(measured.ssim - paper.ssim, 4)}'


def mean(pictures: dict[str, Quality]) -> Quality:
    all_of = list(pictures.values())
    psnr, ssim = statistics.fmean(q.psnr for q in all_of), statistics.fmean(q.ssim for q in all_of)
    return Quality(psnr, ssim, {key: statistics.fmean(q.others[key] for q in all_of) for key in all_of[0].others})


# -- pairs ------------------------------------------------------------------------------------------------------------
def _measured(report: ScaleReport) -> list[str]:
    return list(report.scores)


def all_differences(report: ScaleReport) -> dict[str, dict[str, Difference]]:
    """Of every net from the first one named."""
    names = [name for name in report.scores if name != BICUBIC]
    return {
        name: {s: difference(pictures, report.scores[names[0]][s]) for s, pictures in report.scores[name].items()}
        for name in names[1:]
    }


def _differences(report: ScaleReport) -> Table:
    reference = next(name for name in report.scores if name != BICUBIC)
    rows = [['net', *report.items]]
    rows += [
        [name, *(f'{_signed(d.mean, 3)} ± {d.spread:.3f} ({d.wins}/{d.pictures})' for d in sets.values())]
        for name, sets in all_differences(report).items()
    ]
    return Table(
        f'x{report.scale}: PSNR minus that of {reference}, picture by picture',
        'Mean ± standard deviation over the pictures, in dB (on how many of them it is above zero).',
        rows,
    )


# -- drawn pictures ---------------------------------------------------------------------------------------------------
def _robustness(report: ScaleReport) -> Table:
    rows = [['net', 'wrong flat pixels', 'wrong backgrounds', 'solid, levels', 'drawings', 'checkerboards, noise']]
    rows += [
        [
            name,
            f'{r.flat_off:.3%}',
            f'{r.broken}',
            f'{r.solid_levels:.0f}',
            *(f'{low:.2f} to {high:.2f}' for low, high in (r.drawn_range, r.pattern_range)),
        ]
        for name, r in report.robustness.items()
    ]
    return Table(
        f'x{report.scale}: drawn pictures',
        f'Share of flat pixels that are wrong by more than {LEVELS} of 255 levels; how many of 27 backgrounds with a '
        'word are wrong; largest deviation of solid pictures; range of the values before they are cut to [0, 1].',
        rows,
    )


# -- speed ------------------------------------------------------------------------------------------------------------
REFERENCE = 'SAFMN'  # the net to whose time those of the others are compared, where it is among them


def ratio(timed: Mapping[str, Speed], net: str) -> float:
    """Time of a net over that of SAFMN, or else of the first net, in the same form."""
    return timed[net].median_ms / timed[REFERENCE if REFERENCE in timed else next(iter(timed))].median_ms


def floor_ms(report: SpeedReport, form: str, net: str) -> float:
    """Time of the multiply-accumulates of a net alone, at the rate of a large matrix product."""
    return 1000 * report.gmacs[net] / report.forms[form].gmacs_per_s


def _times(report: ScaleReport, timed: SpeedReport) -> Table:
    paper = {name: p for name, p in report.published.items() if p.ms}
    floors: dict[str, str] = {}  # a form of each precision
    for form in timed.forms:
        floors.setdefault(f'floor, {FORMS[form][1]}', form)
    rows = [['net', 'GMACs', *floors, *timed.forms, *(['published, ms'] if paper else [])]]
    for name, gmacs in timed.gmacs.items():
        least = [f'{floor_ms(timed, form, name):.0f}' for form in floors.values()]
        found = [_time(form.nets, name) for form in timed.forms.values()]
        known = [f'{paper[name].ms:.2f}' if name in paper else '-'] if paper else []
        rows.append([name, f'{gmacs:.2f}', *least, *found, *known])
    speeds = [speed for form in timed.forms.values() for speed in form.nets.values()]
    spread = max((max(abs(q / s.median_ms - 1) for q in s.quartiles_ms) for s in speeds), default=0.0)
    reference = REFERENCE if REFERENCE in timed.gmacs else next(iter(timed.gmacs))
    return Table(
        f'x{report.scale}, {timed.size[0]}x{timed.size[1]}: time of a picture, ms',
        f'Medians (in parentheses: divided by that of {reference}); quartiles within {spread:.0%} of them. Floor: time '
        f'of the multiply-accumulates at the speed of a large matrix product. On {report.processor}'
        f'{"; published: RTX 3090" if paper else ""}.',
        rows,
    )


def _time(nets: Mapping[str, Speed], name: str) -> str:
    return f'{nets[name].median_ms:.0f} ({ratio(nets, name):.2f})' if name in nets else '-'


def _memory(report: ScaleReport, timed: SpeedReport) -> Table:
    rows = [['net', *timed.forms]]
    for name in timed.gmacs:
        peaks = [form.nets[name].peak_mib if name in form.nets else None for form in timed.forms.values()]
        rows.append([name, *('-' if peak is None else f'{peak:.0f}' for peak in peaks)])
    return Table(
        f'x{report.scale}, {timed.size[0]}x{timed.size[1]}: peak memory, MiB',
        'Memory of the process while it computes a picture, minus its memory before the net was loaded.',
        rows,
    )


# -- pictures ---------------------------------------------------------------------------------------------------------
def _pictures(report: ScaleReport, set_name: str) -> Table:
    names = _measured(report)
    rows = [['picture', *names]]
    rows += [
        [item.name, *(_figures(report.scores[name][set_name][item.name]) for name in names)]
        for item in report.items[set_name]
    ]
    return Table(f'x{report.scale}: {set_name}, each picture', '', rows)
