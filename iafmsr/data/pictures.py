"""Picture files of any common kind, as 8-bit RGB."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from iafmsr.errors import UserError

__all__ = ['Picture', 'UnreadableError', 'list_pictures', 'picture_size', 'printable', 'read_picture']

_SUFFIXES = {'.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm'}
_CONVERTIBLE = {'1', 'L', 'P', 'RGB', 'CMYK', 'YCbCr'}
_WITH_ALPHA = {'LA': 'L', 'RGBA': 'RGB'}
_SIXTEEN_BIT = {'I;16', 'I;16L', 'I;16B', 'I;16N'}
_EXIF_ORIENTATION, _TRANSPOSED = 0x0112, {5, 6, 7, 8}


class UnreadableError(Exception):
    """A file that is no whole picture, or one that has no meaning as 8-bit RGB; the message says which."""


@dataclass(frozen=True)
class Picture:
    """A picture file. ``size_bytes`` tells it from another file of the same name."""

    path: Path
    size_bytes: int

    @property
    def key(self) -> str:
        """The file's stem in letters that an LMDB key of BasicSR may have: ASCII, no dot, no space, no slash.

        Percent-encoding, the dot included. It can be undone, so different stems have different keys.
        """
        return quote(os.fsencode(self.path.stem), safe='').replace('.', '%2E')


def list_pictures(folders: Sequence[Path]) -> list[Picture]:
    """The pictures that lie in the folders themselves, by name; other files and hidden ones are passed over.

    Args:
        folders: One or more folders. Together they may hold each stem once.

    Raises:
        UserError: A folder is missing or holds no picture, or two pictures differ in their suffix or folder alone.
    """
    found: dict[str, Picture] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f'no such folder: {printable(folder)}')
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith('.'))
        if not paths:
            raise UserError(f"no pictures in {printable(folder)} (looked for {' '.join(sorted(_SUFFIXES))})")
        for path in paths:
            other = found.setdefault(path.stem, Picture(path, path.stat().st_size))
            if other.path != path:
                raise UserError(f'two pictures of one name: {printable(other.path)} and {printable(path)}; rename one')
    return list(found.values())


def picture_size(path: Path) -> tuple[int, int]:
    """``(height, width)`` as shown, from the header alone.

    Raises:
        UnreadableError: The file has no header of a picture.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION) in _TRANSPOSED
    except Exception as error:  # decoders raise whatever they like on a broken file
        raise UnreadableError(_reason(path, error)) from error
    return (width, height) if turned else (height, width)


def read_picture(path: Path) -> Tensor:
    """Read a picture as it is shown (EXIF orientation applied).

    Gray, 1-bit, palette, YCbCr and CMYK become RGB (CMYK without colour management), of 16-bit channels the high byte
    is kept, an alpha channel that is opaque everywhere is dropped. Of several frames the first one counts.

    Returns:
        uint8 ``(3, H, W)``, RGB.

    Raises:
        UnreadableError: The file is empty, truncated or no picture; it has transparent pixels, whose colour means
            nothing; or its pixels are floats or 32-bit integers.
    """
    try:
        with Image.open(path) as image:
            image.load()
            rgb = np.array(_to_rgb(ImageOps.exif_transpose(image)))
    except UnreadableError:
        raise
    except Exception as error:  # decoders raise whatever they like on a broken file
        raise UnreadableError(_reason(path, error)) from error
    return torch.from_numpy(rgb).permute(2, 0, 1)


def printable(path: Path) -> str:
    """The path as text that any terminal takes, also where the file's name is not valid UTF-8."""
    return str(path).encode('utf-8', 'backslashreplace').decode('utf-8')


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert('RGB')
    if image.mode == 'P' and 'transparency' in image.info:
        image = image.convert('RGBA')
    if image.mode in _WITH_ALPHA:
        if image.getchannel('A').getextrema()[0] < 255:
            raise UnreadableError('has transparent pixels')
        image = image.convert(_WITH_ALPHA[image.mode])
    if image.mode not in _CONVERTIBLE:
        raise UnreadableError(f'pixels of kind {image.mode}, not 8 or 16 bits a channel')
    return image.convert('RGB')


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return 'empty file' if path.stat().st_size == 0 else 'not a picture'
    return f'cannot be decoded ({error})'
