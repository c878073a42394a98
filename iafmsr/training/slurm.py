"""Where the processes of a run that Slurm's ``srun`` has started meet."""

from __future__ import annotations

import os
import subprocess

from iafmsr.errors import UserError

_PORT = '29500'  # torch.distributed's own


def meet_by_slurm(port: int | None = None) -> None:
    """Set what torch.distributed wants in the environment, by Slurm's variables.

    Args:
        port: of the first process; ``MASTER_PORT``, or 29500, where it is left out.

    Raises:
        UserError: the process was not started by srun, or Slurm does not tell the first machine.
    """
    try:
        rank, count, nodes = (os.environ[f'SLURM_{name}'] for name in ('PROCID', 'NTASKS', 'NODELIST'))
    except KeyError as error:
        raise UserError(f'--launcher slurm: {error.args[0]} is not set; start the run by srun') from None
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
