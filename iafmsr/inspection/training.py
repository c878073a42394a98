"""The nets of a run, at the times at which they were saved."""

from __future__ import annotations

from pathlib import Path

from iafmsr.errors import UserError
from iafmsr.files.names import printable
from iafmsr.training.checkpoints import numbered

__all__ = ['checkpoints', 'latest']

_NAME = r'net_g_(\d+)\.pth'
_MOST = 8  # maps in a figure


def checkpoints(run: Path) -> dict[int, Path]:
    """Weights by iteration, at most eight, evenly spread and the last among them.

    Args:
        run: ``experiments/NAME``.

    Raises:
        UserError: it has none.
    """
    found = [(iteration, paths[0]) for iteration, paths in sorted(numbered(run / 'models', _NAME).items())]
    if not found:
        raise UserError(f'{printable(run)}: no weights models/net_g_ITERATION.pth in it')
    step = max(1, -(-len(found) // _MOST))
    return dict(found[::-1][::step][::-1])


def latest(run: Path) -> Path:
    """The newest weights of a run.

    Raises:
        UserError: it has none.
    """
    path = run / 'models/net_g_latest.pth'
    return path if path.is_file() else list(checkpoints(run).values())[-1]
