"""How BasicSR is cured and comes to know what is here: around its own import, whenever and if ever that takes place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# of the archs, EDSRIDM registers itself: as a subclass of one of BasicSR's it cannot be imported without it
_ARCHS = ('IAFMNet', 'IMDN', 'RDESA', 'SAFMN', 'SMFANet', 'Spandrel')
_REGISTERED_BY_IMPORT = ('archs.edsr_idm_arch', 'data.on_the_fly', 'data.paired_dataset', 'losses', 'models')


def install() -> None:
    """Sees to it, once per process, that the imports of BasicSR and torchvision work on a current stack."""
    if any(isinstance(finder, _Hook) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Hook())
    if 'basicsr' in sys.modules:  # only where nothing needs a cure to be imported
        _after_basicsr()


class _Hook(MetaPathFinder):
    """Lets the usual finders find a module, and wraps the loading of the two."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
                  ) -> ModuleSpec | None:
        if name not in _AROUND:
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in others if spec is not None), None)
        if spec is not None:
            spec.loader.exec_module = _wrapped(spec.loader.exec_module, *_AROUND[name])
        return spec


def _wrapped(load: Callable[[ModuleType], Any], before: Callable[[], None], after: Callable[[], None]
             ) -> Callable[[ModuleType], None]:
    def exec_module(module: ModuleType) -> None:
        before()
        load(module)
        after()
    return exec_module


def _before_torchvision() -> None:
    from iafmsr import compat
    compat.declare_torchvision_operators()


def _before_basicsr() -> None:
    from iafmsr import compat
    compat.provide_functional_tensor()
    compat.provide_distutils()


def _after_basicsr() -> None:
    from basicsr.utils.registry import ARCH_REGISTRY

    from iafmsr import archs, compat
    compat.apply()
    for name in _ARCHS:
        ARCH_REGISTRY.register(getattr(archs, name))
    for name in _REGISTERED_BY_IMPORT:
        import_module(f'iafmsr.{name}')


_AROUND = {'torchvision': (_before_torchvision, lambda: None), 'basicsr': (_before_basicsr, _after_basicsr)}
