"""Names of files: how they are printed, and which of them are pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from iafmsr.errors import UserError

__all__ = ['PictureFile', 'check_there', 'from_here', 'is_picture_name', 'list_pictures', 'nested', 'printable']

_SUFFIXES = {
    '.png',
    '.jpg',
    '.jpeg',
    '.jpe',
    '.jfif',
    '.bmp',
    '.dib',
    '.tif',
    '.tiff',
    '.webp',
    '.avif',
    '.jp2',
    '.gif',
    '.tga',
    '.ppm',
    '.pgm',
    '.pbm',
    '.pnm',
}


@dataclass(frozen=True)
class PictureFile:
    """A picture file. ``size_bytes`` tells it from another file of the same name."""

    path: Path
    size_bytes: int

    @property
    def key(self) -> str:
        """The file's stem in letters that an LMDB key of BasicSR may have: ASCII, no dot, no space, no slash.

        Percent-encoding, the dot included. It can be undone, so different stems have different keys.
        """
        return quote(os.fsencode(self.path.stem), safe='').replace('.', '%2E')


def is_picture_name(path: Path) -> bool:
    """Whether a file in a folder is meant to be a picture, by its suffix; hidden ones are not."""
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith('.')


def list_pictures(folders: Sequence[Path]) -> list[PictureFile]:
    """The pictures that lie in the folders themselves, by name; other files and hidden ones are passed over.

    Args:
        folders: One or more folders. Together they may hold each stem once.

    Raises:
        UserError: A folder is missing or holds no picture, or two pictures differ in their suffix or folder alone.
    """
    found: dict[str, PictureFile] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f'no such folder: {printable(folder)}')
        paths = sorted(path for path in folder.iterdir() if is_picture_name(path))
        if not paths:
            inside = '; give its sub-folders one by one' if any(path.is_dir() for path in folder.iterdir()) else ''
            raise UserError(f'no pictures in {printable(folder)} (looked for {" ".join(sorted(_SUFFIXES))}){inside}')
        for path in paths:
            # a broken link has no size: whoever reads it says so
            size = path.stat().st_size if path.exists() else 0
            other = found.setdefault(path.stem, PictureFile(path, size))
            if other.path != path:
                raise UserError(
                    f'two pictures have the same name: {printable(other.path)} and {printable(path)}; rename '
                    'one, since the results are named after the pictures'
                )
    return list(found.values())


def nested(folders: Sequence[Path]) -> list[Path]:
    """The folders, and those in them at any depth, that hold pictures; a folder without any stays itself."""
    found = []
    for folder in folders:
        inside = [Path(path) for path, _, names in os.walk(folder) if any(is_picture_name(Path(n)) for n in names)]
        found += sorted(inside) or [folder]
    return found


def check_there(paths: Sequence[Path]) -> None:
    """Raises:
    UserError: one of the paths is no file and no folder.
    """
    for path in paths:
        if not path.exists():
            raise UserError(f'{printable(path)}: no such file')


def from_here(path: Path) -> str:
    """The path as it can be typed where the user stands: without the working directory, if it lies below that."""
    here = Path.cwd()
    return printable(path.relative_to(here) if path.is_relative_to(here) else path)


def printable(path: Path) -> str:
    """The path as text that any terminal takes, also where the file's name is not valid UTF-8."""
    return str(path).encode('utf-8', 'backslashreplace').decode('utf-8')
