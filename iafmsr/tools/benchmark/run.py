"""A whole benchmark: what it measures, in which order, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from iafmsr.errors import UserError
from iafmsr.tools.benchmark.cache import Cache, code_digest
from iafmsr.tools.benchmark.nets import NetSpec, parse_nets
from iafmsr.tools.benchmark.published import Published, published
from iafmsr.tools.benchmark.quality import BICUBIC, PLAIN, How, Scores, measure_quality
from iafmsr.tools.benchmark.robustness import Robustness, robustness
from iafmsr.tools.benchmark.sets import BenchmarkSet, Item
from iafmsr.tools.benchmark.speed import Speed, measure_speed
from iafmsr.tools.env import processor
from iafmsr.tools.measure.complexity import Complexity, count

__all__ = ['ScaleReport', 'benchmark']


@dataclass(frozen=True)
class ScaleReport:
    """What was measured at one scale: by net, and for speed by device."""

    scale: int
    specs: list[NetSpec]
    items: dict[str, list[Item]]
    complexity: dict[str, Complexity]
    scores: Scores
    device: str
    speed: dict[str, dict[str, Speed]]
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
    speed_on: Sequence[torch.device] = (),
    others: Sequence[str] = (),
    drawn: bool = False,
    how: How = PLAIN,
) -> list[ScaleReport]:
    """Measure nets at each scale; names and files are checked for all scales before anything is computed.

    Args:
        entries: nets, see :mod:`iafmsr.tools.benchmark.nets`; at ``scales``, one or more, on benchmark ``sets``.
        root: repository root, from which paths in option files count.
        cache: of results; device: for quality.
        speed_on: devices on which runtime and memory are measured; none for no such table.
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
        speed = {f'{d.type.upper()}: {processor(d)}': measure_speed(specs, scale, d, cache) for d in speed_on if specs}
        known = {n: p for n in (BICUBIC, *(spec.name for spec in specs), *others) if (p := published(n, scale))}
        treated = {spec.name: _robustness(spec, cache) for spec in specs if drawn and spec.weights}
        reports.append(
            ScaleReport(scale, specs, items, complexity, scores, processor(device), speed, known, treated, how)
        )
    return reports


def _complexity(spec: NetSpec, cache: Cache) -> Complexity:
    subject = f'{code_digest("iafmsr.tools.measure.complexity", spec.module)} {spec.key}'

    def measure() -> Complexity:
        try:
            return count(spec.build(), spec.scale)
        except (RuntimeError, NotImplementedError):  # its way depends on values, which the meta device has none of
            try:
                return count(spec.build(), spec.scale, device='cpu')
            except RuntimeError as error:
                raise UserError(f'{spec.name}: cannot be counted: {str(error).splitlines()[0]}') from None

    return cache.remembered(subject, 'complexity', Complexity, measure)


def _robustness(spec: NetSpec, cache: Cache) -> Robustness:
    subject = f'{code_digest("iafmsr.tools.benchmark.robustness", spec.module)} {spec.key}'

    def measure() -> Robustness:
        try:
            return robustness(spec.build(), spec.scale)
        except RuntimeError as error:
            raise UserError(f'{spec.name} on drawn pictures: {str(error).splitlines()[0]}') from None

    return cache.remembered(subject, 'robustness', Robustness, measure)
