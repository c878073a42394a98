"""IAFMNet super-resolution: a library, and a plugin for BasicSR.

>>> import iafmsr
>>> net = iafmsr.load('IAFMNet_x4')  # torch.nn.Module: (B, 3, H, W) in [0, 1] -> (B, 3, 4H, 4W)
>>> net.scale
4

:func:`upscale` and :func:`density` accept and return arrays, tensors and Pillow images. :class:`IAFMNet`,
:class:`InformationEntropyLoss` and the parts in :mod:`iafmsr.layers` are plain PyTorch.

`import iafmsr` is quick: each part is imported when it is first used. None of the above needs BasicSR. If BasicSR is
imported too, before or after, it is patched to work with current versions of its dependencies, and the archs, datasets,
losses and models of this package are added to its registries. `iafmsr.register()` imports it.
"""

import sys
from importlib import import_module
from typing import Any

from iafmsr import bridge
from iafmsr.bridge.hook import on_import

_MODULES = {name: name for name in ('archs', 'bridge', 'data', 'layers', 'models')} | {'spandrel': 'tools.spandrel'}
_NAMES = {
    'IAFMNet': 'archs.iafmnet_arch',
    'InformationEntropyLoss': 'models.losses',
    'density': 'tools.api',
    'load': 'tools.api',
    'upscale': 'tools.api',
}
__all__ = [*_MODULES, *_NAMES, 'register']
__version__ = '0.2.0'

_LOSSES = ('FFTLoss', 'InformationEntropyLoss', 'UncertaintyLoss')
# what cannot be imported without BasicSR registers itself
_REGISTERED_BY_IMPORT = (
    'archs.edsr_idm_arch',
    'data.on_the_fly',
    'data.paired_dataset',
    'models.losses.borrowed',
    'models.metrics',
    'models.real_model',
)


def register() -> None:
    """Import BasicSR, patch it, and add the classes of this package to its registries, once per process.

    Raises:
        UserError: BasicSR is not installed.
    """
    import_module('iafmsr.bridge.basicsr_api')


def _prepare() -> None:
    import_module('iafmsr.bridge.importing').prepare_import()


def _wire() -> None:
    """Put into BasicSR what is here; :mod:`iafmsr.bridge.basicsr_api` calls it when all of its names are there."""
    from iafmsr.bridge import basicsr_api, compat
    from iafmsr.options.files import OptionLoader, parse_value

    compat.read_options_by(OptionLoader, parse_value)
    archs = import_module('iafmsr.archs')
    for name in set(archs.__all__) - {'EDSRIDM'}:
        basicsr_api.ARCH_REGISTRY.register(getattr(archs, name))
    for name in _LOSSES:
        basicsr_api.LOSS_REGISTRY.register(getattr(import_module('iafmsr.models.losses'), name))
    for name in _REGISTERED_BY_IMPORT:
        import_module(f'iafmsr.{name}')
    import_module('iafmsr.models.base_model').install()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f'iafmsr.{_MODULES[name]}')
    if name in _NAMES:
        return getattr(import_module(f'iafmsr.{_NAMES[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


bridge.wire = _wire
if sys.modules.get('basicsr'):
    register()
else:
    on_import(_prepare, register)
