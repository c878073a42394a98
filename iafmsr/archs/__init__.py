"""Architectures, known to BasicSR's registry (`iafmsr.bridge.basicsr_api`); all but EDSRIDM work without BasicSR."""

from importlib import import_module
from typing import Any

_MODULES = {
    'EDSRIDM': 'edsr_idm_arch',
    'IAFMNet': 'iafmnet_arch',
    'IMDN': 'imdn_arch',
    'RDESA': 'rdesa_arch',
    'SAFMN': 'safmn_arch',
    'SMFANet': 'smfanet_arch',
    'Spandrel': 'spandrel_arch',
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """A module is imported when its arch is asked for: EDSRIDM's takes the seconds of BasicSR's import."""
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)
