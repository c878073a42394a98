"""Whether a checkpoint fits a network and a state can be resumed, found out before a run starts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from iafmsr.archs.published import PublishedNet
from iafmsr.errors import UserError


def check_checkpoint(file: str, net: torch.nn.Module, param_key: str | None = 'params', strict: bool = True) -> None:
    """Check that BasicSR's ``load_network`` will load a file into a network.

    Args:
        file: checkpoint, a dict of state dicts.
        net: network as the options describe it.
        param_key: which state dict; ``params`` stands in for a missing one, None means the file itself.
        strict: names and shapes must all agree; else any file that holds weights will do.

    Raises:
        UserError: no file, no weights in it, or the keys that differ.
    """
    weights = load_checkpoint(file)
    if param_key is not None:
        param_key = param_key if param_key in weights else 'params'
        if not isinstance(weights.get(param_key), dict):
            raise UserError(f'{file}: no {param_key} in it, only {_some(weights)}')
        weights = weights[param_key]
    shapes = {str(key).removeprefix('module.'): tuple(value.shape) for key, value in weights.items()
              if isinstance(value, torch.Tensor)}
    if isinstance(net, PublishedNet):
        shapes = net.renamed(shapes)
    wanted = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    reshaped = [f'{key} {shapes[key]} instead of {wanted[key]}' for key in shapes.keys() & wanted.keys()
                if shapes[key] != wanted[key]]
    differences = {'missing': wanted.keys() - shapes.keys(), 'unexpected': shapes.keys() - wanted.keys(),
                   'of another shape': reshaped}
    if strict and any(differences.values()):
        raise UserError(f'{file} does not fit {type(net).__name__}: ' + '; '.join(
            f'{len(keys)} {what}: {_some(keys)}' for what, keys in differences.items() if keys))


def check_resume_state(file: str, models: str, networks: Iterable[str]) -> None:
    """Check a training state, and that the weights of its iteration lie where BasicSR will look for them.

    Raises:
        UserError: no file, no training state, or weights that are missing.
    """
    state = load_checkpoint(file)
    if not {'iter', 'epoch', 'optimizers', 'schedulers'} <= state.keys():
        raise UserError(f'{file}: not a training state, it holds {_some(state)}')
    for network in networks:
        weights = Path(models, f'net_{network.removeprefix("network_")}_{state["iter"]}.pth')
        if not weights.is_file():
            raise UserError(f'{file}: the weights of its iteration {state["iter"]} are missing: {weights}')


def load_checkpoint(file: str) -> dict[str, Any]:
    """The content of a file of weights, on the CPU.

    Raises:
        UserError: no file, or one that is damaged or no dict, or that only loads by running code.
    """
    if not Path(file).is_file():
        raise UserError(f'{file}: no such file')
    try:
        with warnings.catch_warnings(action='ignore'):
            content = torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged file fails in any way: zip, pickle, storage
        raise UserError(f'{file}: not a file of weights that loads safely ({type(error).__name__})') from None
    if not isinstance(content, dict):
        raise UserError(f'{file}: not a file of weights but a {type(content).__name__}')
    return content


def _some(names: Iterable[Any], limit: int = 4) -> str:
    names = sorted(map(str, names))
    return ', '.join(names[:limit]) + (', ...' if len(names) > limit else '')
