"""Benchmark sets: folders of pictures with their standard LR."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path

from torch import Tensor

from iafmsr.errors import UserError
from iafmsr.files.names import list_pictures, printable
from iafmsr.files.picture import UnreadableError
from iafmsr.files.reading import picture_size, read_picture
from iafmsr.ops.resize import imresize, mod_crop

__all__ = ['BenchmarkSet', 'Item', 'data_folder', 'find_sets']

_CUSTOMARY = ('Set5', 'Set14', 'BSD100', 'B100', 'Urban100', 'Manga109')
SSIM_WINDOW, NIQE_WINDOW = 11, 96  # pixels in height and width that a value is of


@dataclass(frozen=True)
class Item:
    """One picture of a set at one scale; ``lr`` is None where LR is to be made from HR."""

    name: str
    scale: int
    hr: Path
    lr: Path | None

    @cached_property
    def key(self) -> str:
        """A digest of the two files."""
        digest = hashlib.sha256(str(self.scale).encode())
        for path in filter(None, (self.hr, self.lr)):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of HR as it is measured: a multiple of the scale."""
        height, width = (side // self.scale * self.scale for side in _size(self.hr))
        return height, width

    def load(self) -> tuple[Tensor, Tensor]:
        """LR and HR, uint8 (3, h, w) and (3, s h, s w), RGB.

        Raises:
            UserError: one of them is no whole picture.
        """
        hr = mod_crop(_read(self.hr), self.scale)
        return _read(self.lr) if self.lr else imresize(hr, Fraction(1, self.scale)), hr


@dataclass(frozen=True)
class BenchmarkSet:
    """A folder ``NAME/HR/*.png``, or pictures in ``NAME`` itself; standard LR as ``NAME/LR_bicubic/X4/*x4.png``."""

    name: str
    folder: Path

    def items(self, scale: int) -> list[Item]:
        """The set's pictures. Their headers are looked at, so that a fault ends a run before it has begun.

        Raises:
            UserError: a picture that cannot be read or is too small, one without LR beside others that have theirs, or
                LR of another size than HR's; a mean over the others would be another figure.
        """
        pictures = list_pictures([self.folder / 'HR' if (self.folder / 'HR').is_dir() else self.folder])
        lr_folder = self.folder / 'LR_bicubic' / f'X{scale}'
        lrs = {picture.path.stem: picture.path for picture in list_pictures([lr_folder])} if lr_folder.is_dir() else {}
        items = []
        for picture in pictures:
            stem = picture.path.stem
            lr = lrs.get(f'{stem}x{scale}') or lrs.get(stem)
            if lrs and lr is None:
                raise UserError(f'{printable(lr_folder)}: no {stem}x{scale}.png, the LR of {printable(picture.path)}')
            items.append(Item(stem, scale, picture.path, lr))
            _check_size(items[-1])
        return items


def data_folder(given: str | None, root: Path) -> Path:
    """The folder of benchmark sets: the given one, else ``$IAFMSR_DATA/benchmarks``, else ``datasets/benchmarks``.

    Raises:
        UserError: there is none.
    """
    tried = (
        [Path(given)]
        if given
        else [
            *([Path(os.environ['IAFMSR_DATA'], 'benchmarks')] if 'IAFMSR_DATA' in os.environ else []),
            root / 'datasets/benchmarks',
        ]
    )
    for folder in tried:
        if folder.is_dir():
            return folder
    raise UserError(f'no folder of benchmark sets: {", ".join(map(printable, tried))}; give one with --data')


def find_sets(folder: Path, names: list[str] | None) -> list[BenchmarkSet]:
    """The named sets of a folder, or all: first the customary ones in their order, then others by name. A folder that
    has no others in it, or ``HR``, is a set itself.

    Raises:
        UserError: a set that is not there.
    """
    found = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.')]
    if names is None and (not found or 'HR' in found):
        return [BenchmarkSet(folder.resolve().name, folder)]
    if names is None:
        names = [name for name in _CUSTOMARY if name in found] + sorted(set(found) - set(_CUSTOMARY))
    for name in names:
        if name not in found:
            raise UserError(f'{printable(folder)}: no set {name}, only {", ".join(sorted(found)) or "nothing"}')
    return [BenchmarkSet(name, folder / name) for name in names]


def _check_size(item: Item) -> None:
    height, width = _size(item.hr)
    # BasicSR leaves out a border of `scale` pixels and compares windows of 11
    if min(item.size) < 2 * item.scale + SSIM_WINDOW:
        raise UserError(f'{printable(item.hr)}: {width}x{height} is too small to be measured at x{item.scale}')
    if item.lr and _size(item.lr) != (height // item.scale, width // item.scale):
        lr_height, lr_width = _size(item.lr)
        raise UserError(
            f'{printable(item.lr)}: {lr_width}x{lr_height}, but the LR of {width}x{height} at '
            f'x{item.scale} has {width // item.scale}x{height // item.scale}'
        )


@cache
def _size(path: Path) -> tuple[int, int]:
    try:
        return picture_size(path)
    except UnreadableError as error:
        raise UserError(f'{printable(path)}: {error}') from None


def _read(path: Path) -> Tensor:
    try:
        return read_picture(path)
    except UnreadableError as error:
        raise UserError(f'{printable(path)}: {error}') from None
