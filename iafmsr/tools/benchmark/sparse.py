"""Time of the submanifold convolution by backend, layout, share of active sites and size."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from iafmsr.files.photographs import photograph
from iafmsr.files.reading import read_picture
from iafmsr.layers.density import top_k_mask
from iafmsr.nets.building import build
from iafmsr.nets.files import NamedFile
from iafmsr.nets.loading import load_net
from iafmsr.nets.trained import in_rgb
from iafmsr.ops.crossover import choose_backend
from iafmsr.ops.rulebook import spconv_installed
from iafmsr.ops.sites import ActiveSites
from iafmsr.ops.submanifold import submanifold_conv2d
from iafmsr.tools.benchmark.tables import Table
from iafmsr.tools.env import processor
from iafmsr.tools.measure.machine import now

__all__ = ['Case', 'Timing', 'as_json', 'crossovers', 'density_map', 'measure', 'tables']

LAYOUTS = {'NCHW': torch.contiguous_format, 'channels_last': torch.channels_last}
_MIN_ROUNDS, _MAX_ROUNDS = 3, 15


@dataclass(frozen=True)
class Case:
    """A 3x3 convolution of ``channels`` on one picture; ``mask`` is ``idm`` or ``random``; with or without gradients
    in x and weight."""

    width: int
    height: int
    channels: int
    share: float
    mask: str
    gradient: bool


Way = tuple[Case | None, str]  # a backend and layout, of one case or (None) of all; or what is built once


@dataclass(frozen=True)
class Timing:
    """Milliseconds: medians, with their quartiles, by backend and layout; ``table_ms`` of what is built once a picture.

    ``auto`` is the backend that auto chooses.
    """

    case: Case
    ms: dict[str, float]
    quartiles: dict[str, tuple[float, float]]
    table_ms: float
    auto: str

    @property
    def speedup(self) -> float:
        """The best dense layout's time over that of gather (or spconv) in its best."""
        return self._best('dense') / min(self._best(name) for name in self._backends() if name != 'dense')

    @property
    def auto_ratio(self) -> float:
        """The time of what auto chooses over that of the best dense layout, auto in its best layout too."""
        return self._best(self.auto) / self._best('dense')

    def _backends(self) -> set[str]:
        return {name.partition(' ')[0] for name in self.ms}

    def _best(self, backend: str) -> float:
        return min(value for name, value in self.ms.items() if name.startswith(backend))


def density_map(weights: NamedFile | None, width: int, height: int) -> Tensor:
    """The map (1, 1, H, W) of a photograph, mirrored where it is too small, by weights or an untrained estimator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net: Any = load_net(*weights).net if weights else build('IAFMNet', {'type': 'IAFMNet', 'ide': 'moments'}).eval()
    picture = read_picture(photograph('coffee.png')) / 255
    mirrored = torch.cat([picture, picture.flip(2)], dim=2)
    mirrored = torch.cat([mirrored, mirrored.flip(1)], dim=1)
    copies = -(-height // mirrored.shape[1]), -(-width // mirrored.shape[2])
    with torch.no_grad():
        return in_rgb(net).local_map(mirrored.repeat(1, *copies)[None, :, :height, :width])


def measure(
    sizes: Sequence[tuple[int, int]],
    channels: Sequence[int],
    shares: Sequence[float],
    device: torch.device,
    weights: NamedFile | None,
    seconds: float,
) -> Iterator[Timing]:
    """Let the backends take turns on every case; what else the machine does meets them alike.

    Without gradients the result takes the place of x, as it does in the net.

    Args:
        sizes: width and height.
        channels: of x.
        shares: of active sites, in (0, 1].
        device: where they run; on the CPU with torch's number of threads.
        weights: of the net whose map makes the masks, see :func:`density_map`.
        seconds: about as long is each case measured, but for 3 rounds at least and 15 at most.
    """
    for width, height in sizes:
        maps = {
            'idm': density_map(weights, width, height),
            'random': torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0)),
        }
        for c, gradient in product(channels, (False, True)):
            cases = {
                Case(width, height, c, share, mask, gradient): top_k_mask(maps[mask], share).to(device)
                for mask, share in product(maps, shares)
            }
            yield from _measure(cases, seconds)


def _measure(masks: dict[Case, Tensor], seconds: float) -> Iterator[Timing]:
    """Cases that differ in their masks alone: the dense forms, which take the same time for any, stand beside all."""
    case, device = next(iter(masks)), next(iter(masks.values())).device
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, case.channels, case.height, case.width, generator=generator).to(device)
    inputs = {
        name: x.contiguous(memory_format=layout).requires_grad_(case.gradient) for name, layout in LAYOUTS.items()
    }
    grads = {name: torch.ones_like(laid) for name, laid in inputs.items() if case.gradient}
    weight = torch.randn(case.channels, case.channels, 3, 3, generator=generator).to(device)
    weight.requires_grad_(case.gradient)

    def run(backend: str, sites: ActiveSites, layout: str) -> Callable[[], None]:
        def call() -> None:
            laid = inputs[layout]
            with torch.set_grad_enabled(case.gradient):
                out = submanifold_conv2d(laid, weight, sites, backend)
            if case.gradient:
                laid.grad = weight.grad = None
                out.backward(grads[layout])

        return call

    known = {c: ActiveSites(m) for c, m in masks.items()}
    ways: dict[Way, Callable[[], Any]] = {(None, f'dense {name}'): run('dense', known[case], name) for name in LAYOUTS}
    for c, sites in known.items():
        ways[c, 'table'] = partial(_table_of, masks[c])
        for backend, name in product(
            ('gather', *(['spconv'] if device.type == 'cuda' and spconv_installed() else [])), LAYOUTS
        ):
            ways[c, f'{backend} {name}'] = run(backend, sites, name)
    times = _by_turns(ways, device, len(masks) * seconds)
    for c, sites in known.items():
        with torch.set_grad_enabled(case.gradient):
            auto = choose_backend(x, weight, sites)
        own = {name: values for (owner, name), values in times.items() if owner in (None, c)}
        table = statistics.median(own.pop('table'))
        quartiles = {name: (q[0], q[2]) for name, values in own.items() for q in [statistics.quantiles(values, n=4)]}
        yield Timing(c, {name: statistics.median(values) for name, values in own.items()}, quartiles, table, auto)


def _table_of(mask: Tensor) -> Tensor:
    return ActiveSites(mask).neighbours(3)


def _by_turns(ways: dict[Way, Callable[[], Any]], device: torch.device, seconds: float) -> dict[Way, list[float]]:
    times: dict[Way, list[float]] = {way: [] for way in ways}
    rounds, done = _MIN_ROUNDS, -1  # the first round warms up
    start = time.perf_counter()
    while done < rounds:
        for name, call in ways.items():
            begin = now(device)
            call()
            if done >= 0:
                times[name].append(1000 * (now(device) - begin))
        done += 1
        rounds = max(_MIN_ROUNDS, min(_MAX_ROUNDS, int(seconds * (done + 1) / (time.perf_counter() - start))))
    return times


def crossovers(timings: Sequence[Timing]) -> dict[bool, float]:
    """With and without gradients, the largest share up to which gather is never slower than dense, in any case.

    In the same layout: nobody changes the layout for a convolution.
    """
    found = {}
    for gradient in sorted({timing.case.gradient for timing in timings}):
        slower = {
            t.case.share
            for t in timings
            if t.case.gradient == gradient and any(t.ms[f'gather {name}'] > t.ms[f'dense {name}'] for name in LAYOUTS)
        }
        shares = sorted({t.case.share for t in timings})
        found[gradient] = max((share for share in shares if share < min(slower, default=2)), default=0.0)
    return found


def tables(timings: Sequence[Timing], device: torch.device) -> list[Table]:
    """A table for each size, with or without gradients."""
    found = []
    for size, gradient in dict.fromkeys(((t.case.width, t.case.height), t.case.gradient) for t in timings):
        chosen = [t for t in timings if (t.case.width, t.case.height, t.case.gradient) == (*size, gradient)]
        rows = [['C, active, mask', *chosen[0].ms, 'faster', 'auto', 'auto/dense', 'table']]
        for t in chosen:
            rows.append(
                [
                    f'{t.case.channels}, {100 * t.case.share:g} %, {t.case.mask}',
                    *(f'{value:.2f}' for value in t.ms.values()),
                    f'{t.speedup:.1f}x',
                    t.auto,
                    f'{t.auto_ratio:.2f}',
                    f'{t.table_ms:.2f}',
                ]
            )
        what = 'forward and backward' if gradient else 'forward'
        spread = max((q[1] - q[0]) / t.ms[name] for t in chosen for name, q in t.quartiles.items())
        found.append(
            Table(
                f'{size[0]}x{size[1]}, {what}',
                f'Milliseconds on {processor(device)}: medians; the widest '
                f'range of quartiles is {100 * spread:.0f} %. Faster: the best dense layout over the best '
                'sparse one.',
                rows,
            )
        )
    return found


def as_json(timings: Sequence[Timing], device: torch.device, command: str) -> str:
    """Everything that was measured, in full precision."""
    content = {
        'command': command,
        'processor': processor(device),
        'torch': torch.__version__,
        'gather_up_to': {str(gradient): share for gradient, share in crossovers(timings).items()},
        'timings': [asdict(t) | {'speedup': t.speedup, 'auto_ratio': t.auto_ratio} for t in timings],
    }
    return json.dumps(content, indent=1)
