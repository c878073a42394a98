"""IAFMNet super-resolution as a plugin of BasicSR.

After `import iafmsr`, BasicSR is cured as it is imported where a current stack breaks it (`iafmsr.compat`), and its
registries know the archs, datasets, losses and models here (`iafmsr.plugin`). What does not need BasicSR goes without
the seconds that its import takes: nothing is imported before it is asked for.
"""
from importlib import import_module
from importlib.util import find_spec
from typing import Any

if find_spec('basicsr') is None:
    raise ImportError('BasicSR 1.4.2 is not installed; run: bash scripts/install.sh')

from iafmsr import plugin  # noqa: E402

plugin.install()

__all__ = ['archs', 'compat', 'data', 'losses', 'models']
__version__ = '0.1.0'


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f'iafmsr.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
