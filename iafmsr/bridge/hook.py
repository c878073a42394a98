"""BasicSR cured and wired whoever imports it: ``import iafmsr`` before it is enough."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

__all__ = ['on_import']


def on_import(before: Callable[[], None], after: Callable[[], None]) -> None:
    """Have functions called before and after BasicSR's first import; nothing is imported now."""
    sys.meta_path.insert(0, _Finder(before, after))


class _Finder(MetaPathFinder):
    """Finds BasicSR as the other finders do, and wraps its execution."""

    def __init__(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        self.before, self.after, self.asked = before, after, False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != 'basicsr' or self.asked:
            return None
        self.asked = True  # for the other finders
        try:
            spec = find_spec(fullname)
        finally:
            self.asked = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_cured(module: ModuleType) -> None:
                self.before()
                execute(module)
                self.after()

            spec.loader.exec_module = execute_cured  # type: ignore[method-assign]
        return spec
