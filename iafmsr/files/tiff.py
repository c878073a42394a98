"""TIFF, read by its tags: a file can hold more kinds of pixels than any one decoder takes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from tifffile import TiffFile, TiffPage

from iafmsr.files.metadata import (
    EXIF_FOLDERS,
    EXIF_TEXTS,
    ORIENTATION,
    RESOLUTION_UNIT,
    RESOLUTIONS,
    encoded_exif,
    resolution,
)
from iafmsr.files.picture import Picture, UnreadableError, turned

__all__ = ['is_deep', 'is_tiff', 'read_tiff', 'tiff_size']

_SIGNATURES = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB = 0, 1, 2
_SAMPLE_FORMATS = {2: 'signed integers', 3: 'floating-point numbers', 5: 'complex integers', 6: 'complex numbers'}
_ASSOCIATED, _UNASSOCIATED = 1, 2  # alpha: the colours are multiplied by it, or not
_SEPARATED, _SEPARATE_PLANES, _REDUCED = 5, 2, 1
_BY_TIFFFILE = (1, 8, 32946, 34925)  # compressions that it undoes by itself: none, Deflate twice, LZMA
_SUBFILE, _BITS, _PROFILE, _DNG_VERSION = 254, 258, 34675, 50706

logging.getLogger('tifffile').setLevel(logging.CRITICAL)  # what is wrong with a file is said in a line of ours


def is_tiff(file: BinaryIO) -> bool:
    """Whether a file begins as a TIFF does; it is at its beginning then."""
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    return start in _SIGNATURES


def is_deep(file: BinaryIO) -> bool:
    """Whether the pixels have 16 bits a channel."""
    with TiffFile(file) as found:
        return found.pages.first.bitspersample == 16


def tiff_size(file: BinaryIO) -> tuple[int, int]:
    """``(height, width)`` as shown.

    Raises:
        UnreadableError: the pixels are of a kind that is not read, or the file is cut short.
    """
    with TiffFile(file) as found:
        page = found.pages.first
        _check(page, file)
        height, width = page.imagelength, page.imagewidth
        return (width, height) if _tag(page, ORIENTATION, 1) in (5, 6, 7, 8) else (height, width)


def read_tiff(
    file: BinaryIO, by_pillow: Callable[[BinaryIO], np.ndarray], by_opencv: Callable[[BinaryIO, str], np.ndarray]
) -> Picture:
    """Read the first picture of a TIFF.

    tifffile decodes gray and RGB of 8 and 16 bits in any layout. What is compressed as it cannot undo it by itself, and
    what is neither gray nor RGB, goes to the others where they are right: 8 bits to Pillow, 16 bits to OpenCV.

    Args:
        file: at any place.
        by_pillow: gives a TIFF's pixels, turned.
        by_opencv: likewise; its second argument is the message of a refusal.

    Raises:
        UnreadableError: the pixels are of a kind that is not read; the message names it.
    """
    with TiffFile(file) as found:
        page = found.pages.first
        _check(page, file)
        colour, alpha = _decoded(page, file, by_pillow, by_opencv)
        profile = b'' if page.photometric == _SEPARATED else bytes(_tag(page, _PROFILE, b''))  # CMYK has become RGB
        return Picture(
            colour,
            alpha,
            profile,
            _exif(file),
            resolution([_rational(_tag(page, tag, None)) for tag in RESOLUTIONS], int(_tag(page, RESOLUTION_UNIT, 2))),
            len(found.pages),
        )


def _decoded(
    page: TiffPage,
    file: BinaryIO,
    by_pillow: Callable[[BinaryIO], np.ndarray],
    by_opencv: Callable[[BinaryIO, str], np.ndarray],
) -> tuple[np.ndarray, np.ndarray | None]:
    plain, deep = page.photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB), page.bitspersample == 16
    if plain and page.bitspersample >= 8 and page.compression in _BY_TIFFFILE:
        separate, _, height, width, together = page.shaped
        pixels = page.asarray(maxworkers=1).reshape(page.shaped)[:, 0]
        pixels = pixels[0] if separate == 1 else np.moveaxis(pixels.reshape(separate, height, width), 0, 2)
        return _planes(turned(pixels, _tag(page, ORIENTATION, 1)), page)
    file.seek(0)
    if not deep:
        pixels = by_pillow(file)
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        count = 1 if pixels.shape[2] < 3 else 3
        return pixels[..., :count], pixels[..., count:] if pixels.shape[2] > count else None
    kind = f'TIFF of 16 bits, {_name(page.photometric)}, compressed by {_name(page.compression)}'
    # OpenCV mixes up planes, forgets gray's alpha, and knows no other colours
    if not plain or page.samplesperpixel == 2 or page.planarconfig == _SEPARATE_PLANES and page.samplesperpixel > 1:
        raise UnreadableError(f'{kind}: this form is not supported; save it as RGB or gray without compression')
    pixels = by_opencv(file, f'{kind}: cannot be decoded')
    return _planes(pixels.reshape(*pixels.shape[:2], -1), page)


def _planes(pixels: np.ndarray, page: TiffPage) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour and alpha of (H, W, samples), what else there is left out."""
    peak, count = np.iinfo(pixels.dtype).max, 3 if page.photometric == _RGB else 1
    colour = peak - pixels[..., :count] if page.photometric == _MIN_IS_WHITE else pixels[..., :count]
    # a fourth sample that nothing is said of is alpha to Pillow and OpenCV, too
    extra = page.extrasamples or (_UNASSOCIATED,) * (pixels.shape[2] - count)
    found = next(((kind, count + i) for i, kind in enumerate(extra) if kind in (_ASSOCIATED, _UNASSOCIATED)), None)
    if found is None:
        return colour, None
    kind, place = found
    alpha = pixels[..., place : place + 1]
    if kind == _ASSOCIATED:
        visible = np.maximum(alpha, 1).astype(np.float64)
        colour = np.rint(np.minimum(colour / visible, 1) * peak).astype(pixels.dtype)
    return colour, alpha


def _check(page: TiffPage, file: BinaryIO) -> None:
    """Whether the pixels are all there, and of a kind that is read."""
    if _DNG_VERSION in page.tags or _tag(page, _SUBFILE, 0) & _REDUCED:
        raise UnreadableError('a raw photograph of a camera; convert it with a program for such files')
    bits = _tag(page, _BITS, 1)
    bits = set(bits) if isinstance(bits, tuple) else {bits}
    if page.sampleformat in _SAMPLE_FORMATS:
        raise UnreadableError(f'TIFF of {max(bits)}-bit {_SAMPLE_FORMATS[page.sampleformat]}, not of 8 or 16 bits')
    if len(bits) > 1 or not bits <= {1, 2, 4, 8, 16}:
        raise UnreadableError(f'TIFF of {" and ".join(map(str, sorted(bits)))} bits, not of 8 or 16 bits')
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or min(page.databytecounts) == 0 or max(ends) > file.seek(0, os.SEEK_END):
        raise UnreadableError('the file is incomplete')


def _tag(page: TiffPage, code: int, default: Any) -> Any:
    tag = page.tags.get(code)
    return default if tag is None else tag.value


def _rational(value: tuple[int, int] | None) -> float | None:
    return value and value[0] / max(value[1], 1)


def _name(value: Any) -> str:
    return getattr(value, 'name', str(value))


def _exif(file: BinaryIO) -> bytes:
    """What a TIFF says of the photograph, as EXIF of its own."""
    with suppress(Exception):  # of a broken one nothing is kept
        file.seek(0)
        exif = Image.Exif()
        exif.load_from_fp(file)
        for tag in set(exif) - {*EXIF_TEXTS, *EXIF_FOLDERS}:  # what the file says of its pixels
            del exif[tag]
        return encoded_exif(exif) if exif else b''
    return b''
