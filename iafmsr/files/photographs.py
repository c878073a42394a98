"""The photographs that come with scikit-image."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from iafmsr.errors import UserError

__all__ = ['photograph']


def photograph(name: str) -> Path:
    """The file of a photograph, found without importing scikit-image, which takes seconds.

    Raises:
        UserError: scikit-image is not installed.
    """
    package = find_spec('skimage')
    if package is None or package.origin is None:
        raise UserError('scikit-image, which contains the photographs, is not installed; run: bash scripts/install.sh')
    return Path(package.origin).parent / 'data' / name
