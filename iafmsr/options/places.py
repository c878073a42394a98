"""Where things lie: the option files and weights that come with the package, and what runs read and write."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ['OPTIONS', 'ROOT', 'WEIGHTS', 'option_file', 'root_here', 'root_of_run']

_PACKAGE = Path(os.path.abspath(__file__)).parent.parent
_SHARED = _PACKAGE / 'shared'  # in an installed package alone: setup.py puts it there
_INSTALLED = _SHARED.is_dir()
if not _INSTALLED:
    _SHARED = _PACKAGE.parent

OPTIONS, WEIGHTS = _SHARED / 'options', _SHARED / 'weights'
# the root of a checkout, or the working directory: experiments/, results/ and tb_logger/ lie there, and relative paths
# in option files count from there
ROOT = Path.cwd() if _INSTALLED else _PACKAGE.parent


def option_file(name: str | Path) -> Path:
    """The option file of a path, or the one that comes with the package under that name, with or without the folder.

    Where there is neither, the path as it is.
    """
    found = (path for path in (Path(name), OPTIONS / name, _SHARED / name) if path.is_file())
    return next(found, Path(name))


def root_here() -> Path:
    """Where a command without an option file reads and writes: :data:`ROOT` for a user who stands in the checkout, and
    the working directory for all others."""
    return ROOT if _in_root(Path.cwd()) else Path.cwd()


def root_of_run(file: Path, given: str | None = None) -> Path:
    """Where a run reads and writes: as :data:`ROOT`, but a user of another project than the checkout stays in it.

    Args:
        file: option file of the run.
        given: ``path.root`` of the option file; it counts from the working directory.
    """
    if given is not None:
        return Path(given).expanduser().absolute()
    return ROOT if _in_root(file) else root_here()


def _in_root(path: Path) -> bool:
    return path.resolve().is_relative_to(ROOT.resolve())
