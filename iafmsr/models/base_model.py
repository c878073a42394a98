"""How BasicSR's BaseModel saves and resumes: its methods, put in place by :mod:`iafmsr.bridge.compat`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from iafmsr.errors import UserError
from iafmsr.training.checkpoints import save_whole

Options = dict[str, Any]


def save_network(
    self: Any, net: Any, net_label: str, current_iter: int | str, param_key: str | list[str] = 'params'
) -> None:
    """Save networks as BasicSR does: one file with a state dict for each key. -1 stands for ``latest``.

    Beside them lies the option file's section of the network, so that a file of weights can be built from alone.
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
    """Save what a run needs to go on as if it had not stopped; nothing for ``latest`` and ``best``.

    Besides what BasicSR saves: the sums of the networks, the best metrics, and whatever the model lists under
    ``stateful`` (name -> object with ``state_dict`` and ``load_state_dict``).
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
            'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
            'networks': networks,
            'best_metric_results': best,
            'stateful': {name: part.state_dict() for name, part in getattr(self, 'stateful', {}).items()},
        },
        Path(self.opt['path']['training_states'], f'{current_iter}.state'),
    )


def resume_training(self: Any, state: Options) -> None:
    """Go on from a state: from its moments, counters and best metrics, by the option file's rates and schedules.

    Raises:
        UserError: the optimizers of the state are others than the option file's.
    """
    path = self.opt['path'].get('resume_state')
    if len(state['optimizers']) != len(self.optimizers):
        raise UserError(f'{path}: has {len(state["optimizers"])} optimizers, the option file {len(self.optimizers)}')
    for optimizer, saved in zip(self.optimizers, state['optimizers'], strict=True):
        load_moments(optimizer, saved, path)
    # each step again, as a run without a stop has made them: some schedulers go by the rate before
    with warnings.catch_warnings(action='ignore'):  # of schedulers that step while the optimizers do not
        for iteration in range(1, 2 + max((saved['last_epoch'] for saved in state['schedulers']), default=0)):
            self.update_learning_rate(iteration, warmup_iter=self.opt['train'].get('warmup_iter', -1))
    if state.get('best_metric_results'):
        self.best_metric_results = state['best_metric_results']
    for name, part in getattr(self, 'stateful', {}).items():
        if name in state.get('stateful', {}):
            part.load_state_dict(state['stateful'][name])


def load_moments(optimizer: torch.optim.Optimizer, saved: dict[str, Any], path: str | None) -> None:
    """Load an optimizer's moments; learning rates, betas and whatever else has been set stay as they are.

    Raises:
        UserError: the moments are of another optimizer or another network.
    """
    groups = optimizer.state_dict()['param_groups']
    shapes = [parameter.shape for group in optimizer.param_groups for parameter in group['params']]
    if [len(group['params']) for group in groups] != [len(group['params']) for group in saved['param_groups']] or any(
        value.dim() and value.shape != shapes[number]
        for number, moments in saved['state'].items()
        for value in moments.values()
    ):
        raise UserError(
            f'{path}: its optimizer is not the one of the option file (train.optim_g), or its network; '
            'start from its weights by path.pretrain_network_g'
        )
    optimizer.load_state_dict({'state': saved['state'], 'param_groups': groups})
