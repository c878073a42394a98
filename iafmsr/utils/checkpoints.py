"""Checkpoints that are whole or not there: how they are written, read, found again and cleared away.

A checkpoint of a run is a state, ``training_states/<iteration>.state``, and the networks of that iteration,
``models/net_*_<iteration>.pth``. The state is written last and holds the networks' SHA-256 sums: a state that loads and
whose networks are what they were then is a whole checkpoint, whatever happened to the process that wrote it.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from iafmsr.errors import UserError

Options = dict[str, Any]
STATE_KEYS = {'iter', 'epoch', 'optimizers', 'schedulers'}


def save_whole(content: Any, path: str | Path) -> str:
    """Save as ``torch.save`` does, but beside, flushed to the disk, and renamed when complete.

    Returns:
        The SHA-256 sum of the file.

    Raises:
        OSError: the disk is full, say. What lay at ``path`` is as it was.
    """
    path, buffer = Path(path), io.BytesIO()
    torch.save(content, buffer)
    beside = path.with_name(f'{path.name}.partial')
    try:
        with open(beside, 'wb') as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    if os.name == 'posix':  # elsewhere a folder is no file that could be flushed
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too, has to be on the disk
        finally:
            os.close(folder)
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def load_checkpoint(file: str | Path) -> dict[str, Any]:
    """Load a file of weights or a training state to the CPU: data only, never code, and nothing that was damaged.

    Raises:
        UserError: in one line, why the file cannot be loaded.
    """
    if not Path(file).is_file():
        raise UserError(f'{file}: no such file')
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()  # torch does not look at the check sums
            if damaged:
                raise UserError(f'{file}: damaged, {damaged} in it has another check sum')
        with warnings.catch_warnings(action='ignore'):
            content = torch.load(file, map_location='cpu', weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a damaged file fails in any way: zip, pickle, storage
        raise UserError(f'{file}: not a file of weights that loads safely ({type(error).__name__})') from None
    if not isinstance(content, dict):
        raise UserError(f'{file}: not a file of weights but a {type(content).__name__}')
    return content


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
        if known is None:
            load_checkpoint(weights)
        elif hashlib.sha256(weights.read_bytes()).hexdigest() != known:
            raise UserError(f'{file}: {weights.name} is not what was saved with it')
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
    for path, in states.values():
        try:
            return path, load_state(path, models, networks_to_resume(opt))
        except UserError as error:
            if opt.get('rank', 0) == 0:
                print(f'iafmsr: warning: --auto_resume: skipped {error}', file=sys.stderr, flush=True)
    # a network on its own may be from a first save that was cut off
    if states or len(networks_in(models)) > 1 or list(Path(models).glob('net_*_latest.pth')):
        raise UserError(f'--auto_resume: {Path(models).parent}: the run has weights, but no state that loads; start '
                        'anew without --auto_resume (what is there is kept as *_archived_*)')
    return None


def load_resume_state(opt: Options) -> Options | None:
    """Load the state to resume from, in place of BasicSR's function of this name.

    Args:
        opt: Parsed options. Under ``path``, ``resume_state`` and the networks' ``pretrain_*`` are set to what is
            resumed.

    Returns:
        The state, its tensors on the CPU: ``load_state_dict`` moves them on. None if there is nothing to resume.

    Raises:
        UserError: see :func:`load_state` and :func:`newest_state`.
    """
    from basicsr.utils import check_resume
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


# -- for BasicSR's BaseModel, see iafmsr.compat.save_whole_checkpoints -------------------------------------------------
def save_network(self: Any, net: Any, net_label: str, current_iter: int | str, param_key: str | list[str] = 'params'
                 ) -> None:
    """Save networks as BasicSR does: one file with a state dict for each key. -1 stands for ``latest``.

    Beside them lies the option file's section of the network, so that a file of weights can be built from alone.
    """
    nets, keys = (value if isinstance(value, list) else [value] for value in (net, param_key))
    content = {key: {name: value.cpu() for name, value in self.get_bare_model(net).state_dict().items()}
               for key, net in zip(keys, nets, strict=True)}
    section = net_label.replace('net', 'network')
    if section in self.opt:
        content[section] = dict(self.opt[section])
    name = f'{net_label}_{"latest" if current_iter == -1 else current_iter}.pth'
    if self.opt['rank'] == 0:
        self.saved_networks = getattr(self, 'saved_networks', {})
        self.saved_networks[name] = save_whole(content, Path(self.opt['path']['models'], name))


def save_training_state(self: Any, epoch: int, current_iter: int | str) -> None:
    """Save what a run needs to go on as if it had not stopped; nothing for ``latest`` and ``best``.

    Besides what BasicSR saves: the sums of the networks, the best metrics, and whatever the model lists under
    ``stateful`` (name -> object with ``state_dict`` and ``load_state_dict``).
    """
    if not isinstance(current_iter, int) or current_iter < 0 or self.opt['rank'] != 0:
        return
    ending = f'_{current_iter}.pth'
    networks = {name: total for name, total in getattr(self, 'saved_networks', {}).items() if name.endswith(ending)}
    best = {dataset: {metric: {**record, 'val': float(record['val'])} for metric, record in records.items()}
            for dataset, records in getattr(self, 'best_metric_results', {}).items()}
    save_whole({'epoch': epoch, 'iter': current_iter,
                'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
                'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
                'networks': networks, 'best_metric_results': best,
                'stateful': {name: part.state_dict() for name, part in getattr(self, 'stateful', {}).items()}},
               Path(self.opt['path']['training_states'], f'{current_iter}.state'))


def restore_extras(self: Any, state: Options) -> None:
    """The part of a state that BasicSR's ``resume_training`` does not know."""
    if state.get('best_metric_results'):
        self.best_metric_results = state['best_metric_results']
    for name, part in getattr(self, 'stateful', {}).items():
        if name in state.get('stateful', {}):
            part.load_state_dict(state['stateful'][name])
