"""Whether a checkpoint fits a network, found out before a run starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from iafmsr.archs.published import PublishedNet
from iafmsr.errors import UserError
from iafmsr.training.checkpoints import load_checkpoint


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


def _some(names: Iterable[Any], limit: int = 4) -> str:
    names = sorted(map(str, names))
    return ', '.join(names[:limit]) + (', ...' if len(names) > limit else '')
