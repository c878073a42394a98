"""A whole benchmark: what it measures, in which order, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from iafmsr.errors import UserError
from iafmsr.tools.benchmark.cache import Cache, code_digest
from iafmsr.tools.benchmark.nets import NetSpec, parse_nets
from iafmsr.tools.benchmark.published import Published, published
from iafmsr.tools.benchmark.quality import BICUBIC, PLAIN, How, Scores, measure_quality
from iafmsr.tools.benchmark.robustness import Robustness, robustness
from iafmsr.tools.benchmark.sets import BenchmarkSet, Item
from iafmsr.tools.benchmark.speed import Timed, measure_speed
from iafmsr.tools.env import processor
from iafmsr.tools.measure.complexity import Complexity, count

__all__ = ['ScaleReport', 'SpeedReport', 'SpeedTest', 'benchmark']


class SpeedTest(NamedTuple):
    """What is to be timed: forms of :data:`~iafmsr.tools.benchmark.forms.FORMS`, widths and heights of pictures (none:
    those that are enlarged to 1280x720), how many pictures, where."""

    forms: Sequence[str] = ()
    sizes: Sequence[tuple[int, int]] = ()
    pictures: int = 20
    device: torch.device = torch.device('cpu')


NO_SPEED = SpeedTest()


class SpeedReport(NamedTuple):
    """Nets at one size of pictures: their GMACs, and what was measured in each form."""

    size: tuple[int, int]
    gmacs: dict[str, float]
    forms: dict[str, Timed]


@dataclass(frozen=True)
class ScaleReport:
    """What was measured at one scale: by net, and for speed by size of the pictures."""

    scale: int
    specs: list[NetSpec]
    items: dict[str, list[Item]]
    complexity: dict[str, Complexity]
    scores: Scores
    device: str
    speed: list[SpeedReport]
    processor: str
    published: dict[str, Published] = field(default_factory=dict)
    robustness: dict[str, Robustness] = field(default_factory=dict)
    how: How = PLAIN


def benchmark(
    entries: Sequence[str],
    sets: Sequence[BenchmarkSet],
    scales: Sequence[int],
    root: Path,
    cache: Cache,
    device: torch.device,
    speed: SpeedTest = NO_SPEED,
    others: Sequence[str] = (),
    drawn: bool = False,
    how: How = PLAIN,
) -> list[ScaleReport]:
    """Measure nets at each scale; names and files are checked for all scales before anything is computed.

    Args:
        entries: nets, see :mod:`iafmsr.tools.benchmark.nets`; at ``scales``, one or more, on benchmark ``sets``.
        root: repository root, from which paths in option files count.
        cache: of results; device: for quality.
        speed: what is timed.
        others: further nets whose published figures are wanted.
        drawn: whether drawn pictures are measured too; how: quality is measured.

    Raises:
        UserError: whatever is wrong with a net, a set or a picture.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
    plans = [
        (scale, parse_nets(list(entries), scale, root), {s.name: s.items(scale) for s in sets}) for scale in scales
    ]
    reports = []
    for scale, specs, items in plans:
        complexity = {spec.name: _complexity(spec, cache) for spec in specs}
        scores = measure_quality(specs, items, device, cache, how)
        timed = _speed(specs, scale, speed, cache) if specs and speed.forms else []
        known = {n: p for n in (BICUBIC, *(spec.name for spec in specs), *others) if (p := published(n, scale))}
        treated = {spec.name: _robustness(spec, cache) for spec in specs if drawn and spec.weights}
        on = processor(device), processor(speed.device)
        reports.append(ScaleReport(scale, specs, items, complexity, scores, on[0], timed, on[1], known, treated, how))
    return reports


def _speed(specs: Sequence[NetSpec], scale: int, test: SpeedTest, cache: Cache) -> list[SpeedReport]:
    found = []
    for size in test.sizes or [(-(-1280 // scale), -(-720 // scale))]:
        output = scale * size[0], scale * size[1]
        gmacs = {spec.name: _complexity(spec, cache, output).macs / 1e9 for spec in specs}
        forms = {form: measure_speed(specs, form, size, test.device, cache, test.pictures) for form in test.forms}
        found.append(SpeedReport(size, gmacs, forms))
    return found


def _complexity(spec: NetSpec, cache: Cache, output: tuple[int, int] = (1280, 720)) -> Complexity:
    subject = f'{code_digest("iafmsr.tools.measure.complexity", spec.module)} {spec.key} {output}'

    def measure() -> Complexity:
        try:
            return count(spec.build(), spec.scale, output)
        except (RuntimeError, NotImplementedError):  # its way depends on values, which the meta device has none of
            try:
                return count(spec.build(), spec.scale, output, 'cpu')
            except RuntimeError as error:
                raise UserError(
                    f'{spec.name}: its operations cannot be counted: {str(error).splitlines()[0]}'
                ) from None

    return cache.remembered(subject, 'complexity', Complexity, measure)


def _robustness(spec: NetSpec, cache: Cache) -> Robustness:
    subject = f'{code_digest("iafmsr.tools.benchmark.robustness", spec.module)} {spec.key}'

    def measure() -> Robustness:
        try:
            return robustness(spec.build(), spec.scale)
        except RuntimeError as error:
            raise UserError(f'{spec.name} on drawn pictures: {str(error).splitlines()[0]}') from None

    return cache.remembered(subject, 'robustness', Robustness, measure)
