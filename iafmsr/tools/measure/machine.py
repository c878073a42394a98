"""What a machine can do, and what a process holds of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ['PeakMemory', 'bandwidth', 'now', 'rate', 'resident']

_SECONDS = 0.3  # for each measurement
_PROCESS = Path('/proc/self')


def now(device: torch.device) -> float:
    """Seconds on a clock, once the device has done what it was given.

    With one thread on a CPU it is the processor's time, which other processes do not lengthen.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() if device.type == 'cuda' or torch.get_num_threads() > 1 else time.process_time()


def rate(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-accumulates a second, in 10^9, of a large matrix product, which is bound by nothing else."""
    side = 8192 if device.type == 'cuda' else 1024
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    return side**3 / _shortest(lambda: a @ b, device) / 1e9


def bandwidth(device: torch.device) -> float:
    """Bytes a second, in 10^9, that a large copy reads and writes."""
    source = torch.rand(2**26 if device.type == 'cuda' else 2**24, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _shortest(lambda: target.copy_(source), device) / 1e9


def _shortest(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the fastest of some calls: what the chip can do."""
    work()  # memory that nobody has touched yet is not the chip's doing
    best, until = float('inf'), time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        start = now(device)
        work()
        best = min(best, now(device) - start)
    return best


def resident(peak: bool = False) -> float | None:
    """MiB that this process holds, or held at its peak since the last call without ``peak``; None but on Linux."""
    with suppress(OSError):
        said = (_PROCESS / 'status').read_text(encoding='utf-8')
        if not peak:
            (_PROCESS / 'clear_refs').write_text('5')  # the peak begins anew
        return int(re.findall(rf'{"VmHWM" if peak else "VmRSS"}:\s+(\d+) kB', said)[0]) / 1024
    return None


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
