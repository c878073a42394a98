"""Whole networks on one picture: time and memory, beside the time that their arithmetic alone would take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from iafmsr.tools.benchmark.cache import Cache
from iafmsr.tools.benchmark.nets import parse_nets
from iafmsr.tools.benchmark.speed import Speed, measure_speed, now
from iafmsr.tools.benchmark.tables import Table
from iafmsr.tools.env import processor
from iafmsr.tools.measure.complexity import count

__all__ = ['NETS', 'Measured', 'as_json', 'measure', 'table']

NETS = (
    'IAFMNet',
    'IAFMNet-dense:type=IAFMNet,sparse_backend=dense',
    'SAFMN',
    'SMFANet',
    'EDSR-44:type=EDSR,num_feat=44,num_block=16',
)  # of IMDN's size: 0.7 M parameters
_MATRIX, _PRODUCTS = 1024, 10


@dataclass(frozen=True)
class Measured:
    """A net at an input size; ``floor_ms`` is the time of its multiply-accumulates in a large matrix product."""

    net: str
    gmacs: float
    floor_ms: float
    speed: Speed


def measure(
    entries: Sequence[str], scale: int, size: tuple[int, int], device: torch.device, pictures: int, root: Path
) -> list[Measured]:
    """Let nets take turns on pictures of seeded noise.

    Args:
        entries: nets, as of :mod:`iafmsr.tools.benchmark.nets`.
        scale: theirs.
        size: width and height of the input.
        device: where they run, in float32; on the CPU with torch's number of threads.
        pictures: that count; 5 more warm up.
        root: repository root.
    """
    output = scale * size[0], scale * size[1]
    specs = parse_nets(list(entries), scale, root)
    speed = measure_speed(specs, scale, device, Cache(None), pictures, output)
    rate = _multiplications_a_second(device)
    macs = {spec.name: count(spec.build(), scale, output).macs for spec in specs}
    return [Measured(name, macs[name] / 1e9, 1000 * macs[name] / rate, speed[name]) for name in speed]


def _multiplications_a_second(device: torch.device) -> float:
    """Multiply-accumulates a second of a matrix product that is bound by nothing else: the fastest of some."""
    a, b = torch.rand(2, _MATRIX, _MATRIX, device=device)
    best = float('inf')
    for _ in range(_PRODUCTS):
        start = now(device)
        a @ b
        best = min(best, now(device) - start)
    return _MATRIX**3 / best


def table(found: Sequence[Measured], scale: int, size: tuple[int, int], device: torch.device) -> Table:
    """One row a net; each is compared with all."""
    names = [m.net for m in found]
    rows = [['net', 'GMACs', 'floor, ms', 'ms', 'quartiles', 'peak MiB', *(f'/ {name}' for name in names)]]
    for m in found:
        rows.append(
            [
                m.net,
                f'{m.gmacs:.2f}',
                f'{m.floor_ms:.0f}',
                f'{m.speed.median_ms:.0f}',
                '{:.0f} to {:.0f}'.format(*m.speed.quartiles_ms),
                f'{m.speed.peak_mib:.0f}',
                *(f'{m.speed.median_ms / other.speed.median_ms:.2f}' for other in found),
            ]
        )
    return Table(
        f'x{scale}, {size[0]}x{size[1]}',
        f'On {processor(device)}. Floor: the multiply-accumulates at the '
        'rate of a large matrix product. / NET: time over that of NET.',
        rows,
    )


def as_json(results: Sequence[tuple[int, tuple[int, int], list[Measured]]], device: torch.device, command: str) -> str:
    """Everything that was measured, in full precision."""
    content = {
        'command': command,
        'processor': processor(device),
        'torch': torch.__version__,
        'results': [
            {'scale': scale, 'size': size, 'nets': [asdict(m) for m in found]} for scale, size, found in results
        ],
    }
    return json.dumps(content, indent=1)
