"""Architectures, known to BasicSR's registry (`iafmsr.register`); all but EDSRIDM work without BasicSR."""

from importlib import import_module
from typing import Any

from torch import nn

from iafmsr.errors import UserError

_MODULES = {
    'BSRN': 'bsrn_arch',
    'EDSRIDM': 'edsr_idm_arch',
    'ELAN': 'elan_arch',
    'ESRT': 'esrt_arch',
    'ETDS': 'etds_arch',
    'IAFMNet': 'iafmnet_arch',
    'IMDN': 'imdn_arch',
    'PAN': 'pan_arch',
    'RDESA': 'rdesa_arch',
    'RLFN': 'rlfn_arch',
    'SAFMN': 'safmn_arch',
    'ShuffleMixer': 'shufflemixer_arch',
    'SMFANet': 'smfanet_arch',
    'Spandrel': 'spandrel_arch',
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """A module is imported when its arch is asked for: EDSRIDM's takes the seconds of BasicSR's import."""
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)


def find(name: str) -> type[nn.Module]:
    """The arch of a name, one of this package's or one of BasicSR's own, whose import takes seconds.

    Raises:
        UserError: there is none, or BasicSR is not installed.
    """
    if name in _MODULES:
        return __getattr__(name)
    from iafmsr.bridge.basicsr_api import ARCH_REGISTRY

    known = dict(iter(ARCH_REGISTRY))
    found = known.get(name, known.get(f'{name}_basicsr'))  # as ARCH_REGISTRY.get finds it, which prints what it tries
    if found is None:
        raise UserError('no network of this name is registered')
    return found
