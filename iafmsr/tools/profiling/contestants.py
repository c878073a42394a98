"""What is compared: stock BasicSR, and our training with one switch after the other."""

from __future__ import annotations

import copy
import inspect
from typing import Any, NamedTuple

from iafmsr.bridge.basicsr_api import ARCH_REGISTRY
from iafmsr.errors import UserError
from iafmsr.models.compilation import MODES

__all__ = ['Contestant', 'contestants_of']

Options = dict[str, Any]

_OURS = ('ie_opt', 'fft_opt', 'losses', 'autocast', 'channels_last', 'compile', 'max_bad_steps')
_SWITCHES = ('autocast', 'channels_last', 'compile')


class Contestant(NamedTuple):
    """Options of a training, and whether its process keeps the memory that it frees, as ours does."""

    options: Options
    keeps_memory: bool


def contestants_of(opt: Options, on_gpu: bool) -> dict[str, Contestant]:
    """Stock BasicSR on the network of an option file in its plain form (float32, dense), then our model class without
    and with each switch, one upon the other, and the file as it is; each by its name, stock BasicSR first.

    Stock BasicSR is its SRModel, which knows no entropy loss and Adam alone, with PairedImageDataset; where there is HR
    alone, which it cannot train on, our dataset under its loader.

    Args:
        opt: of :func:`~iafmsr.training.options.options_of_training`.
        on_gpu: whether it runs on a GPU.
    """
    opt = copy.deepcopy(opt) | {
        'num_gpu': int(on_gpu),
        'dist': False,
        'rank': 0,
        'world_size': 1,
        'is_train': True,
        'path': {},
    }
    sparse = 'sparse_backend' in inspect.signature(ARCH_REGISTRY.get(opt['network_g']['type'])).parameters
    plain = _changed(
        opt,
        model_type='IAFMNetModel',
        train__=dict.fromkeys(_SWITCHES),
        datasets__train__={'in_memory': None},
        network_g__={'sparse_backend': 'dense'} if sparse else {},
    )
    stock = _stock(opt, plain)
    found = {
        'BasicSR': Contestant(stock, False),
        'plain': Contestant(plain, False),
        '+ memory kept': Contestant(plain, True),
    }
    for name, changes in _steps(stock, sparse, on_gpu).items():
        if changes:
            plain = _changed(plain, **changes)
            found[f'+ {name}'] = Contestant(plain, True)
    return _with(found, Contestant(_changed(opt, model_type='IAFMNetModel'), True))


def _stock(opt: Options, plain: Options) -> Options:
    """The plain form as stock BasicSR takes it."""
    optimizer = opt['train']['optim_g']
    if optimizer['type'] != 'Adam':  # the only one that it knows
        optimizer = {'type': 'Adam', 'lr': optimizer['lr']}
    stock = _changed(plain, model_type='SRModel', train__=dict.fromkeys(_OURS) | {'optim_g': optimizer})
    data = stock['datasets']['train']
    if data['type'] == 'RealESRGANDataset':
        raise UserError('the degradations of Real-ESRGAN are not profiled: BasicSR makes them within its models')
    if data['type'] == 'PairedSRDataset':
        data['type'] = 'PairedImageDataset'
    return stock


def _steps(stock: Options, sparse: bool, on_gpu: bool) -> dict[str, Options]:
    """The switches by name, each with what it changes; nothing where the training has no such switch."""
    kept = stock['datasets']['train']['type'] in ('PairedImageDataset', 'OnTheFlyDataset')
    memory = 'gpu' if on_gpu else 'host'
    return {
        'channels_last': {'train__': {'channels_last': True}},
        'sparse_backend: auto': {'network_g__': {'sparse_backend': 'auto'}} if sparse else {},
        'autocast: fp16': {'train__': {'autocast': 'fp16'}} if on_gpu else {},
        'autocast: bf16': {'train__': {'autocast': 'bf16'}},
        f'in_memory: {memory}': {'datasets__train__': {'in_memory': memory}} if kept else {},
        f'compile: {MODES[0]}': {'train__': {'compile': MODES[0]}},
        f'compile: {MODES[1]}': {'train__': {'compile': MODES[1]}} if on_gpu else {},
    }


def _with(found: dict[str, Contestant], own: Contestant) -> dict[str, Contestant]:
    """The file as it is among the others, as one of them where it differs in nothing."""
    same = next(
        (name for name, other in found.items() if other.keeps_memory and _same(own.options, other.options)), None
    )
    if same is None:
        found['the file as it is'] = own
    else:
        found = {name + (', the file as it is' if name == same else ''): other for name, other in found.items()}
    return found


def _changed(opt: Options, **changes: Any) -> Options:
    """A copy with other values; ``section__={...}`` changes keys of a section, a value of None takes a key out."""
    opt = copy.deepcopy(opt)
    for path, value in changes.items():
        *sections, last = path.split('__')
        section = opt
        for name in sections:
            section = section[name]
        if last:
            section[last] = value
            continue
        for key, new in value.items():
            section.pop(key, None)
            if new is not None:
                section[key] = new
    return opt


def _same(one: Any, other: Any) -> bool:
    """Whether two options or sections differ in nothing but what is left at its default."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_same(one.get(key), other.get(key)) for key in one.keys() | other.keys())
    return one == other or (one in (None, False, 'auto') and other in (None, False, 'auto'))
