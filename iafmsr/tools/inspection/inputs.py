"""The pictures of a command line, and where their true ones are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from iafmsr.errors import UserError
from iafmsr.files.names import check_there, list_pictures, printable
from iafmsr.files.picture import UnreadableError
from iafmsr.files.reading import read_picture
from iafmsr.ops.resize import imresize, mod_crop

__all__ = ['Source', 'find_sources']


@dataclass(frozen=True)
class Source:
    """A picture to inspect.

    Attributes:
        name: of its figures.
        lr: file of the picture to enlarge, or None where it is made from ``hr``.
        hr: file of the true picture, or None.
    """

    name: str
    lr: Path | None
    hr: Path | None

    def load(self, scale: int) -> tuple[Tensor, Tensor | None]:
        """LR and, where there is one, HR, uint8 ``(3, h, w)``, RGB.

        Raises:
            UserError: one of them is no whole picture, or too small to be made smaller.
        """
        if self.lr:
            return _read(self.lr), _read(self.hr) if self.hr else None
        assert self.hr is not None, 'a source has one of them at least'
        hr = _read(self.hr)
        if min(hr.shape[1:]) < scale:
            raise UserError(
                f'{printable(self.hr)}: {hr.shape[2]}x{hr.shape[1]} is too small to be made {scale} times smaller'
            )
        hr = mod_crop(hr, scale)
        return imresize(hr, Fraction(1, scale)), hr


def find_sources(images: Sequence[Path], hr: Path | None, downscale: bool, scale: int) -> list[Source]:
    """The pictures of a command.

    Args:
        images: files and folders.
        hr: the true picture of the only one, or a folder of true ones of the same name; that of ``NAMEx4`` (4 being
            the scale) may be called ``NAME``.
        downscale: the pictures are the true ones themselves.
        scale: of the net.

    Raises:
        UserError: a file or folder is not there, two pictures have one name, or one has no true picture.
    """
    check_there(images)
    paths = []
    for path in images:
        paths += [picture.path for picture in list_pictures([path])] if path.is_dir() else [path]
    names = [path.stem for path in paths]
    for i, path in enumerate(paths):
        if path.stem in names[:i]:
            other = paths[names.index(path.stem)]
            raise UserError(f'{printable(path)}: its figure would replace that of {printable(other)}; rename one')
    if downscale:
        return [Source(path.stem, None, path) for path in paths]
    if hr is None:
        return [Source(path.stem, path, None) for path in paths]
    if not hr.is_dir():
        if len(paths) > 1:
            raise UserError(f'--hr {printable(hr)}: {len(paths)} pictures need a folder of true pictures')
        return [Source(paths[0].stem, paths[0], hr)]
    true = {picture.path.stem: picture.path for picture in list_pictures([hr])}
    found = []
    for path in paths:
        match = true.get(path.stem) or true.get(path.stem.removesuffix(f'x{scale}'))
        if match is None:
            raise UserError(f'--hr {printable(hr)}: there is no picture {path.stem} in it')
        found.append(Source(path.stem, path, match))
    return found


def _read(path: Path) -> Tensor:
    try:
        return read_picture(path)
    except UnreadableError as error:
        raise UserError(f'{printable(path)}: {error}') from None
