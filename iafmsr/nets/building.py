"""Building networks from their descriptions and loading their weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from iafmsr import archs
from iafmsr.archs.published import PublishedNet
from iafmsr.errors import UserError
from iafmsr.nets.reading import load_checkpoint
from iafmsr.nets.recognition import ARCHS
from iafmsr.nets.state_dicts import check_values, some, unwrapped, weights_in

__all__ = ['build', 'build_with_weights', 'fitting', 'misfit']


def build(where: str, network: Mapping[str, Any]) -> nn.Module:
    """The network of a section ``network_g``, with random weights.

    Raises:
        UserError: the arch is not known or does not take the keywords; the line begins with ``where``.
    """
    keywords = {key: value for key, value in network.items() if key != 'type'}
    name = network['type']
    try:
        return archs.find(name)(**keywords)
    except Exception as error:  # a constructor fails on a value of the wrong kind in any way
        reason = str(error).partition('\n')[0] or type(error).__name__
        raise UserError(f'{where}: {name} cannot be built: {reason}') from None


def build_with_weights(where: str, network: Mapping[str, Any], file: Path, key: str | None = None) -> nn.Module:
    """The network of a section ``network_g`` with the weights of a file; ``{'type': 'Spandrel'}`` is found by spandrel.

    Raises:
        UserError: it cannot be built, or the weights do not fit it or are not finite; the line begins with ``where``.
    """
    weights = weights_in(file, load_checkpoint(file), key)
    if network == {'type': 'Spandrel'}:
        return _by_spandrel(where, file, weights)
    with _not_larger_than(weights):
        net = build(where, network)
    weights = fitting(net, weights)
    if fault := misfit(net, weights):
        raise UserError(f'{file} does not fit {type(net).__name__}: {fault}')
    check_values(file, weights)
    net.load_state_dict(weights)
    return net


def fitting(net: nn.Module, weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict under the net's names, including those that the net does not have.

    If it has parts of several owners (see :func:`~iafmsr.nets.state_dicts.unwrapped`), the part that fits best.
    """
    wanted = _shapes(net.state_dict())

    def renamed(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
        tensors = {name: value for name, value in state_dict.items() if isinstance(value, Tensor)}
        return net.renamed(tensors) if isinstance(net, PublishedNet) else tensors

    return max(map(renamed, unwrapped(weights)), key=lambda found: len(wanted.items() & _shapes(found).items()))


def misfit(net: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """How the names and shapes of a state dict differ from those of a net; empty if they agree."""
    shapes, wanted = _shapes(weights), _shapes(net.state_dict())
    reshaped = [
        f'{key} {shapes[key]} instead of {wanted[key]}'
        for key in shapes.keys() & wanted.keys()
        if shapes[key] != wanted[key]
    ]
    differences = {
        'missing': wanted.keys() - shapes.keys(),
        'unexpected': shapes.keys() - wanted.keys(),
        'of another shape': reshaped,
    }
    return '; '.join(f'{len(keys)} {what}: {some(keys)}' for what, keys in differences.items() if keys)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}


def _by_spandrel(where: str, file: Path, weights: Mapping[str, Any]) -> nn.Module:
    check_values(file, weights)
    if find_spec('spandrel') is None:
        raise UserError(
            f"{where}: the network of these weights is not known ({', '.join(ARCHS)}; install the extra 'spandrel' "
            'for more)'
        )
    for state_dict in unwrapped(weights):
        # a plain number may be a mark of the network (RealCUGAN's "pro"), or a trainer's note
        for part in (state_dict, {name: value for name, value in state_dict.items() if isinstance(value, Tensor)}):
            with suppress(UserError):
                return archs.Spandrel.from_weights(part)
    raise UserError(f'{where}: the network of these weights is not known here ({", ".join(ARCHS)}) or to spandrel')


@contextmanager
def _not_larger_than(weights: Mapping[str, Any]) -> Iterator[None]:
    """A context in which a network that is far larger than its weights fails to be built, before it takes memory."""
    tensors, values = (
        10 * len(weights) + 100,
        10 * sum(math.prod(getattr(value, 'shape', ())) for value in weights.values()) + 1_000_000,
    )

    def registered(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal tensors, values
        tensors, values = tensors - 1, values - (0 if parameter is None else parameter.numel())
        if tensors < 0 or values < 0:
            raise ValueError('it is far larger than its weights')

    hook = register_module_parameter_registration_hook(registered)
    try:
        yield
    finally:
        hook.remove()
