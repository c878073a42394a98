"""Runtime and memory of networks, as table 2 of the SAFMN paper measures them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from iafmsr.tools.benchmark.alone import Alone
from iafmsr.tools.benchmark.cache import Cache, code_digest
from iafmsr.tools.benchmark.nets import NetSpec
from iafmsr.tools.env import processor

__all__ = ['PeakMemory', 'Speed', 'measure_speed', 'now']

PICTURES, WARM_UP = 50, 5


@dataclass(frozen=True)
class Speed:
    """Milliseconds a picture, with their quartiles, and peak memory in MiB."""

    median_ms: float
    quartiles_ms: tuple[float, float]
    peak_mib: float


def measure_speed(
    specs: Sequence[NetSpec],
    scale: int,
    device: torch.device,
    cache: Cache,
    pictures: int = PICTURES,
    output_size: tuple[int, int] = (1280, 720),
) -> dict[str, Speed]:
    """Time nets one picture at a time, and measure their memory.

    Each net has a process of its own, and they take turns at each picture, so that whatever else the machine does meets
    all of them alike. The pictures are seeded noise, 320x180 at x4. Memory is the peak of what tensors hold, weights
    and input included: on CUDA as the allocator counts it, on the CPU as the sum of the live ones, without what an
    operator takes for itself.

    Args:
        specs: nets, untrained ones too.
        scale: theirs.
        device: where they run, in float32; on the CPU with torch's number of threads.
        cache: the figures of these nets together, on this processor with this number of threads.
        pictures: timed ones, after a warm-up of 5.
        output_size: width and height of the enlarged picture.

    Raises:
        UserError: a net cannot be built or run.
    """
    size = tuple(-(-side // scale) for side in output_size)
    names = [spec.name for spec in specs]
    code = code_digest(__name__, *(spec.module for spec in specs))
    subject = f'{code} {processor(device)} {size} {pictures} ' + ' '.join(spec.key for spec in specs)
    kind = Annotated[list[Speed], Field(min_length=len(specs), max_length=len(specs))]
    known = cache.remembered(subject, 'speed', kind, lambda: list(_in_turns(specs, size, device, pictures)))
    cache.save()
    return dict(zip(names, known, strict=True))


def _in_turns(specs: Sequence[NetSpec], size: tuple[int, ...], device: torch.device, pictures: int) -> Iterator[Speed]:
    with ExitStack() as stack:
        nets = [stack.enter_context(Alone(spec.name, spec.build)) for spec in specs]
        peaks = [net.ask(_peak_mib, size, device) for net in nets]
        turns = [[net.ask(_milliseconds, i, size, device) for net in nets] for i in range(-WARM_UP, pictures)]
    for *t, peak in zip(*turns[WARM_UP:], peaks, strict=True):
        yield Speed(statistics.median(t), tuple(statistics.quantiles(t, n=4)[::2]), peak)


class PeakMemory(TorchDispatchMode):
    """A context that follows the bytes of live tensors, whatever the device; ``peak`` is their highest sum.

    Args:
        tensors: those that are there already.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        super().__init__()
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0
        self._add(tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._add([leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)])
        return result

    def _add(self, tensors: Sequence[Tensor]) -> None:
        self.live = {key: entry for key, entry in self.live.items() if not entry[0].expired()}
        for storage in (tensor.untyped_storage() for tensor in tensors):
            reference = StorageWeakRef(storage)
            self.live[reference.cdata] = reference, storage.nbytes()
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))


@torch.no_grad()
def _peak_mib(net: nn.Module, size: tuple[int, int], device: torch.device) -> float:
    """Peak memory of one picture; the net is left on the device."""
    picture = _picture(0, size, device)
    if device.type == 'cuda':
        net.to(device)(picture)  # cuDNN chooses its algorithms, which takes memory of its own
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        net(picture)
        peak = torch.cuda.max_memory_allocated(device)
    else:
        with PeakMemory([picture, *net.parameters(), *net.buffers()]) as memory:
            net(picture)
        peak = memory.peak
    return peak / 2**20


@torch.no_grad()
def _milliseconds(net: nn.Module, number: int, size: tuple[int, int], device: torch.device) -> float:
    picture = _picture(number, size, device)
    start = now(device)
    net(picture)
    return 1000 * (now(device) - start)


def _picture(number: int, size: tuple[int, int], device: torch.device) -> Tensor:
    width, height = size
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(number + WARM_UP)).to(device)


def now(device: torch.device) -> float:
    """Seconds on a clock, once the device has done what it was given.

    With one thread on a CPU it is the processor's time, which other processes do not lengthen.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() if device.type == 'cuda' or torch.get_num_threads() > 1 else time.process_time()
