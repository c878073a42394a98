"""Time and memory of networks in each engine: the one piece of code that times a network."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from iafmsr.cli.allocator import keep_freed_memory
from iafmsr.errors import UserError, say
from iafmsr.nets.arithmetic import DTYPES
from iafmsr.nets.engines import engine_net
from iafmsr.nets.in_engine import in_engine, unfit
from iafmsr.nets.trained import TrainedNet
from iafmsr.tools.benchmark.alone import Alone
from iafmsr.tools.benchmark.cache import Cache, code_digest
from iafmsr.tools.benchmark.forms import FORMS
from iafmsr.tools.benchmark.nets import NetSpec
from iafmsr.tools.env import processor
from iafmsr.tools.measure.machine import now, rate, resident

__all__ = ['Speed', 'Timed', 'forms_of', 'measure_speed']

WARM_UP = 3


@dataclass(frozen=True)
class Speed:
    """Milliseconds a picture, with their quartiles, and peak memory in MiB (None where the system does not say it)."""

    median_ms: float
    quartiles_ms: tuple[float, float]
    peak_mib: float | None


@dataclass(frozen=True)
class Timed:
    """Nets in one form: Speed by name, and the rate of a large matrix product there, in 10^9 multiply-accumulates a
    second."""

    gmacs_per_s: float
    nets: dict[str, Speed]


def forms_of(names: Sequence[str], device: torch.device) -> list[str]:
    """Some of the :data:`~iafmsr.tools.benchmark.forms.FORMS`, or for ``all`` those that there are on the device.

    Raises:
        UserError: one that is named is not there.
    """
    reasons = {name: unfit(engine, device, precision) for name, (engine, precision) in FORMS.items()}
    if 'all' in names:
        return [name for name, reason in reasons.items() if reason is None]
    for name in names:
        if reasons[name]:
            raise UserError(f'--speed {name}: {reasons[name]}')
    return list(dict.fromkeys(names))


def measure_speed(
    specs: Sequence[NetSpec], form: str, size: tuple[int, int], device: torch.device, cache: Cache, pictures: int
) -> Timed:
    """Time nets one picture at a time in an engine, and measure their memory.

    Each net has a process of its own, and they take turns at each picture, so that whatever else the machine does meets
    all of them alike. The pictures are seeded noise. Memory is what the process holds at its peak while it computes
    one, less what it held before the net was there; on CUDA what the allocator counts.

    Args:
        specs: nets of one scale, untrained ones too. One that the engine refuses is left out, and a line says why.
        form: of the same.
        size: width and height of the pictures.
        device: where they run; on the CPU with torch's number of threads.
        cache: the figures of these nets together, on this processor with this number of threads.
        pictures: timed ones, after a warm-up of 3.

    Raises:
        UserError: a net cannot be built or run.
    """
    engine = FORMS[form][0]
    code = code_digest(__name__, *(spec.module for spec in specs))
    subject = f'{code} {form} {version(engine)} {processor(device)} {size} {pictures} ' + ' '.join(
        f'{spec.name} {spec.key}' for spec in specs
    )
    timed: Timed = cache.remembered(subject, 'speed', Timed, lambda: _in_turns(specs, form, size, device, pictures))
    cache.save()
    return timed


def _in_turns(specs: Sequence[NetSpec], form: str, size: tuple[int, int], device: torch.device, pictures: int) -> Timed:
    with ExitStack() as stack:
        nets = {}
        for spec in specs:
            try:
                build = _builder(spec, form, size, device)
            except UserError as error:
                say(f'{spec.name} is not timed in {form}: {error}')
                continue
            nets[spec.name] = stack.enter_context(Alone(spec.name, _Running, build, form, device))
        peaks = [net.ask(_Running.peak_mib, size) for net in nets.values()]
        turns = [[net.ask(_Running.milliseconds, i, size) for net in nets.values()] for i in range(-WARM_UP, pictures)]
    found = {}
    for name, peak, *times in zip(nets, peaks, *turns[WARM_UP:], strict=True):
        low, _, high = statistics.quantiles(times, n=4)
        found[name] = Speed(statistics.median(times), (low, high), peak)
    return Timed(rate(device, DTYPES[FORMS[form][1]]), found)


def _builder(spec: NetSpec, form: str, size: tuple[int, int], device: torch.device) -> tuple[Callable[..., Any], Any]:
    """What makes the net in another process, and its arguments. A graph is made and checked here, so that the memory
    that this takes is not counted.

    Raises:
        UserError: the engine refuses the net, or gives another picture.
    """
    engine, precision = FORMS[form]
    if engine == 'torch':
        return spec.build, ()
    trained = TrainedNet(spec.build(), spec.network['type'], spec.scale)
    checked = precision if spec.weights else 'fp32'  # rounding says nothing of a net that is not trained
    graph: Any = in_engine(trained, engine, device, checked, size=size, begins=say).net
    return engine_net, (graph.content, engine, precision)


class _Running:
    """A net at work, in a process of its own, which keeps freed memory as the commands do.

    Args:
        build: of :func:`_builder`.
        form, device: as of :func:`measure_speed`.
    """

    def __init__(self, build: tuple[Callable[..., nn.Module], Any], form: str, device: torch.device) -> None:
        engine, precision = FORMS[form]
        self.device, self.dtype = device, DTYPES[precision] if engine == 'torch' else torch.float32
        keep_freed_memory()
        for name in () if engine == 'torch' else (engine, 'onnx'):
            importlib.import_module(name)
        self.before = resident()
        function, arguments = build
        self.net = function(*arguments).to(device)

    @torch.inference_mode()
    def __call__(self, lq: Tensor) -> None:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            self.net(lq)

    def peak_mib(self, size: tuple[int, int]) -> float | None:
        """Of one picture, after two others."""
        lq = self._picture(0, size)
        for _ in range(2):
            self(lq)  # what is chosen and compiled then takes memory of its own
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
            self(lq)
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        resident()
        self(lq)
        after = resident(peak=True)
        return None if after is None or self.before is None else after - self.before

    def milliseconds(self, number: int, size: tuple[int, int]) -> float:
        lq = self._picture(number, size)
        start = now(self.device)
        self(lq)
        return 1000 * (now(self.device) - start)

    def _picture(self, number: int, size: tuple[int, int]) -> Tensor:
        width, height = size
        generator = torch.Generator().manual_seed(number + WARM_UP)
        return torch.rand(1, 3, height, width, generator=generator).to(self.device)
