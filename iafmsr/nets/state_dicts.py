"""The state dict within a file of weights, under the names and keys of any trainer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iafmsr.errors import UserError
from iafmsr.nets.reading import STATE_KEYS

__all__ = ['KEYS', 'check_values', 'named', 'some', 'unwrapped', 'weights_in']

# where trainers put a generator, in the order of preference: averaged weights are up to 2 dB better
KEYS = (
    'params_ema',
    'params-ema',
    'ema',
    'model_ema',
    'g_ema',
    'params',
    'state_dict',
    'model_state_dict',
    'model',
    'net',
    'generator',
    'net_g',
    'netG',
    'G',
    'weights',
    'checkpoint',
)
# wrappers leave a prefix (DistributedDataParallel, torch.compile), and so do the owners of a net (Lightning's modules)
_WRAPPERS = re.compile(r'^(module\.|_orig_mod\.)+')
_OWNERS = ('model.', 'net.', 'generator.', 'net_g.', 'netG.')


def weights_in(
    file: str | Path, content: Mapping[Any, Any], key: str | None = None, preferred: Iterable[str] = KEYS
) -> dict[str, Any]:
    """The state dict that a file holds under a key, or else under the first of the preferred ones, by itself, or as
    the only one.

    Args:
        file: for messages.
        content: of :func:`~iafmsr.nets.reading.load_checkpoint`.
        key: None for the first that is there.
        preferred: keys, the best first.

    Raises:
        UserError: there is none, or it is a training state, whose weights lie elsewhere.
    """
    if STATE_KEYS <= content.keys():
        raise UserError(_of_state(Path(file), content))
    if key is not None and not _holds_tensors(content.get(key)):
        raise UserError(f'{file}: no {key} in it, only {some(content)}')
    keys = (key,) if key is not None else (*preferred, *KEYS)
    for inner in (content[name] for name in keys if isinstance(content.get(name), dict)):
        if _holds_tensors(inner):
            return named(inner)
        if any(isinstance(value, dict) for value in inner.values()):
            return weights_in(file, inner, None, preferred)
    if _holds_tensors(content):
        return named(content)
    others = [inner for inner in content.values() if _holds_tensors(inner)]
    if len(others) != 1:
        raise UserError(f'{file}: no weights in it' + (f', only {some(content)}' if content else ''))
    return named(others[0])


def named(weights: Mapping[Any, Any]) -> dict[str, Any]:
    """Tensors and plain numbers by their names, without the prefixes of wrappers."""
    return {
        _WRAPPERS.sub('', str(name)): value
        for name, value in weights.items()
        if isinstance(value, (Tensor, bool, int, float))
    }


def unwrapped(weights: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The state dict as it is, and the parts of it that belong to one owner, under their names there."""
    yield dict(weights)
    for owner in _OWNERS:
        inner = {name.removeprefix(owner): value for name, value in weights.items() if name.startswith(owner)}
        if inner:
            yield from unwrapped(named(inner))


def check_values(file: str | Path, weights: Mapping[str, Any]) -> None:
    """Check that a state dict holds plain tensors of finite numbers.

    Raises:
        UserError: the first that is sparse, quantised, complex, without data, or not finite.
    """
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            continue
        kind = next(
            (
                kind
                for kind, is_of_it in (
                    ('sparse', value.layout != torch.strided),
                    ('quantised', value.is_quantized),
                    ('complex', value.is_complex()),
                    ('without data', value.device.type != 'cpu'),
                )
                if is_of_it
            ),
            None,
        )
        if kind:
            raise UserError(f'{file}: {name} is {kind}; weights of a network must be plain tensors')
        if value.is_floating_point() and not _is_finite(value):
            raise UserError(f'{file}: {name} holds values that are not finite (NaN or infinite)')


def some(names: Iterable[Any], limit: int = 4) -> str:
    """The first of some names in alphabetical order, for a message."""
    names = sorted(map(str, names))
    return ', '.join(names[:limit]) + (', ...' if len(names) > limit else '')


def _is_finite(value: Tensor) -> bool:
    stored = value.untyped_storage().nbytes() // value.element_size()
    if value.numel() > stored:  # an expanded view: what is stored is looked at, not what it expands to
        value = torch.as_strided(value, (stored,), (1,), 0)
    return bool((value.float() if value.element_size() == 1 else value).isfinite().all())


def _holds_tensors(content: Any) -> bool:
    return isinstance(content, dict) and any(isinstance(value, Tensor) for value in content.values())


def _of_state(file: Path, content: Mapping[Any, Any]) -> str:
    weights = file.absolute().parent.parent / 'models' / f'net_g_{content["iter"]}.pth'
    return f'{file}: a training state; ' + (
        f'its weights are {weights}'
        if weights.is_file()
        else 'weights are files net_g_*.pth, in the folder models next to its own folder'
    )
