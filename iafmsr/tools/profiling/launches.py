"""Trainings as users start them: by torchrun, killed, and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

import iafmsr
from iafmsr.errors import UserError

__all__ = ['killed_and_resumed']


def killed_and_resumed(file: Path, root: Path, processes: int, total_iter: int) -> float:
    """The largest difference of the weights of a run from one that was killed and went on.

    Args:
        file: option file of a run that saves its state half way.
        root: where runs go.
        processes: by torchrun.
        total_iter: iterations of the run.

    Raises:
        UserError: a run failed.
    """
    _train(file, root, processes, 'whole')
    _train(file, root, processes, 'killed', kill=True)
    _train(file, root, processes, 'killed')
    one, two = (
        torch.load(root / f'experiments/{name}/models/net_g_{total_iter}.pth', map_location='cpu')['params']
        for name in ('whole', 'killed')
    )
    return max(float((value - two[key]).abs().max()) for key, value in one.items())


def _train(file: Path, root: Path, processes: int, name: str, kill: bool = False) -> None:
    """A run by torchrun, which is killed when it has gone on after its first saved state."""
    script = Path(iafmsr.__file__).with_name('train.py')
    launcher = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
    flags = ['--launcher', 'pytorch', '--auto_resume', '--force_yml', f'name={name}', f'path:root={root}']
    process = subprocess.Popen(
        [sys.executable, '-u', *launcher, str(script), '-opt', str(file), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={'OMP_NUM_THREADS': '1', **os.environ},
    )
    last, saved, killed = '', False, False
    assert process.stdout is not None
    for line in process.stdout:
        last = line.strip() or last
        saved |= 'Saving models' in line
        if kill and not killed and saved and 'iter:' in line:
            os.killpg(process.pid, signal.SIGKILL)
            killed = True
    code = process.wait()
    if code and not killed:
        raise UserError(f'{name}: the training ended with code {code}: {last}')
