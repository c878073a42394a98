"""Checkpoints that are whole or not there: how they are written, read, found again and cleared away.

A checkpoint of a run is a state, ``training_states/<iteration>.state``, and the networks of that iteration,
``models/net_*_<iteration>.pth``. The state is written last and holds the networks' SHA-256 sums: a state that loads and
whose networks are what they were then is a whole checkpoint, whatever happened to the process that wrote it.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from iafmsr.errors import UserError
from iafmsr.files.whole import replace_file
from iafmsr.nets.reading import STATE_KEYS, load_checkpoint

Options = dict[str, Any]


def save_whole(content: Any, path: str | Path) -> str:
    """Save as ``torch.save`` does, but beside, flushed to the disk, and renamed when complete.

    Returns:
        The SHA-256 sum of the file.

    Raises:
        OSError: the disk is full, say. What lay at ``path`` is as it was.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    replace_file(Path(path), buffer.getbuffer())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def load_state(file: str | Path, models: str | Path, networks: Iterable[str]) -> dict[str, Any]:
    """Load a training state whose networks are there as well.

    Args:
        file: the state.
        models: folder of the networks.
        networks: keys of the networks in the options, ``network_g``.

    Raises:
        UserError: the state or a network is missing, damaged or from another time.
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
            raise UserError(f'{file}: {weights.name} is not what was saved with it')
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


def states_in(folder: str | Path) -> dict[int, list[Path]]:
    return numbered(folder, r'(\d+)\.state')


def networks_in(folder: str | Path) -> dict[int, list[Path]]:
    return numbered(folder, r'net_\w+?_(\d+)\.pth')


def newest_state(opt: Options) -> tuple[Path, dict[str, Any]] | None:
    """Find and load the newest whole checkpoint of a run; each newer one is named with what is wrong with it.

    Returns:
        The path and the state, or None if the run has not saved anything yet.

    Raises:
        UserError: there are checkpoints, and none of them can be loaded: a run must not begin anew in silence.
    """
    states, models = states_in(opt['path']['training_states']), opt['path']['models']
    for (path,) in states.values():
        try:
            return path, load_state(path, models, networks_to_resume(opt))
        except UserError as error:
            if opt.get('rank', 0) == 0:
                print(f'iafmsr: warning: --auto_resume: skipped {error}', file=sys.stderr, flush=True)
    # a network on its own may be from a first save that was cut off
    if states or len(networks_in(models)) > 1 or list(Path(models).glob('net_*_latest.pth')):
        raise UserError(
            f'--auto_resume: {Path(models).parent}: the run has weights, but no state that loads; start '
            'anew without --auto_resume (what is there is kept as *_archived_*)'
        )
    return None


def load_resume_state(opt: Options) -> Options | None:
    """Load the state to resume from.

    Args:
        opt: Parsed options. Under ``path``, ``resume_state`` and the networks' ``pretrain_*`` are set to what is
            resumed.

    Returns:
        The state, its tensors on the CPU: ``load_state_dict`` moves them on. None if there is nothing to resume.

    Raises:
        UserError: see :func:`load_state` and :func:`newest_state`; or the run is to end before the state's iteration.
    """
    from iafmsr.bridge.basicsr_api import check_resume

    if opt['auto_resume']:
        found = newest_state(opt)
        if found is None:
            if opt.get('rank', 0) == 0:
                print('--auto_resume: nothing has been saved yet, the run starts at 0', flush=True)
            return None
        path, state = found
    elif opt['path'].get('resume_state'):
        path = opt['path']['resume_state']
        state = load_state(path, opt['path']['models'], networks_to_resume(opt))
    else:
        return None
    if state['iter'] > opt['train']['total_iter']:
        raise UserError(f'train.total_iter: {opt["train"]["total_iter"]}, but {path} is of iteration {state["iter"]}')
    opt['path']['resume_state'] = str(path)
    check_resume(opt, state['iter'])
    return state


def clear_away(opt: Options, keep_last: int) -> None:
    """Delete a run's checkpoints except for the newest ones; what a killed process left half-written goes as well."""
    states, networks = states_in(opt['path']['training_states']), networks_in(opt['path']['models'])
    for kind in (states, networks):  # a state goes before its networks: none is ever without them
        for iteration in list(kind)[keep_last:]:
            for path in kind[iteration]:
                path.unlink(missing_ok=True)
    for key in ('training_states', 'models'):
        for path in Path(opt['path'][key]).glob('*.partial'):
            path.unlink(missing_ok=True)
