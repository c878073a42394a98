"""Packages of the user's, whose archs, losses, datasets and models BasicSR's registries know once they are imported."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from iafmsr.errors import UserError

__all__ = ['import_packages', 'is_imported']

_imported: set[str] = set()


def import_packages(names: Iterable[str], folders: Iterable[Path], where: str) -> None:
    """Import packages that a user names, from Python's path or from folders.

    Args:
        names: of modules, ``mynet`` or ``mynet.archs``.
        folders: looked in last, so that nothing in them hides a library; they stay on Python's path, which data workers
            inherit.
        where: what the message of an error begins with.

    Raises:
        UserError: there is no such package. What it raises itself is the user's to see.
    """
    for folder in map(str, (folder.absolute() for folder in folders)):
        if folder not in sys.path:
            sys.path.append(folder)
    for name in names:
        top = name.partition('.')[0]
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):
                raise
            raise UserError(f'{where}: no package {name} on the path of Python or in {sys.path[-1]}') from None
        _imported.add(top)


def is_imported(obj: type) -> bool:
    """Whether a class comes from a package that the user named."""
    return obj.__module__.partition('.')[0] in _imported
