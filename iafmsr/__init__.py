"""IAFMNet super-resolution as a plugin of BasicSR.

Importing this package cures BasicSR where a current stack breaks it (`iafmsr.compat`) and makes the archs, datasets,
losses and models here known to BasicSR's registries.
"""
from importlib.util import find_spec

if find_spec('basicsr') is None:
    raise ImportError('BasicSR 1.4.2 is not installed; run: bash scripts/install.sh')

from iafmsr import compat

compat.apply()

from iafmsr import archs, data, losses, models  # noqa: E402

__all__ = ['archs', 'compat', 'data', 'losses', 'models']
__version__ = '0.1.0'
