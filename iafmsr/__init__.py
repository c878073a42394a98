"""IAFMNet super-resolution as a plugin of BasicSR.

`iafmsr.register()` cures BasicSR where a current stack breaks it, and puts the archs, datasets, losses and models of
this package into its registries. `import iafmsr` calls it when BasicSR has been imported already. Otherwise it takes a
moment only, and the modules of this package that need BasicSR register at their own import. So nothing that works
without BasicSR waits for the seconds that its import takes, or needs it to be installed.
"""

import sys
from importlib import import_module
from typing import Any

__all__ = ['archs', 'bridge', 'data', 'losses', 'models', 'register']
__version__ = '0.1.0'


def register() -> None:
    """Import BasicSR, cured, and register what is here, once per process.

    Raises:
        UserError: BasicSR is not installed.
    """
    import_module('iafmsr.bridge.basicsr_api')


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f'iafmsr.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


if sys.modules.get('basicsr'):
    register()
