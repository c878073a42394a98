"""How the processes of a distributed run begin, with torchrun or Slurm's srun, and that none outlives what began it.

`init_dist` of BasicSR's options module is replaced.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import torch

from iafmsr.errors import UserError

__all__ = ['apply', 'end_with_parent', 'meet_by_slurm', 'wait_for_others']

_PORT = '29500'  # torch.distributed's own
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_patience = {'timeout': timedelta(minutes=30)}  # torch's own default for gloo


@functools.cache
def apply() -> None:
    """Lets processes start without CUDA (gloo), and gives each the GPU that LOCAL_RANK says, once per process.

    The stock start divides the rank by the number of GPUs, zero on a CPU, and never reads LOCAL_RANK, which is wrong
    where the ranks of a machine do not begin at a multiple of its GPUs. Slurm's launcher divides by that number too,
    and gives the list of nodes to a shell (CVE-2024-27763).

    A thread of gloo that wants the interpreter, to let go of the last tensor it has sent, takes the process down with
    SIGABRT when it finds the interpreter ending. So at exit the threads get a moment; to destroy the group would not
    end them while a network still holds it.
    """
    from basicsr.utils import options

    @functools.wraps(options.init_dist)
    def init_dist(launcher: str, backend: str = 'nccl', **kwargs: Any) -> None:
        if launcher == 'slurm':
            meet_by_slurm(kwargs.pop('port', None))
        if 'LOCAL_RANK' not in os.environ:
            raise UserError('--launcher pytorch needs torchrun: torchrun --nproc_per_node=N iafmsr/train.py ...')
        if launcher == 'pytorch':
            end_with_parent()  # torchrun that is killed leaves no rank behind
        if torch.multiprocessing.get_start_method(allow_none=True) is None:
            torch.multiprocessing.set_start_method('spawn')
        if torch.cuda.is_available():
            local_rank, count = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
            if local_rank >= count:
                raise UserError(f'more processes on this machine than CUDA devices ({count})')
            torch.cuda.set_device(local_rank)
        else:
            backend = 'gloo'
        torch.distributed.init_process_group(backend, timeout=_patience['timeout'], **kwargs)
        atexit.register(time.sleep, 0.1)

    options.init_dist = init_dist


def wait_for_others(seconds: float) -> None:
    """Sets how long the processes that meet from now on wait for each other; torch can hardly change it later."""
    _patience['timeout'] = timedelta(seconds=seconds)


def meet_by_slurm(port: int | None = None) -> None:
    """Sets what torch.distributed wants in the environment, by Slurm's variables.

    Args:
        port: of the first process; ``MASTER_PORT``, or 29500, where it is left out.

    Raises:
        UserError: the process was not started by srun, or Slurm does not tell the first machine.
    """
    try:
        rank, count, nodes = (os.environ[f'SLURM_{name}'] for name in ('PROCID', 'NTASKS', 'NODELIST'))
    except KeyError as error:
        raise UserError(f'--launcher slurm: {error.args[0]} is not set; start the run with srun') from None
    try:
        # no shell: the list of nodes is text of somebody else's
        found = subprocess.run(
            ['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True
        ).stdout.split()
        address = found[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        raise UserError(f'--launcher slurm: scontrol does not know the nodes {nodes!r}') from None
    os.environ['MASTER_PORT'] = str(port or os.environ.get('MASTER_PORT', _PORT))
    os.environ |= {'MASTER_ADDR': address, 'WORLD_SIZE': count, 'RANK': rank}
    os.environ['LOCAL_RANK'] = os.environ.get('SLURM_LOCALID', '0')


def end_with_parent() -> None:
    """Lets the system end this process when the one that has started it ends, even by SIGKILL, or has ended already."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)
