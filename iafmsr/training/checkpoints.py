"""The checkpoints of a run (:mod:`iafmsr.nets.checkpoints`): found again, resumed from and cleared away."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from iafmsr.errors import UserError
from iafmsr.nets.checkpoints import load_state, networks_to_resume, numbered

Options = dict[str, Any]


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
            f'--auto_resume: {Path(models).parent}: the run has weights, but no state that can be loaded; '
            'start again without --auto_resume (the old run is kept as *_archived_*)'
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
        UserError: see :func:`~iafmsr.nets.checkpoints.load_state` and :func:`newest_state`; or the run is to end before
            the state's iteration.
    """
    from iafmsr.bridge.basicsr_api import check_resume

    if opt['auto_resume']:
        found = newest_state(opt)
        if found is None:
            if opt.get('rank', 0) == 0:
                print('--auto_resume: nothing has been saved yet, the run starts at iteration 0', flush=True)
            return None
        path, state = found
    elif opt['path'].get('resume_state'):
        path = opt['path']['resume_state']
        state = load_state(path, opt['path']['models'], networks_to_resume(opt))
    else:
        return None
    if state['iter'] > opt['train']['total_iter']:
        raise UserError(f'train.total_iter: {opt["train"]["total_iter"]}, but {path} has iteration {state["iter"]}')
    opt['path']['resume_state'] = str(path)
    check_resume(opt, state['iter'])
    return state


def clear_away(opt: Options, keep_last: int | None) -> None:
    """Delete a run's checkpoints except for the newest ones, and what a killed process left half-written.

    Args:
        opt: of the run.
        keep_last: so many are kept; None or 0: all.
    """
    states, networks = states_in(opt['path']['training_states']), networks_in(opt['path']['models'])
    for kind in (states, networks):  # a state goes before its networks: none is ever without them
        for iteration in list(kind)[keep_last:] if keep_last else []:
            for path in kind[iteration]:
                path.unlink(missing_ok=True)
    for key in ('training_states', 'models'):
        for path in Path(opt['path'][key]).glob('*.partial'):
            path.unlink(missing_ok=True)
