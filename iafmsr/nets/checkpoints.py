"""Writing and reading checkpoints, which are either complete or do not exist.

A checkpoint of a run is a state, ``training_states/<iteration>.state``, and the networks of that iteration,
``models/net_*_<iteration>.pth``. The state is written last and holds the networks' SHA-256 sums: if a state
loads and its networks match their sums, the checkpoint is complete, even if the process that wrote it was killed.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from iafmsr.errors import UserError
from iafmsr.files.whole import replace_file
from iafmsr.nets.reading import STATE_KEYS, load_checkpoint

Options = dict[str, Any]


def save_whole(content: Any, path: str | Path) -> str:
    """Save with ``torch.save`` to a temporary file, which is flushed to the disk and renamed when it is complete.

    Returns:
        The SHA-256 sum of the file.

    Raises:
        OSError: for example when the disk is full. A previous file at ``path`` is unchanged.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    written = buffer.getvalue()
    replace_file(Path(path), written)
    return hashlib.sha256(written).hexdigest()


def load_state(file: str | Path, models: str | Path, networks: Iterable[str]) -> dict[str, Any]:
    """Load a training state whose networks are there as well.

    Args:
        file: the state.
        models: folder of the networks.
        networks: keys of the networks in the options, ``network_g``.

    Raises:
        UserError: the state or a network is missing or damaged, or they do not belong together.
    """
    state = load_checkpoint(file)
    if not STATE_KEYS <= state.keys():
        raise UserError(f'{file}: not a training state, it holds {", ".join(sorted(map(str, state))[:4])}')
    for network in networks:
        weights = Path(models, f'net_{network.removeprefix("network_")}_{state["iter"]}.pth')
        if not weights.is_file():
            raise UserError(f'{file}: the weights of its iteration {state["iter"]} are missing: {weights}')
        known = state.get('networks', {}).get(weights.name)  # not in a state of BasicSR's own
        if known is not None and hashlib.sha256(weights.read_bytes()).hexdigest() != known:
            raise UserError(f'{file}: {weights.name} has changed since it was saved with this state')
        load_checkpoint(weights)
    return state


def networks_to_resume(opt: Options) -> list[str]:
    """The networks whose weights a resumed run takes from its checkpoint."""
    ignored = opt['path'].get('ignore_resume_networks') or ()
    return [key for key in opt if str(key).startswith('network_') and key not in ignored]


def numbered(folder: str | Path, pattern: str) -> dict[int, list[Path]]:
    """Files of a folder by iteration, the newest first; ``pattern`` holds the iteration as its group."""
    found: dict[int, list[Path]] = {}
    for path in sorted(Path(folder).glob('*')):
        if match := re.fullmatch(pattern, path.name):
            found.setdefault(int(match[1]), []).append(path)
    return dict(sorted(found.items(), reverse=True))
