"""IAFMNet super-resolution as a plugin of BasicSR.

`iafmsr.register()` cures BasicSR where a current stack breaks it, and puts the archs, datasets, losses and models of
this package into its registries. `import iafmsr` calls it when BasicSR has been imported already. Otherwise it takes a
moment only, and the first module of this package that needs BasicSR brings all of it about. So nothing that works
without BasicSR waits for the seconds that its import takes, or needs it to be installed.
"""

import sys
from importlib import import_module
from typing import Any

from iafmsr import bridge

__all__ = ['archs', 'bridge', 'data', 'models', 'register']
__version__ = '0.1.0'

_ARCHS = ('IAFMNet', 'IMDN', 'RDESA', 'SAFMN', 'SMFANet', 'Spandrel')
# what cannot be imported without BasicSR, or is of no use without it, registers itself
_REGISTERED_BY_IMPORT = ('archs.edsr_idm_arch', 'data.on_the_fly', 'data.paired_dataset', 'models', 'models.losses')


def register() -> None:
    """Import BasicSR, cured, and register what is here, once per process.

    Raises:
        UserError: BasicSR is not installed.
    """
    import_module('iafmsr.bridge.basicsr_api')


def _wire() -> None:
    """Put into BasicSR what is here; :mod:`iafmsr.bridge.basicsr_api` calls it when all of its names are there."""
    from iafmsr.bridge import basicsr_api, compat
    from iafmsr.options.files import OptionLoader, parse_value

    compat.read_options_by(OptionLoader, parse_value)
    for name in _ARCHS:
        basicsr_api.ARCH_REGISTRY.register(getattr(import_module('iafmsr.archs'), name))
    for name in _REGISTERED_BY_IMPORT:
        import_module(f'iafmsr.{name}')


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f'iafmsr.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


bridge.wire = _wire
if sys.modules.get('basicsr'):
    register()
