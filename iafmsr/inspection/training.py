"""The nets of a run, at the times at which they were saved."""

from __future__ import annotations

from pathlib import Path

from iafmsr.training.checkpoints import numbered

__all__ = ['checkpoints']

_NAME = r'net_g_(\d+)\.pth'
_MOST = 8  # maps in a figure


def checkpoints(run: Path) -> dict[int, Path]:
    """Weights by iteration, at most eight, evenly spread and the last among them.

    Args:
        run: ``experiments/NAME``.
    """
    found = [(iteration, paths[0]) for iteration, paths in sorted(numbered(run / 'models', _NAME).items())]
    step = max(1, -(-len(found) // _MOST))
    return dict(found[::-1][::step][::-1])
