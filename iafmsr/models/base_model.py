"""Replacements for methods of BasicSR's BaseModel: saving, resuming, loading and distributed training."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iafmsr.bridge.basicsr_api import BaseModel, get_root_logger
from iafmsr.errors import UserError, without_warnings
from iafmsr.models.usage import announce_unused_parameters
from iafmsr.nets.checkpoints import save_whole
from iafmsr.nets.fine_tuning import weights_for
from iafmsr.nets.state_dicts import some

__all__ = ['install']

Options = dict[str, Any]


def install() -> None:
    """Replace BaseModel's methods by the functions of this module, for every model class.

    The original methods write in place (a process killed while writing leaves a broken file), ignore a full disk, and
    save neither the best metrics nor a scaler. On resuming, some schedulers take learning rates and schedules from the
    state and others from the option file. Loading expects the weights under the requested key (with `ema_decay` it
    fails with a KeyError if the file has no keys), fails on a tensor of another shape even with `strict_load_g: false`,
    and accepts weights of another network without an error, so that training starts from random weights.
    DistributedDataParallel is not told of parameters that no loss trains, and fails at the second iteration. After a
    warm-up, schedules that start from the previous rate (MultiStep) stay below the full rate.
    """
    BaseModel.save_network = save_network
    BaseModel.save_training_state = save_training_state
    BaseModel.resume_training = resume_training
    BaseModel.load_network = load_network
    BaseModel.model_to_device = announcing(BaseModel.model_to_device)
    BaseModel.update_learning_rate = scheduled(BaseModel.update_learning_rate)


def save_network(
    self: Any, net: Any, net_label: str, current_iter: int | str, param_key: str | list[str] = 'params'
) -> None:
    """Save networks as BasicSR does: one file with a state dict for each key. -1 stands for ``latest``.

    The file also holds the network's section of the option file, so that the network can be built from it alone.
    """
    nets, keys = (value if isinstance(value, list) else [value] for value in (net, param_key))
    content = {
        key: {name: value.cpu() for name, value in self.get_bare_model(net).state_dict().items()}
        for key, net in zip(keys, nets, strict=True)
    }
    section = net_label.replace('net', 'network')
    if section in self.opt:
        content[section] = dict(self.opt[section])
    name = f'{net_label}_{"latest" if current_iter == -1 else current_iter}.pth'
    if self.opt['rank'] == 0:
        self.saved_networks = getattr(self, 'saved_networks', {})
        self.saved_networks[name] = save_whole(content, Path(self.opt['path']['models'], name))


def save_training_state(self: Any, epoch: int, current_iter: int | str) -> None:
    """Save what a run needs for an exact resume; nothing is saved for ``latest`` and ``best``.

    In addition to BasicSR's content: the checksums of the network files, the best metrics, and the objects that the
    model lists under ``stateful`` (name -> object with ``state_dict`` and ``load_state_dict``).
    """
    if not isinstance(current_iter, int) or current_iter < 0 or self.opt['rank'] != 0:
        return
    ending = f'_{current_iter}.pth'
    networks = {name: total for name, total in getattr(self, 'saved_networks', {}).items() if name.endswith(ending)}
    best = {
        dataset: {metric: {**record, 'val': float(record['val'])} for metric, record in records.items()}
        for dataset, records in getattr(self, 'best_metric_results', {}).items()
    }
    save_whole(
        {
            'epoch': epoch,
            'iter': current_iter,
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
            'optimizer_types': _types(self.optimizers),
            'schedulers': [_plain(scheduler.state_dict()) for scheduler in self.schedulers],
            'networks': networks,
            'best_metric_results': best,
            'stateful': {name: part.state_dict() for name, part in getattr(self, 'stateful', {}).items()},
        },
        Path(self.opt['path']['training_states'], f'{current_iter}.state'),
    )


def resume_training(self: Any, state: Options) -> None:
    """Resume from a state: its moments, counters and best metrics, with the rates and schedules of the option file.

    Raises:
        UserError: the optimizers of the state differ from those of the option file.
    """
    path = self.opt['path'].get('resume_state')
    if len(state['optimizers']) != len(self.optimizers):
        raise UserError(f'{path}: has {len(state["optimizers"])} optimizers, the option file {len(self.optimizers)}')
    if (types := state.get('optimizer_types', _types(self.optimizers))) != _types(self.optimizers):
        raise UserError(
            f'{path}: was saved with {" and ".join(types)}, the option file has {" and ".join(_types(self.optimizers))}'
        )
    for optimizer, saved in zip(self.optimizers, state['optimizers'], strict=True):
        load_moments(optimizer, saved, path)
    # repeat every step, as in a run without a stop: some schedulers start from the previous rate
    with without_warnings():  # from schedulers that step while the optimizers do not
        for iteration in range(1, 2 + max((saved['last_epoch'] for saved in state['schedulers']), default=0)):
            self.update_learning_rate(iteration, warmup_iter=self.opt['train'].get('warmup_iter', -1))
    if state.get('best_metric_results'):
        self.best_metric_results = state['best_metric_results']
    for name, part in getattr(self, 'stateful', {}).items():
        if name in state.get('stateful', {}):
            part.load_state_dict(state['stateful'][name])


def _plain(state: Options) -> Options:
    """Counters (of milestones) as dictionaries: torch 2.2 does not load Counters with ``weights_only=True``."""
    return {key: dict(value) if isinstance(value, Counter) else value for key, value in state.items()}


def _types(optimizers: list[Any]) -> list[str]:
    return [type(optimizer).__name__ for optimizer in optimizers]


def load_moments(optimizer: torch.optim.Optimizer, saved: dict[str, Any], path: str | None) -> None:
    """Load an optimizer's moments; learning rates, betas and other settings stay as they are.

    Raises:
        UserError: the moments are of another optimizer or another network.
    """
    groups = optimizer.state_dict()['param_groups']
    shapes = [parameter.shape for group in optimizer.param_groups for parameter in group['params']]
    if [len(group['params']) for group in groups] != [len(group['params']) for group in saved['param_groups']] or any(
        isinstance(value, torch.Tensor) and value.dim() and not _fits(value.shape, shapes[number])
        for number, moments in saved['state'].items()
        for value in moments.values()
    ):
        raise UserError(
            f'{path}: its optimizer or its network differs from that of the option file (train.optim_g, network_g); '
            'start from its weights with path.pretrain_network_g'
        )
    optimizer.load_state_dict({'state': saved['state'], 'param_groups': groups})


def _fits(moments: torch.Size, shape: torch.Size) -> bool:
    """Whether moments fit a parameter: they have its shape, except that sides may be 1 (as in Adafactor)."""
    return len(moments) == len(shape) and all(m in (1, n) for m, n in zip(moments, shape, strict=True))


def load_network(
    self: Any, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
) -> None:
    """BasicSR's ``BaseModel.load_network`` by :func:`weights_for`: the same result for a file that fits the network.

    The log reports how many tensors were taken from the file.
    """
    net = self.get_bare_model(net)
    path = self.opt['path']
    instead = path.get('param_key_g') if param_key == 'params_ema' else None  # the key in a file without an average
    taken = weights_for(net, load_path, strict, param_key, instead, resumed=bool(path.get('resume_state')))
    left = net.state_dict().keys() - taken.keys()
    get_root_logger().info(
        f'{len(taken)} of {len(taken) + len(left)} tensors of {type(net).__name__} taken from '
        f'{load_path}' + (f'; not in the file: {some(left)}' if left else '')
    )
    net.load_state_dict(taken, strict=not left)


def scheduled(wrapped: Callable[..., None]) -> Callable[..., None]:
    """``BaseModel.update_learning_rate``, but schedules continue from their own last rate, not from the warm-up's."""

    @functools.wraps(wrapped)
    def update_learning_rate(self: Any, current_iter: int, warmup_iter: int = -1) -> None:
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=False):
            for group, rate in zip(optimizer.param_groups, scheduler.get_last_lr(), strict=True):
                group['lr'] = rate
        wrapped(self, current_iter, warmup_iter)

    return update_learning_rate


def announcing(wrapped: Callable[[Any, nn.Module], nn.Module]) -> Callable[[Any, nn.Module], nn.Module]:
    """``BaseModel.model_to_device``, preceded by :func:`~iafmsr.models.usage.announce_unused_parameters`."""

    @functools.wraps(wrapped)
    def model_to_device(self: Any, net: nn.Module) -> nn.Module:
        if self.opt['dist'] and self.is_train and net is getattr(self, 'net_g', None):
            announce_unused_parameters(self.opt, net.to(self.device))
        return wrapped(self, net)

    return model_to_device
