"""Memory that the processes of a run have in common, one copy for each machine."""

from __future__ import annotations

import mmap
import os
import socket
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ['available_bytes', 'from_everyone', 'neighbours', 'shared_bytes']

_CGROUP = '/sys/fs/cgroup'


def from_everyone(value: Any) -> list[Any]:
    """The values of all processes of the run, by rank; in a run of one process, only its own value."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def neighbours() -> tuple[int, int]:
    """Number of this process among those of its machine that can share memory, and how many they are."""
    if not dist.is_initialized() or sys.platform != 'linux':
        return 0, 1
    # containers may share a host's name, but not what /proc shows
    here = socket.gethostname(), os.readlink('/proc/self/ns/pid')
    places = from_everyone(here)
    return places[: dist.get_rank()].count(here), places.count(here)


def shared_bytes(count: int) -> Tensor:
    """uint8 (count,), one memory for all processes of the run on this machine. Called by all of them.

    It has no file in any folder, and is freed when the last process that uses it ends, even by a crash.
    """
    number, number_here = neighbours()
    if number_here == 1:
        return torch.empty(count, dtype=torch.uint8)
    rank = dist.get_rank()
    file = os.memfd_create('train set') if number == 0 else None
    if file is not None:
        os.ftruncate(file, count)
    here = socket.gethostname(), os.readlink('/proc/self/ns/pid')
    offers = from_everyone((here, None if file is None else f'/proc/{os.getpid()}/fd/{file}'))
    if file is None:
        file = os.open(next(path for place, path in offers[:rank] if place == here and path), os.O_RDWR)
    memory = mmap.mmap(file, count)
    dist.barrier()  # now all have it, and the first may close its file
    os.close(file)
    return torch.frombuffer(memory, dtype=torch.uint8)


def available_bytes() -> int:
    """Memory of this machine that can be had without swapping, within the limit of the control group if any.

    On systems other than Linux this is not checked: the allocation itself has to succeed or fail.
    """
    if sys.platform != 'linux':
        return sys.maxsize
    with open('/proc/meminfo', encoding='ascii') as file:
        kib = {line.partition(':')[0]: int(line.split()[1]) for line in file}
    return min([1024 * kib['MemAvailable'], *_limit()])


def _limit() -> list[int]:
    """What a container's limit leaves (control groups, version 2), pages of files that can be given back included."""
    try:
        most, used = (open(f'{_CGROUP}/memory.{name}', encoding='ascii').read() for name in ('max', 'current'))
        with open(f'{_CGROUP}/memory.stat', encoding='ascii') as file:
            given_back = dict(line.split() for line in file)['inactive_file']
        return [] if most.strip() == 'max' else [int(most) - int(used) + int(given_back)]
    except (OSError, KeyError, ValueError):
        return []
